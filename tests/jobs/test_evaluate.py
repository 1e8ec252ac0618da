"""`jobs.evaluate` on outputs written here: scores by hand, every layout of truth, and what cannot be compared."""

import json
import subprocess
import sys
from pathlib import Path

import made_output
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from made_evaluation import SIZE, block, scores, write_images, write_output, write_truth
from made_export import Clip, write_clips
from made_output import MadeVideo
from made_videos import real_clips
from PIL import Image

from jobs import evaluate
from jobs.export import main as export
from schemas import reader
from schemas.convert.names import safe_name
from stcn_core.prompts import read_label_png


def refused(tmp_path, capsys, *extra):
    assert evaluate.main(["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), *extra]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "Traceback" not in text
    return text


def test_scores_by_hand_over_two_objects_and_videos(tmp_path, capsys):
    a, b, half = block(0, 0), block(16, 8), block(4, 0)
    write_output(tmp_path / "out", "one", {n: {1: half if n in (0, 2) else a, 5: b} for n in range(6)})
    write_truth(tmp_path / "truth/one", [a + 5 * b] * 6)
    write_output(tmp_path / "out", "two", {n: {1: a} for n in range(4)})
    write_truth(tmp_path / "truth/two", [b] * 4)
    report = scores(tmp_path)
    # J of `half` is 32 / 96; frames 1 to 4 count, one of them is half.
    one, two = report["videos"]
    assert [row["object_id"] for row in one["objects"]] == [1, 5]
    assert one["objects"][0]["J"] == pytest.approx((3 + 1 / 3) / 4) and one["objects"][0]["frames"] == 4
    assert one["objects"][0]["J_recall"] == 0.75 and one["objects"][1]["J&F"] == 1
    assert two["J"] == 0 and two["objects"][0]["F"] < 0.5
    overall = report["overall"]
    assert overall["J"] == pytest.approx(((3 + 1 / 3) / 4 + 1 + 0) / 3) and overall["n_objects"] == 3
    assert overall["J&F"] == pytest.approx((overall["J"] + overall["F"]) / 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["video", "object", "frames", "J&F", "J", "F"]
    assert lines[-1].split()[:4] == ["mean", "over", "objects", "3"] and len({len(line) for line in lines}) == 1
    assert scores(tmp_path, "--video-id", "two")["overall"]["n_objects"] == 1
    every = scores(tmp_path, "--all-frames")
    assert every["videos"][0]["objects"][0]["J"] == pytest.approx((4 + 2 / 3) / 6)


@pytest.mark.parametrize("place", ["a", "a/masks", "Annotations/480p/a", "Annotations/a"])
@pytest.mark.parametrize("mode", ["P", "L", "LA"])
def test_every_layout_and_kind_of_truth(tmp_path, place, mode):
    write_output(tmp_path / "out", "a", {n: {1: block(n, 0)} for n in range(4)})
    write_truth(tmp_path / "truth" / place, [block(n, 0) for n in range(4)], mode=mode)
    assert scores(tmp_path)["overall"]["J&F"] == 1


def test_void_is_background(tmp_path):
    write_output(tmp_path / "out", "a", {n: {1: block(0, 0)} for n in range(4)})
    write_truth(tmp_path / "truth/a", [block(0, 0) + 255 * block(16, 8)] * 4)
    report = scores(tmp_path)
    assert report["overall"]["J"] == 1 and report["overall"]["n_objects"] == 1


def test_frames_without_a_mask_are_empty(tmp_path):
    write_output(tmp_path / "out", "a", {0: {1: block(0, 0)}, 3: {1: block(0, 0)}})
    write_truth(tmp_path / "truth/a", [block(0, 0), 0 * block(0, 0), block(0, 0), block(0, 0)])
    (row,) = scores(tmp_path)["videos"][0]["objects"]
    assert (row["J"], row["F"]) == (0.5, 0.5)
    write_output(tmp_path / "out", "a", {}, frames_decoded=4, frames_annotated=4)
    assert scores(tmp_path)["overall"]["J"] == 0.5


def test_frame_of_a_mask_by_order_or_number(tmp_path, capsys):
    write_output(tmp_path / "out", "a", {n: {1: block(n, 0)} for n in range(9)})
    # One mask per frame: order, whatever the names. Fewer: the number is the frame.
    write_truth(tmp_path / "truth/a", [block(n, 0) for n in range(9)], names=[f"x{10 * n}" for n in range(9)])
    report = scores(tmp_path)
    assert report["overall"]["J"] == 1 and report["videos"][0]["frames_told_by"] == "order"
    assert "has a mask of frame 80, but a has 9 frames" in refused(tmp_path, capsys, "--truth-frames", "number")
    for file in (tmp_path / "truth/a").iterdir():
        file.unlink()
    write_truth(tmp_path / "truth/a", [block(n, 0) for n in (0, 3, 6, 8)], names=["frame_0", "frame_3", "frame_6", "8"])
    report = scores(tmp_path)
    assert report["overall"]["J"] == 1 and report["videos"][0]["frames_told_by"] == "number"
    assert scores(tmp_path, "--truth-frames", "order")["overall"]["J"] < 1


def write_folder(tmp_path, video_id, names, **video):
    """An output's video that is a folder of images, with a mask that moves from frame to frame."""
    folder = write_images(tmp_path / "images" / video_id, names) | video
    write_output(tmp_path / "out", video_id, {n: {1: block(n, 0)} for n in range(len(names))}, **folder)


@pytest.mark.parametrize("name", ["{}", "frame_{}_of_12", "a:{} of 12"])
def test_a_mask_is_of_the_image_of_its_name_as_export_names_it(tmp_path, name):
    names = [name.format(number) for number in range(7, 19)]
    write_images(tmp_path / "images", names)
    moving = {n: {1: block(n, 0)} for n in range(12)}
    write_clips(tmp_path / "out", [Clip("a", range(12), moving, {1: None}, 12, None, tmp_path / "images")])
    command = ["--masks", str(tmp_path / "out"), "--format", "davis", "--to", str(tmp_path / "truth")]
    assert export(command) == 0
    assert scores(tmp_path)["videos"][0]["frames_told_by"] == "order"
    for number in (0, 3, 4, 8):
        (tmp_path / f"truth/Annotations/a/{safe_name(names[number])}.png").unlink()
    (video,) = scores(tmp_path)["videos"]
    assert video["frames_told_by"] == "image name" and video["J"] == 1 and video["true_masks"] == 8
    assert video["frames_doubt"] is None


def test_as_many_masks_as_frames_decoded_may_be_of_other_images(tmp_path):
    write_folder(tmp_path, "a", [f"{n:05d}" for n in range(12)], frames_decoded=8, frames_annotated=8)
    write_truth(tmp_path / "truth/a", [block(n, 0) for n in range(4, 12)], names=[f"{n:05d}" for n in range(4, 12)])
    (video,) = scores(tmp_path)["videos"]
    assert video["frames_told_by"] == "image name" and video["J"] == 1 and video["true_masks_of_other_frames"] == 4


def test_a_video_whose_truth_cannot_be_placed_does_not_stop_the_others(tmp_path, capsys):
    write_folder(tmp_path, "lost", [f"{n}_of_12" for n in range(12)])
    (tmp_path / "images/lost").rename(tmp_path / "moved")
    write_folder(tmp_path, "mixed", [f"{5 * n:05d}" for n in range(6)])
    write_folder(tmp_path, "good", [f"{5 * n:05d}" for n in range(6)])
    write_truth(tmp_path / "truth/lost", [block(n, 0) for n in range(3)], names=[f"{n}_of_12" for n in range(3)])
    write_truth(tmp_path / "truth/mixed", [block(n, 0) for n in range(2)], names=["00005", "00001"])
    write_truth(tmp_path / "truth/good", [block(n, 0) for n in range(4)], names=[f"{5 * n:05d}" for n in range(4)])
    report = scores(tmp_path)
    assert report["overall"]["J"] == 1 and [video["video_id"] for video in report["videos"]] == ["good"]
    lost, mixed = (entry["reason"] for entry in report["left_out"])
    assert "0_of_12.png: which frame is it?" in lost and "images/lost cannot be listed: it does not exist" in lost
    assert "has 1 of 2 true masks that are named like none" in mixed and "--truth-frames number" in mixed
    assert "left out: lost (" in capsys.readouterr().out
    assert "mixed cannot be evaluated: " in refused(tmp_path, capsys, "--video-id", "mixed")
    scores(tmp_path, "--video-id", "mixed", "--truth-frames", "number", "--all-frames")


def test_numbers_that_may_be_no_frames_are_told(tmp_path, capsys):
    write_folder(tmp_path, "a", [f"{5 * n:05d}" for n in range(16)])
    names = ["00000", "00005", "00010", "00015"]
    write_truth(tmp_path / "truth/a", [block(n, 0) for n in range(4)], names=names)
    assert scores(tmp_path)["overall"]["J"] == 1 and "told by the numbers" not in capsys.readouterr().err
    (tmp_path / "images/a").rename(tmp_path / "moved")
    assert "images/a cannot be listed: it does not exist" in scores(tmp_path)["videos"][0]["frames_doubt"]
    said = capsys.readouterr().err
    assert "of 1 videos were told by the numbers in their names" in said and "such as those of a: " in said
    assert scores(tmp_path, "--truth-frames", "number")["videos"][0]["frames_doubt"] is None
    assert "told by the numbers" not in capsys.readouterr().err


def test_range_and_stride_leave_other_frames_out(tmp_path, capsys):
    done = {n: {1: block(n, 0)} for n in (2, 5, 8)}
    write_output(
        tmp_path / "out", "a", done, frames_decoded=9, frames_declared=12, frames_annotated=3, first_frame=2, stride=3
    )
    write_truth(tmp_path / "truth/a", [block(n, 0) for n in range(12)])
    report = scores(tmp_path, "--all-frames")
    assert report["videos"][0]["objects"][0]["frames"] == 3 and report["overall"]["J"] == 1
    assert report["videos"][0]["true_masks_of_other_frames"] == 9
    assert "9 true masks are of frames that were not annotated" in capsys.readouterr().out


def test_videos_that_cannot_be_evaluated_are_named(tmp_path, capsys):
    write_output(tmp_path / "out", "a", {n: {1: block(0, 0)} for n in range(4)})
    write_output(tmp_path / "out", "b", {n: {1: block(0, 0)} for n in range(4)})
    write_output(tmp_path / "out", "c", {}, status="failed", message="decode: it is damaged")
    write_truth(tmp_path / "truth/a", [block(0, 0)] * 4)
    report = scores(tmp_path)
    assert [entry["video_id"] for entry in report["left_out"]] == ["b", "c"]
    out = capsys.readouterr().out
    assert "left out: c (failed: decode: it is damaged)" in out and "left out: b (no PNGs in" in out
    assert "damaged" in refused(tmp_path, capsys, "--video-id", "c")
    assert "no PNGs" in refused(tmp_path, capsys, "--video-id", "b")
    assert "no finished video 'd'" in refused(tmp_path, capsys, "--video-id", "d")
    for path in (tmp_path / "truth/a").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "truth/b").mkdir()
    (tmp_path / path.name).rename(tmp_path / "truth/b" / path.name)
    assert "(b: " in refused(tmp_path, capsys)  # a has no truth any more; b has, of one frame


def test_bad_truth_names_the_file_and_the_remedy(tmp_path, capsys):
    out, truth = tmp_path / "out", tmp_path / "truth/a"
    assert "holds no finished video" in refused(tmp_path, capsys)
    write_output(out, "a", {n: {1: block(0, 0)} for n in range(4)})
    assert "no finished video with truth in" in refused(tmp_path, capsys)
    write_truth(truth, [np.zeros(SIZE)] * 4)
    assert "show no object" in refused(tmp_path, capsys)
    write_truth(truth, [block(0, 0)[:-2]] * 4)
    assert "00000.png is 32x22, the masks 32x24" in refused(tmp_path, capsys)
    write_truth(truth, [block(0, 0)] * 4)
    (truth / "00002.png").write_bytes((truth / "00002.png").read_bytes()[:50])
    assert "00002.png is not a readable picture" in refused(tmp_path, capsys)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)).save(truth / "00002.png")
    assert "00002.png is a colour picture" in refused(tmp_path, capsys)
    (truth / "00002.png").unlink()
    (truth / "00003.png").rename(truth / "last.png")
    assert "last.png: which frame is it?" in refused(tmp_path, capsys)
    (truth / "last.png").rename(truth / "1.png")
    assert "two masks of frame 1" in refused(tmp_path, capsys)
    (truth / "1.png").unlink()
    assert "--all-frames" in refused(tmp_path, capsys)


def test_shards_are_not_listed(tmp_path, monkeypatch):
    url = f"memory://{tmp_path.name}/out"
    made_output.write_output(url, [MadeVideo(f"v{number}", split=number == 3) for number in range(5)])
    assert export(["--masks", url, "--format", "davis", "--to", str(tmp_path / "truth")]) == 0
    listed, ls = [], MemoryFileSystem.ls
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda fs, path, **more: listed.append(path) or ls(fs, path, **more))
    monkeypatch.setattr(reader, "_finished", None)  # the rows have been read: no video's is looked for again
    report = evaluate.evaluate(url, str(tmp_path / "truth"))
    assert len(report["videos"]) == 5 and report["overall"]["J"] > 0.5
    assert [path for path in listed if "/masks" in path] == []


def test_command_line(tmp_path):
    write_output(tmp_path / "out", "a", {n: {1: block(0, 0)} for n in range(4)})
    write_truth(tmp_path / "truth/a", [block(0, 0)] * 4)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "jobs.evaluate", "--masks", f"file://{tmp_path}/out", "--truth"]
    done = subprocess.run([*command, str(tmp_path / "truth")], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "mean over objects" in done.stdout, done.stderr


def test_scores_go_to_any_storage(tmp_path):
    write_output(tmp_path / "out", "a", {n: {1: block(0, 0)} for n in range(4)})
    write_truth(tmp_path / "truth/a", [block(0, 0)] * 4)
    url = f"memory://{tmp_path.name}/scores.json"
    command = ["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), "--json", url]
    assert evaluate.main(command) == 0
    assert json.loads(MemoryFileSystem().cat_file(url))["overall"]["J"] == 1


def test_options_of_another_protocol_are_refused(tmp_path, capsys):
    command = ["--masks", str(tmp_path), "--truth", str(tmp_path), "--meta", "m.json"]
    for more in ([], ["--protocol", "davis2017"]):
        with pytest.raises(SystemExit):
            evaluate.main([*command, *more])
        assert "--meta is for --protocol youtube-vos" in capsys.readouterr().err


@pytest.mark.real_clips
@pytest.mark.parametrize("name", ["davis16_bear", "davis16_bmx-bumps", "davis17_tennis", "xmem2_chair"])
def test_real_truth_agrees_with_itself(tmp_path, name):
    """Grey with alpha, 14 empty masks, palette with void, names like frame_000000."""
    clip = real_clips() / name
    files = sorted((clip / "masks").iterdir())
    predicted = {}
    for index, file in enumerate(files):
        labels = read_label_png(file.read_bytes(), file.name)
        predicted[index] = {int(k): (labels == k).astype(np.uint8) for k in np.unique(labels) if k}
    size = {"height": labels.shape[0], "width": labels.shape[1]}
    write_output(tmp_path / "out", name, predicted, frames_decoded=len(files), frames_annotated=len(files), **size)
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / name).symlink_to(clip)
    report = scores(tmp_path)
    assert report["overall"]["J&F"] == report["overall"]["J_recall"] == 1 and report["overall"]["J_decay"] == 0
    assert report["overall"]["n_objects"] == (2 if name == "davis17_tennis" else 1)
