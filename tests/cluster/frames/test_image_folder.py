import numpy as np
import pytest
from made_videos import is_upright, numbered_frame, read_number
from PIL import Image

from cluster.frames.image_folder import natural_key
from cluster.frames.video import FrameReader, VideoError, VideoInfo, probe_video


def save(path, number: int, size=(96, 128), **options) -> None:
    Image.fromarray(numbered_frame(number, *size)).save(path, **options)


def folder(tmp_path, count: int = 6, suffix: str = ".png"):
    for number in range(count):
        save(tmp_path / f"{number:05d}{suffix}", number)
    return tmp_path


def read(path, *args, **kwargs) -> tuple[list[int], FrameReader]:
    reader = FrameReader(path, probe_video(path), *args, **kwargs)
    frames = dict(reader)
    assert all(frame.shape == (*reader.size, 3) and frame.dtype == np.uint8 for frame in frames.values())
    assert all(frame.flags.c_contiguous and frame.flags.writeable and is_upright(frame) for frame in frames.values())
    return [read_number(frame) for frame in frames.values()], reader


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".webp"])
def test_a_numbered_folder(tmp_path, suffix):
    path = folder(tmp_path, 6, suffix)
    codec = suffix[1:].lower()
    assert probe_video(path) == VideoInfo("images", 96, 128, frames_declared=6, codec=codec, pixel_format="RGB")
    seen, reader = read(path)
    assert seen == list(range(6)) and reader.decoded == 6 and reader.error is None
    assert reader.image_names == [f"{number:05d}{suffix}" for number in range(6)]
    assert read(path, (48, 64))[0] == list(range(6))


def test_names_count_as_numbers_and_other_files_do_not_count(tmp_path):
    for number in range(12):
        save(tmp_path / f"frame{number}.png", number)
    (tmp_path / ".frame0.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sub.png").mkdir()
    assert read(tmp_path)[0] == list(range(12))


def test_natural_order():
    names = ["b2", "a10", "a9", "a09", "10", "9", "a", "1b", "1"]
    assert sorted(names, key=natural_key) == ["1", "1b", "9", "10", "a", "a09", "a9", "a10", "b2"]


def test_ranges_read_only_what_they_need(tmp_path):
    path = folder(tmp_path, 10)
    for broken in (0, 1, 8):
        (path / f"{broken:05d}.png").write_bytes(b"broken")
    save(path / "00000.png", 0)  # the first image gives the size
    seen, reader = read(path, start=2, end=8, stride=2)
    assert seen == [2, 4, 6] and reader.error is None and reader.decoded == 8
    with pytest.raises(VideoError, match="only 10 frames decode"):
        list(FrameReader(path, probe_video(path), start=10))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    turns = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    for number in range(3):
        image = Image.fromarray(numbered_frame(number))
        if orientation > 1:  # Pillow turns counter-clockwise: what the camera stored
            image = image.transpose(Image.Transpose[turns[orientation]])
        exif = image.getexif()
        exif[274] = orientation
        image.save(tmp_path / f"{number}.jpg", exif=exif, quality=95)
    info = probe_video(tmp_path)
    assert (info.height, info.width) == (96, 128)
    assert read(tmp_path)[0] == [0, 1, 2]
    assert read(tmp_path, (60, 80))[0] == [0, 1, 2]


def test_rare_kinds_of_pixels(tmp_path):
    picture = numbered_frame(9)
    grey = Image.fromarray(picture).convert("L")
    deep = (np.asarray(grey).astype(np.uint16) * 257).astype(np.uint16)
    kinds = {
        "palette": Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE),
        "alpha": Image.fromarray(picture).convert("RGBA"),
        "grey": grey,
        "grey-alpha": grey.convert("LA"),
        "deep": Image.fromarray(deep),
    }
    for name, image in kinds.items():
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png")
        [(_, frame)] = FrameReader(tmp_path / name, probe_video(tmp_path / name))
        assert read_number(frame) == 9, name
        reference = np.asarray(grey)[:, :, None] if name in ("grey", "grey-alpha", "deep") else picture
        assert np.abs(frame.astype(int) - reference).mean() < 6, name


def test_binary_masks_as_frames_and_a_cmyk_jpeg(tmp_path):
    Image.fromarray(numbered_frame(3)).convert("CMYK").save(tmp_path / "1.jpg")
    assert read(tmp_path)[0] == [3]


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "other size"])
def test_a_broken_image_ends_the_video_and_is_named(tmp_path, kind):
    path = folder(tmp_path, 6)
    victim = path / "00003.png"
    if kind == "cut":
        victim.write_bytes(victim.read_bytes()[:300])
    elif kind == "text":
        victim.write_text("no image")
    elif kind == "empty":
        victim.write_bytes(b"")
    else:
        save(victim, 3, size=(80, 128))
    seen, reader = read(path)
    assert seen == [0, 1, 2] and reader.decoded == 3
    assert reader.error.startswith("frame 3: ") and "00003.png" in reader.error
    if kind == "other size":
        assert "128x80" in reader.error and "128x96" in reader.error


def test_the_first_image_broken(tmp_path):
    path = folder(tmp_path, 3)
    (path / "00000.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match="00000.png") as caught:
        probe_video(path)
    assert caught.value.error_class == "decode"
    save(path / "00000.png", 0)
    info = probe_video(path)
    (path / "00000.png").write_bytes((path / "00000.png").read_bytes()[:200])
    with pytest.raises(VideoError, match="not even one frame") as caught:
        list(FrameReader(path, info))
    assert caught.value.error_class == "decode"


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(VideoError, match="without images") as caught:
        probe_video(tmp_path)
    assert caught.value.error_class == "zero-frames"


def test_a_folder_that_vanishes(tmp_path):
    with pytest.raises(VideoError) as caught:
        probe_video(tmp_path / "gone")
    assert caught.value.error_class == "missing"


def test_reading_is_lazy(tmp_path):
    path = folder(tmp_path, 5)
    frames = iter(FrameReader(path, probe_video(path)))
    next(frames)
    for image in path.iterdir():
        image.unlink()
    assert list(frames) == []


def test_an_image_too_large_is_refused(tmp_path):
    save(tmp_path / "1.png", 1)
    data = bytearray((tmp_path / "1.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "1.png").write_bytes(data)
    with pytest.raises(VideoError, match="1.png"):
        list(FrameReader(tmp_path, probe_video(tmp_path)))
