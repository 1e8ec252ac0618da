import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_videos import numbered_frame, read_number, write_video
from PIL import Image
from rlemasklib import RLEMask

from jobs.render import main, resized_mask
from jobs.views.overlay import object_colour
from jobs.views.truth import TruthFolder
from jobs.views.video_file import VideoFile
from schemas import masks as masks_schema

SIZE = (96, 128)
FILLED = ["--no-labels", "--opacity", "1"]


def square(frame: int) -> np.ndarray:
    """The object of the tests: in the lower part of the picture, moving right."""
    mask = np.zeros(SIZE, np.uint8)
    mask[52:90, 8 + frame : 48 + frame] = 1
    return mask


def write_masks(out, frames: dict[int, dict[int, np.ndarray]], video_id: str = "a") -> None:
    rows = []
    for object_id in sorted({key for objects in frames.values() for key in objects}):
        for frame, objects in sorted(frames.items()):
            if object_id not in objects:
                continue
            rle = RLEMask.from_array(objects[object_id])
            record, box = rle.to_dict(), [int(value) for value in rle.bbox()]
            rows.append(
                {
                    "video_id": video_id, "object_id": object_id, "frame_index": frame, "height": record["size"][0],
                    "width": record["size"][1], "rle_counts": record["counts"], "area": int(rle.area()),
                    "bbox_x": box[0], "bbox_y": box[1], "bbox_w": box[2], "bbox_h": box[3], "score": 1.0,
                    "is_prompt": False,
                }
            )  # fmt: skip
    (out / "masks").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=masks_schema.SCHEMA), out / "masks" / f"{video_id}.parquet")


def decoded(path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.to_ndarray(format="rgb24"), float(frame.pts * stream.time_base))
            for frame in container.decode(stream)
        ]
    return [frame for frame, _ in frames], [time - frames[0][1] for _, time in frames]


def is_drawn(frame: np.ndarray, number: int, object_id: int = 1) -> bool:
    """Whether the object, drawn with --opacity 1, is where `square(number)` is."""
    inside = frame[58:84, 16 + number : 40 + number].astype(int).mean((0, 1))
    return float(np.abs(inside - object_colour(object_id)).max()) < 30


@pytest.fixture
def annotated(tmp_path):
    """A video of 30 frames with masks on 5 to 24, at varying times."""
    ticks = np.cumsum([1, 2] * 15).tolist()
    video = write_video(tmp_path / "a b.mp4", 30, size=SIZE, times=ticks)
    write_masks(tmp_path / "out", {frame: {1: square(frame)} for frame in range(5, 25)})
    return video, tmp_path / "out", (np.array(ticks) - ticks[0]) / 30


def test_overlay_has_every_frame_at_its_time_and_masks_on_their_own(annotated, tmp_path, capsys):
    video, out, seconds = annotated
    target = tmp_path / "new folder" / "overlay.mp4"
    assert main(["--masks", str(out), "--video", str(video), "--to", str(target), *FILLED]) == 0
    frames, times = decoded(target)
    assert [read_number(frame) for frame in frames] == list(range(30))
    assert times == pytest.approx(seconds, abs=0.002)
    assert [is_drawn(frame, number) for number, frame in enumerate(frames)] == [5 <= n < 25 for n in range(30)]
    assert "30 frames drawn, 20 with masks" in capsys.readouterr().out
    assert [path.name for path in target.parent.iterdir()] == ["overlay.mp4"], "no temporary file is left"


def test_range_width_and_stride(annotated, tmp_path):
    video, out, _ = annotated
    target = tmp_path / "o.mp4"
    arguments = ["--masks", str(out), "--video", str(video), "--video-id", "a", "--to", str(target), "--no-labels"]
    assert main([*arguments, "--start", "4", "--end", "21", "--stride", "4", "--width", "101"]) == 0
    frames, _ = decoded(target)
    assert [read_number(frame[:76, :101]) for frame in frames] == [4, 8, 12, 16, 20]
    assert frames[0].shape == (76, 102, 3), "even sizes, for players"


def test_contact_sheet_alone_and_with_truth(annotated, tmp_path):
    video, out, _ = annotated
    truth = tmp_path / "truth"
    truth.mkdir()
    for frame in range(30):
        Image.fromarray(np.roll(square(frame), -4, 0) * 255).save(truth / f"{frame:05d}.png")
    sheet = tmp_path / "s.png"
    common = ["--masks", str(out), "--video", str(video), "--contact-sheet", str(sheet), "--no-labels"]
    assert main([*common, "--every", "10", "--columns", "3"]) == 0
    plain = np.asarray(Image.open(sheet))
    assert plain.shape[1] < 600 and main([*common, "--every", "10", "--columns", "3", "--truth", str(truth)]) == 0
    both = np.asarray(Image.open(sheet))
    changed = (plain != both).any(2)
    assert plain.shape == both.shape and changed.sum() > 100 and (both[changed] == 255).all()
    assert main(common) == 0
    assert np.asarray(Image.open(sheet)).shape[0] > plain.shape[0], "about twenty pictures by default"


def test_truth_of_some_images_is_drawn_on_these(tmp_path, capsys):
    """As in YouTube-VOS: images 00000, 00005, ... of which some have true masks."""
    images, truth, sheet = tmp_path / "a", tmp_path / "truth", tmp_path / "s.png"
    images.mkdir()
    truth.mkdir()
    for number in range(8):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images / f"{5 * number:05d}.png")
    for number in (1, 2):
        Image.fromarray(square(0) * 255).save(truth / f"{5 * number:05d}.png")
    write_masks(tmp_path / "out", {frame: {1: square(frame)} for frame in range(8)})
    command = ["--masks", str(tmp_path / "out"), "--video", str(images), "--contact-sheet", str(sheet), "--no-labels"]
    command += ["--opacity", "0", "--columns", "8", "--every", "1"]
    pictures = []
    for extra in ([], ["--truth", str(truth)]):
        assert main([*command, *extra]) == 0
        pictures.append(np.asarray(Image.open(sheet)).astype(int))
    changed = np.flatnonzero((pictures[0] != pictures[1]).any((0, 2)))
    eighth = pictures[0].shape[1] / 8
    assert set(changed // eighth) == {1, 2} and "told by the numbers" not in capsys.readouterr().err
    for mask in truth.iterdir():
        mask.rename(mask.with_stem(f"mask_{int(mask.stem) // 5}"))
    assert main([*command, *extra]) == 0
    assert "has no mask that is named like one of the video's images" in capsys.readouterr().err


def test_a_sheet_too_large_is_refused(annotated, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jobs.render.MOST_CELLS", 10)
    video, out, _ = annotated
    sheet = str(tmp_path / "s.png")
    assert main(["--masks", str(out), "--video", str(video), "--contact-sheet", sheet, "--every", "2"]) == 2
    assert "15 pictures" in capsys.readouterr().err
    assert main(["--masks", str(out), "--video", str(video), "--contact-sheet", sheet, "--every", "3"]) == 0


def test_a_folder_of_images(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(8):
        Image.fromarray(numbered_frame(number, *SIZE)).save(folder / f"{number:05d}.png")
    write_masks(tmp_path / "out", {frame: {1: square(frame), 12: square(frame + 44)} for frame in range(8)})
    target = tmp_path / "o.mp4"
    assert main(["--masks", str(tmp_path / "out"), "--video", str(folder), "--to", str(target), *FILLED]) == 0
    frames, times = decoded(target)
    assert [read_number(frame) for frame in frames] == list(range(8)) and times[1] == pytest.approx(0.04, abs=0.001)
    assert all(is_drawn(frame, number) and is_drawn(frame, number + 44, 12) for number, frame in enumerate(frames))


def test_a_damaged_video_is_rendered_as_far_as_it_goes(annotated, tmp_path, capsys):
    _, out, _ = annotated
    video = write_video(
        tmp_path / "c.mp4", 30, size=SIZE, container_options={"movflags": "+faststart"}, options={"g": "5"}
    )
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    target = tmp_path / "o.mp4"
    assert main(["--masks", str(out), "--video", str(video), "--to", str(target)]) == 0
    frames, _ = decoded(target)
    assert 10 < len(frames) < 30 and "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--video": "gone.mp4"}, "gone.mp4"),
        ({"--masks": "nothing"}, "nothing"),
        ({"--video-id": "b"}, "'b'"),
        ({"--truth": "."}, "no true masks"),
        ({"--start": "500"}, "only 30 frames"),
        ({"--video": "other.mp4"}, "another video"),
    ],
)
def test_mistakes_are_told_in_one_line(annotated, tmp_path, capsys, monkeypatch, change, words):
    video, out, _ = annotated
    write_video(tmp_path / "other.mp4", 10, size=(64, 64))
    monkeypatch.chdir(tmp_path)
    arguments = {"--masks": str(out), "--video": str(video), "--video-id": "a", "--to": "o.mp4"} | change
    assert main([text for pair in arguments.items() for text in pair]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and error.startswith("error: ") and "\n" not in error
    assert not (tmp_path / "o.mp4").exists(), "nothing half-made is left"


def test_the_source_is_never_written_over(annotated, tmp_path, capsys):
    video, out, _ = annotated
    before, images = video.read_bytes(), tmp_path / "images"
    images.mkdir()
    (tmp_path / "link.mp4").symlink_to(video)
    for source, made in ((video, video), (video, tmp_path / "link.mp4"), (images, images / "sheet.png")):
        option = "--contact-sheet" if made.suffix == ".png" else "--to"
        assert main(["--masks", str(out), "--video", str(source), option, str(made)]) == 2
        assert "would change the source" in capsys.readouterr().err
    assert video.read_bytes() == before and not list(images.iterdir())


@pytest.mark.parametrize(
    "extra", [[], ["--to", "o.mp4", "--start", "5", "--end", "5"], ["--to", "o.mp4", "--opacity", "2"]]
)
def test_arguments_without_sense(extra, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--masks", "out", "--video", "a.mp4", *extra])
    assert caught.value.code == 2 and "--" in capsys.readouterr().err


def test_truth_of_palette_grey_and_void(tmp_path):
    folder = tmp_path / "Annotations" / "480p" / "v"
    folder.mkdir(parents=True)
    labels = np.zeros((4, 5), np.uint8)
    labels[0], labels[1], labels[2] = 3, 200, 255
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.ravel().tolist())
    palette.save(folder / "00000.png")
    Image.fromarray(np.where(labels > 100, 255, 0).astype(np.uint8)).save(folder / "00001.png")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / "00002.png")
    for truth in (TruthFolder(str(tmp_path), "v", 9), TruthFolder(str(folder), "w", 9)):
        assert len(truth) == 3 and set(truth.masks(0, (4, 5))) == {3, 200} and truth.masks(0, (4, 5))[3].sum() == 5
        assert set(truth.masks(1, (4, 5))) == {1} and truth.masks(1, (4, 5))[1].sum() == 10
        assert truth.masks(2, (4, 5)) == {} == truth.masks(8, (4, 5))
        with pytest.raises(ValueError, match="00000.png"):
            truth.masks(0, (6, 5))


def test_masks_are_resized_by_coverage():
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :3] = 1
    assert resized_mask(mask, (4, 4)).tolist() == [[True, True, False, False]] * 4
    assert resized_mask(mask, (8, 8)).dtype == bool


def test_times_that_do_not_increase_are_moved_on(tmp_path):
    with VideoFile(tmp_path / "a.mp4", (16, 16)) as video:
        for seconds in (0, 0.5, 0.5, 0.2, 1):
            video.add(np.zeros((16, 16, 3), np.uint8), seconds)
        with pytest.raises(ValueError, match="got"):
            video.add(np.zeros((16, 17, 3), np.uint8), 2)
    assert len(decoded(tmp_path / "a.mp4")[0]) == 5


def tone(path, codec: str, frames: int = 90):
    """A video of 3 s with a tone that begins after 1 s."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=30)
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        audio = output.add_stream(codec, rate=48000, layout="mono")
        made = np.where(np.arange(48000 * 3) < 48000, 0, 8000 * np.sin(np.arange(48000 * 3) * 0.06))
        resampler = av.AudioResampler(audio.codec_context.format.name, "mono", 48000)
        for number in range(frames):
            output.mux(video.encode(av.VideoFrame.from_ndarray(numbered_frame(number, *SIZE), format="rgb24")))
        for start in range(0, len(made), 1024):
            part = made[start : start + 1024].astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.rate, frame.pts = 48000, start
            for resampled in resampler.resample(frame):
                output.mux(audio.encode(resampled))
        output.mux(video.encode())
        output.mux(audio.encode())
    return path


def heard(path) -> tuple[str, float, float]:
    """(codec, when the tone begins, when the sound ends) in seconds of the file's own time."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        parts = [
            (float(f.pts * stream.time_base), f.to_ndarray().astype(float), f.rate) for f in container.decode(stream)
        ]
    loud = [(at, np.abs(samples).max()) for at, samples, _ in parts]
    level = 0.5 * max(volume for _, volume in loud)
    return stream.codec_context.name, next(at for at, volume in loud if volume > level), parts[-1][0]


@pytest.mark.parametrize(("codec", "suffix"), [("aac", "mp4"), ("pcm_s16le", "mkv")])
def test_the_sound_is_kept_in_time(tmp_path, codec: str, suffix: str):
    video = tone(tmp_path / f"a.{suffix}", codec)
    write_masks(tmp_path / "out", {frame: {1: square(frame % 40)} for frame in range(5)})
    common = ["--masks", str(tmp_path / "out"), "--video", str(video), "--to", str(tmp_path / "b.mp4")]
    assert main(common) == 0
    name, begins, ends = heard(tmp_path / "b.mp4")
    assert name == "aac" and abs(begins - 1.0) < 0.08 and abs(ends - 3.0) < 0.1
    assert main([*common, "--start", "15", "--end", "60"]) == 0
    _, begins, ends = heard(tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:  # the tone begins half a second after the first picture
        first = next(container.decode(container.streams.video[0])).time
    assert abs(begins - first - 0.5) < 0.08 and abs(ends - first - 1.5) < 0.1
    assert main([*common, "--no-audio"]) == 0
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert not container.streams.audio


def test_broken_sound_costs_no_picture(tmp_path, capsys):
    video = tone(tmp_path / "a.mkv", "pcm_s16le")
    write_masks(tmp_path / "out", {0: {1: square(0)}})
    data = bytearray(video.read_bytes())
    video.write_bytes(data[: len(data) // 2])  # breaks off in the middle
    assert main(["--masks", str(tmp_path / "out"), "--video", str(video), "--to", str(tmp_path / "b.mp4")]) == 0
    assert "frames drawn" in capsys.readouterr().out
