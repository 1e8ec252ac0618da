"""Many kinds of bad input in one run: each a right answer or a failure row that says why, and the run goes on."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_corpus import annotate, read_rows, table_rows, write_checkpoint
from made_videos import copy_packets, cut, damage, numbered_frame, write_video
from PIL import Image
from pycocotools import mask as coco

SIZE = (64, 96)
RANGES = {"range beyond the end": {"start": 40}}  # of the video of that name
BOX = [{"frame": 0, "object_id": 1, "box": [2, 20, 30, 30]}]


def rle(height: int, width: int) -> dict:
    code = coco.encode(np.asfortranarray(np.pad(np.ones((8, 8), np.uint8), ((0, height - 8), (0, width - 8)))))
    return {"size": [height, width], "counts": code["counts"].decode()}


def bad_videos(folder: Path) -> Iterator[tuple[str, str, list, str, str]]:
    """(video_id, file, prompts, expected status, expected error class or words of the message)."""
    good = write_video(folder / "good.mp4", 20, size=SIZE, options={"preset": "ultrafast"})
    yield "good", good.name, BOX, "done", ""

    (folder / "empty.mp4").touch()
    yield "empty file", "empty.mp4", BOX, "failed", "not-a-video"
    (folder / "text.mp4").write_text("no video")
    yield "text", "text.mp4", BOX, "failed", "not-a-video"
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    yield "random bytes", "noise.mp4", BOX, "failed", "not-a-video"
    cut(good, 0.5, folder / "no-index.mp4")
    yield "mp4 cut before its index", "no-index.mp4", BOX, "failed", "not-a-video"
    write_video(folder / "sound.mp4", 20, size=SIZE, sound=True)
    yield "sound beside video", "sound.mp4", BOX, "done", ""
    yield "missing", "nowhere.mp4", BOX, "failed", "missing"
    (folder / "no images").mkdir()
    (folder / "no images" / "readme.txt").write_text("x")
    yield "folder without images", "no images", BOX, "failed", "no-video-stream|not-a-video|zero-frames"

    fast = copy_packets(good, folder / "faststart.mp4", options={"movflags": "faststart"})
    cut(fast, 0.7, folder / "half.mp4")
    yield "faststart cut", "half.mp4", BOX, "truncated", "frames"
    damage(good, 0.4, 300, folder / "scratched.mp4")
    yield "damaged in the middle", "scratched.mp4", BOX, "done|truncated", ""

    images = folder / "images ü"
    images.mkdir()
    for number in range(6):
        Image.fromarray(numbered_frame(number, *SIZE)).save(images / f"{number:05d}.jpg")
    yield "image folder with a name of its own", images.name, BOX, "done", ""
    broken = folder / "broken images"
    broken.mkdir()
    for number in range(6):
        Image.fromarray(numbered_frame(number, *SIZE)).save(broken / f"{number:05d}.png")
    (broken / "00003.png").write_bytes(b"not a picture")
    yield "image folder with a broken picture", broken.name, BOX, "truncated", "00003.png"

    write_video(folder / "odd.mkv", 12, size=(61, 97), codec="ffv1", pixel_format="yuv444p")
    yield "odd size", "odd.mkv", BOX, "done", ""
    write_video(folder / "turned.mp4", 12, size=SIZE, rotation=90, options={"preset": "ultrafast"})
    yield "rotated phone", "turned.mp4", BOX, "done", ""
    write_video(folder / "deep.mkv", 12, size=SIZE, codec="ffv1", pixel_format="yuv420p10le")
    yield "10 bit", "deep.mkv", BOX, "done", ""
    write_video(folder / "vfr.mkv", 8, size=SIZE, times=[0, 1, 5, 6, 20, 21, 40, 41])
    yield "variable frame rate", "vfr.mkv", [{"time": 0.5, "object_id": 1, "box": BOX[0]["box"]}], "done", ""
    (folder / "wrong.avi").write_bytes(good.read_bytes())
    yield "wrong extension", "wrong.avi", BOX, "done", ""
    write_video(folder / "one.mp4", 1, size=SIZE)
    yield "one frame", "one.mp4", BOX, "done", ""

    yield "prompt beyond the end", good.name, [{**BOX[0], "frame": 99}], "failed", "only 20 frames"
    late = {"time": 60, "object_id": 1, "box": BOX[0]["box"]}
    yield "prompt after the end", good.name, [late], "failed", "60"
    yield "box outside", good.name, [{**BOX[0], "box": [500, 500, 9, 9]}], "failed", "outside"
    yield "box partly outside", good.name, [{**BOX[0], "box": [-5, -5, 40, 40]}], "done", ""
    other = [{"frame": 0, "object_id": 1, "rle": rle(32, 48)}]
    yield "RLE of another size", good.name, other, "failed", "48x32"
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folder / "small.png")
    yield "mask of another size", good.name, [{"frame": 0, "object_id": 1, "mask": "small.png"}], "failed", "10x10"
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "blank.png")
    yield "empty mask", good.name, [{"frame": 0, "object_id": 1, "mask": "blank.png"}], "failed", "empty"
    yield "missing mask", good.name, [{"frame": 0, "object_id": 1, "mask": "gone.png"}], "failed", "gone.png"
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    yield "broken mask", good.name, [{"frame": 0, "object_id": 1, "mask": "broken.png"}], "failed", "broken.png"
    Image.fromarray(numbered_frame(3, *SIZE)).save(folder / "photo.png")
    yield "photo as a mask", good.name, [{"frame": 0, "object_id": 1, "mask": "photo.png"}], "failed", "colour"
    for number in range(3):  # so many in a row would stop a run that takes them for the storage's fault
        path = (images.name, "small.png/below", "/dev/zero")[number]
        yield (
            f"mask that is no file {number}",
            good.name,
            [{"frame": 0, "object_id": 1, "mask": path}],
            "failed",
            "prompt",
        )
    square = np.zeros(SIZE, np.uint8)
    square[20:40, 20:40] = 255
    Image.fromarray(square).convert("P").save(folder / "void.png")
    yield "void in a palette", good.name, [*BOX, {"frame": 3, "object_id": 1, "mask": "void.png"}], "failed", "void"
    yield "range beyond the end", good.name, BOX, "failed", "has no frame from frame 40"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list, subprocess.CompletedProcess, Path]:
    folder = tmp_path_factory.mktemp("bad")
    cases = list(bad_videos(folder))
    manifest = folder / "manifest.jsonl"
    rows = [
        {"video_id": name, "video": file, "prompts": prompts, **RANGES.get(name, {})}
        for name, file, prompts, _, _ in cases
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = annotate(manifest, folder / "out", write_checkpoint(folder), "--actors", "2")
    return cases, done, folder / "out"


def test_every_case_ends_as_it_should(run: tuple[list, subprocess.CompletedProcess, Path]):
    cases, done, output = run
    assert done.returncode == 3, done.stderr
    videos = {row["video_id"]: row for row in table_rows(output, "videos")}
    failures = {row["video_id"]: row for row in table_rows(output, "failures")}
    wrong = []
    for name, _, _, status, words in cases:
        row = videos.get(name)
        found = row and row["status"]
        said = f"{row and row['message']} {failures.get(name, {}).get('error_class')}"
        if found not in status.split("|") or not any(word in said for word in words.split("|")):
            wrong.append((name, found, said))
    assert not wrong
    assert len(cases) >= 25 and len(videos) == len(cases)


def test_failures_are_explained_and_good_ones_have_rows(run: tuple[list, subprocess.CompletedProcess, Path]):
    _, _, output = run
    videos = {row["video_id"]: row for row in table_rows(output, "videos")}
    for row in table_rows(output, "failures"):
        assert row["terminal"] and row["error_class"] != "internal" and len(row["message"]) > 10, row
    with_masks = {row["video_id"] for row in read_rows(output)}
    assert with_masks <= {name for name, row in videos.items() if row["status"] != "failed"}
    assert videos["rotated phone"]["height"] == SIZE[0] or videos["rotated phone"]["height"] == SIZE[1]
    assert videos["one frame"]["frames_annotated"] == 1
