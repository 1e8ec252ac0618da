"""From an output to the manifest of its correction, filled in, and round again with --reuse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import published, run_here
from made_videos import write_video
from PIL import Image

from cluster.kept_manifest import MANIFEST_NAME
from cluster.planning import plan_run
from cluster.reuse import reuse_shards
from cluster.stores.storage import Storage
from jobs.review import main
from schemas.manifest import VideoRow, parse_manifest
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig(
    "tiny", "ab" * 32, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)
SIZE = (48, 64)


@pytest.fixture
def out(tmp_path: Path) -> Storage:
    prompts = (
        Prompt(frame=2, object_id=3, box=(10.0, 10.0, 20.0, 20.0)),
        Prompt(frame=2, object_id=5, box=(30.0, 5.0, 9.0, 9.0)),
    )
    rows = [
        VideoRow(n, str(write_video(tmp_path / f"{name}.mp4", 20, size=SIZE)), name, prompts)
        for n, name in enumerate(("a", "b", "c"), 1)
    ]
    storage = Storage(str(tmp_path / "out"))
    run_here(storage, rows, CONFIG, tmp_path / "scratch")
    return storage


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def review(out: Storage, path: Path, *more: str) -> list[dict]:
    assert main([out.url, "--to", str(path), "--overwrite", *more]) == 0
    return lines(path)


def test_every_video_is_there_with_empty_prompts_on_other_frames(out: Storage, tmp_path: Path):
    found = review(out, tmp_path / "review.jsonl", "--per-video", "2")
    assert [line["video_id"] for line in found] == ["a", "b", "c"]
    for line in found:
        slots = [prompt for prompt in line["prompts"] if "suggested" in prompt]
        assert len(slots) == 4 and {slot["object_id"] for slot in slots} == {3, 5}
        assert all(slot["mask"] is None for slot in slots)
        frames = {slot["frame"] for slot in slots}
        assert len(frames) == 2 and 2 not in frames
    rows = parse_manifest("review.jsonl", (tmp_path / "review.jsonl").read_bytes(), str(tmp_path))
    assert [row.unfilled for row in rows] == [4, 4, 4] and all(len(row.prompts) == 2 for row in rows)


def test_filled_in_for_one_video_only_that_one_is_done_again(out: Storage, tmp_path: Path):
    found = review(out, tmp_path / "review.jsonl")
    slot = next(prompt for prompt in found[1]["prompts"] if "suggested" in prompt)
    mask = np.zeros(SIZE, np.uint8)
    mask[20:30, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "corrected.png")
    slot["mask"] = "corrected.png"
    (tmp_path / "filled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
    rows = parse_manifest("filled.jsonl", (tmp_path / "filled.jsonl").read_bytes(), str(tmp_path))
    new = Storage(str(tmp_path / "new"))
    units = plan_run(new, rows, CONFIG, {}, set(), print)
    assert reuse_shards(out, new, units, CONFIG, frozenset(), print).videos == 2
    worked = run_here(new, rows, CONFIG, tmp_path / "scratch")
    assert [unit.row.video_id for unit in worked] == ["b"] and len(published(new).published) == 3
    kept = parse_manifest("m.jsonl", new.read(MANIFEST_NAME), "/")
    assert [replace(row, unfilled=0) for row in rows] == list(kept)


def test_truth_fills_in_and_lots_are_other_frames(out: Storage, tmp_path: Path):
    (tmp_path / "truth" / "b").mkdir(parents=True)
    labels = np.zeros(SIZE, np.uint8)
    labels[:9, :9] = 3
    for frame in range(20):
        Image.fromarray(labels).save(tmp_path / f"truth/b/{frame:05d}.png")
    a, b, c = review(out, tmp_path / "r.jsonl", "--per-video", "1", "--truth", str(tmp_path / "truth"))
    assert len(a["prompts"]) == len(c["prompts"]) == 2
    (row,) = parse_manifest("r.jsonl", json.dumps(b).encode(), "/")
    assert row.unfilled == 0 and {prompt.object_id for prompt in row.prompts[2:]} == {3, 5}
    drawn = {
        tuple(p["frame"] for p in review(out, tmp_path / "l.jsonl", "--random", str(seed))[0]["prompts"][2:])
        for seed in range(3)
    }
    assert len(drawn) > 1


def test_truth_of_some_images_fills_in_the_frames_of_these(tmp_path: Path, capsys: pytest.CaptureFixture):
    """As in YouTube-VOS: images 00000, 00005, ... of which some have true masks."""
    (tmp_path / "clip").mkdir()
    (tmp_path / "truth/clip").mkdir(parents=True)
    for frame in range(20):
        Image.fromarray(np.full((*SIZE, 3), frame, np.uint8)).save(tmp_path / f"clip/{5 * frame:05d}.jpg")
    for frame in (1, 2, 3):
        Image.fromarray(np.full(SIZE, 3 * (frame == 2), np.uint8)).save(tmp_path / f"truth/clip/{5 * frame:05d}.png")
    out = Storage(str(tmp_path / "out"))
    prompt = Prompt(frame=0, object_id=3, box=(10.0, 10.0, 20.0, 20.0))
    run_here(out, [VideoRow(1, str(tmp_path / "clip"), "clip", (prompt,))], CONFIG, tmp_path / "scratch")
    (line,) = review(out, tmp_path / "r.jsonl", "--truth", str(tmp_path / "truth"))
    filled = {prompt["frame"]: prompt["rle"]["counts"] for prompt in line["prompts"][1:]}
    assert sorted(filled) == [1, 2, 3] and filled[1] == filled[3] != filled[2]
    assert "told by the numbers" not in capsys.readouterr().err
    (tmp_path / "clip").rename(tmp_path / "moved")
    review(out, tmp_path / "r.jsonl", "--truth", str(tmp_path / "truth"))
    assert f"such as those of clip: {tmp_path}/clip cannot be listed" in capsys.readouterr().err


def test_only_the_most_doubtful_and_the_doubtful_enough(out: Storage, tmp_path: Path):
    found = review(out, tmp_path / "r.jsonl", "--videos", "1")
    assert sorted(len(line["prompts"]) for line in found) == [2, 2, 8]
    found = review(out, tmp_path / "r.jsonl", "--least-doubt", "1")
    assert [len(line["prompts"]) for line in found] == [2, 2, 2]


def test_without_a_kept_manifest_it_says_what_to_give(out: Storage, tmp_path: Path, capsys: pytest.CaptureFixture):
    kept = out.read(MANIFEST_NAME)
    out.delete(MANIFEST_NAME)
    assert main([out.url, "--to", str(tmp_path / "r.jsonl")]) == 2
    assert main([out.url, "--to", f"{out.url}/tracks/r.jsonl"]) == 2
    assert "give --manifest" in capsys.readouterr().err
    (tmp_path / "m.jsonl").write_bytes(kept.splitlines(keepends=True)[0])
    assert main([out.url, "--to", str(tmp_path / "r.jsonl"), "--manifest", str(tmp_path / "m.jsonl")]) == 2
    assert "2 video(s)" in capsys.readouterr().err
    (tmp_path / "m.jsonl").write_bytes(kept)
    assert main([out.url, "--to", str(tmp_path / "r.jsonl"), "--manifest", str(tmp_path / "m.jsonl")]) == 0


def test_a_file_that_may_hold_corrections_is_kept(out: Storage, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "review.jsonl"
    path.write_text("hours of work")
    assert main([out.url, "--to", str(path)]) == 2
    assert "--overwrite" in capsys.readouterr().err and path.read_text() == "hours of work"
    assert len(review(out, path)) == 3  # says --overwrite
