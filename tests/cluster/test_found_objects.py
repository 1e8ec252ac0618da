"""Prompts by detector through the units' own code: all kinds in one run, split videos, failures, weights."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_detectors import ColourDetector, colour_picture, tiny_weights
from made_networks import random_network
from made_runs import run_here
from made_videos import read_number, write_video
from PIL import Image

from cluster.detector_weights import Detectors, DetectorWeights, weights_of
from cluster.failure import WorkerError
from cluster.found_objects import spread
from cluster.frame_grid import FrameGrid
from cluster.frames.decoder import Decoder
from cluster.heartbeat import Heartbeat
from cluster.inspect.remedy import REMEDIES
from cluster.plan import video_key
from cluster.planning import plan_run
from cluster.segmenter import StcnSegmenters
from cluster.stand_in import StandInSegmenters
from cluster.stores.source import SourceStat
from cluster.stores.storage import Storage
from cluster.unit import UnitFailed, UnitRun, annotate_unit
from cluster.workbench import Workbench
from schemas.detector_defaults import DetectorDefaults, with_weights
from schemas.manifest import parse_manifest
from schemas.run_config import RunConfig
from schemas.video_row import VideoRow
from stcn_core.checkpoint import file_sha256, save_checkpoint
from stcn_core.detectors import DetectorError, factory

CONFIG = RunConfig(
    "tiny", "ab" * 32, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)


def scene(number: int) -> np.ndarray:
    """A red square that wanders, a green one that stands, a blue one from frame 10 on."""
    blue = [("blue", 48, 2, 12)] if number >= 10 else []
    return colour_picture(("red", 2 + number % 20, 6, 16), ("green", 30, 30, 16), *blue)


def colour_video(path: Path, frames: int) -> Path:
    return write_video(path, frames, size=(48, 64), stored=lambda frame: scene(read_number(frame)))


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """mask-rcnn is the detector that sees colours; the file that stands for its weights."""
    monkeypatch.setitem(factory.DETECTORS, "mask-rcnn", ("made_detectors", "ColourDetector"))
    path = tmp_path / "colours.bin"
    path.write_bytes(b"colours")
    return path


def rows_of(manifest: list[dict], weights: dict[str, Path], **defaults) -> tuple[list[VideoRow], Detectors]:
    data = "\n".join(json.dumps(record) for record in manifest).encode()
    rows = parse_manifest("m.jsonl", data, "/", bare=True)
    filled = [DetectorDefaults(**defaults).fill(row) for row in rows]
    known = {name: DetectorWeights(str(path), file_sha256(path)) for name, path in weights.items()}
    rows = with_weights(filled, {name: one.sha256 for name, one in known.items()})
    return rows, Detectors(known, "cpu", Path("/tmp"), {})


def table(storage: Storage, name: str) -> list[dict]:
    found = []
    for file in sorted(storage.list(name)):
        with storage.open_input(file) as source:
            found += pq.read_table(source).to_pylist()
    return found


def test_all_kinds_of_prompts_in_one_run(tmp_path: Path, colours: Path) -> None:
    """The real network (random weights), real units, the real LOST: every kind beside the others, and each has its
    tracks; every object's provenance is told."""
    video = str(colour_video(tmp_path / "v.mp4", 20))
    labels = np.zeros((48, 64), np.uint8)
    labels[30:46, 30:46] = 1
    Image.fromarray(labels, "L").save(tmp_path / "mask.png")
    from rlemasklib import RLEMask

    counts = RLEMask.from_array(labels).to_dict()["counts"].decode()
    mask = str(tmp_path / "mask.png")
    manifest = [
        {"video": video, "video_id": "mask", "prompts": [{"frame": 0, "object_id": 5, "mask": mask}]},
        {"video": video, "video_id": "rle", "prompts": [
            {"time": 0.2, "object_id": 1, "rle": {"size": [48, 64], "counts": counts}},
            {"frame": 12, "object_id": 1, "absent": True}]},
        {"video": video, "video_id": "box", "prompts": [{"frame": 3, "object_id": 1, "box": [30, 30, 16, 16]}]},
        {"video": video, "video_id": "points", "prompts": [
            {"frame": 12, "object_id": 9, "points": [[54, 8, 1], [5, 40, 0]], "label": "thing"}]},
        {"video": video, "video_id": "matched", "prompts": [
            {"frame": 0, "object_id": 2, "box": [28, 28, 16, 16], "detector": "mask-rcnn"},
            {"frame": 0, "object_id": 3, "mask": mask, "detector": "lost-crf"}]},
        {"video": video, "video_id": "detected", "prompts": [
            {"detector": "mask-rcnn", "classes": ["red", "blue"], "max_objects": 2}]},
        {"video": video, "video_id": "best", "prompts": [
            {"detector": "mask-rcnn", "frames": [1, 15, 5], "max_objects": 9},
            {"frame": 0, "object_id": 1, "box": [1, 1, 9, 9]}]},
        {"video": video, "video_id": "lost", "prompts": [{"detector": "lost", "frame": 4}]},
        {"video": video, "video_id": "bare"},
    ]  # fmt: skip
    weights = {"mask-rcnn": colours, "lost": tiny_weights(tmp_path, "lost")}
    weights["lost-crf"] = weights["lost"]
    rows, detectors = rows_of(manifest, weights, detector="mask-rcnn", max_objects=1)
    save_checkpoint(random_network(), tmp_path / "tiny.safetensors")
    config = replace(CONFIG, checkpoint_sha256=file_sha256(tmp_path / "tiny.safetensors"))
    storage = Storage(str(tmp_path / "out"))
    segmenters = StcnSegmenters(str(tmp_path / "tiny.safetensors"))
    assert len(run_here(storage, rows, config, tmp_path / "scratch", segmenters, detectors)) == 9
    tracks = {(row["video_id"], row["object_id"]): row for row in table(storage, "tracks")}
    assert sorted(tracks) == [
        ("bare", 1), ("best", 1), ("best", 2), ("best", 3), ("best", 4), ("box", 1), ("detected", 1), ("detected", 2),
        ("lost", 1), ("mask", 5), ("matched", 2), ("matched", 3), ("points", 9), ("rle", 1)
    ]  # fmt: skip
    found = {
        key: (row["found_by"], row["found_class"], row["found_frame"])
        for key, row in tracks.items()
        if row["found_by"] is not None
    }
    assert found == {
        ("bare", 1): ("mask-rcnn", "red", 10),
        ("best", 2): ("mask-rcnn", "red", 15),
        ("best", 3): ("mask-rcnn", "green", 15),
        ("best", 4): ("mask-rcnn", "blue", 15),
        ("detected", 1): ("mask-rcnn", "red", 10),
        ("detected", 2): ("mask-rcnn", "blue", 10),
        ("lost", 1): ("lost", "object", 4),
        ("matched", 2): ("mask-rcnn", "green", 0),
        ("matched", 3): ("lost-crf", "object", 0),
        ("points", 9): ("mask-rcnn", "blue", 12),
    }
    assert tracks["points", 9]["label"] == "thing" and tracks["detected", 2]["label"] == "blue"
    assert tracks["detected", 1]["found_score"] == pytest.approx(0.9)
    # Given masks are kept and shown as prompts; boxes, points and detections are not; the absent one is not there.
    given = {(row["video_id"], row["frame_index"]) for row in table(storage, "masks") if row["is_prompt"]}
    assert given == {("mask", 0), ("rle", 6)}
    assert not [r for r in table(storage, "masks") if r["video_id"] == "rle" and r["frame_index"] == 12]
    assert tracks["rle", 1]["prompt_frames"] == [6, 12]


def test_segments_see_what_the_burn_in_saw(tmp_path: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Split and unsplit give the same rows, and only the burn-in looks: another answer later would change nothing."""
    video = str(colour_video(tmp_path / "v.mp4", 60))
    manifest = [{"video": video, "video_id": "v", "prompts": [{"detector": "mask-rcnn", "classes": ["red", "blue"]}]}]
    looked = []
    detect = ColourDetector.detect
    monkeypatch.setattr(ColourDetector, "detect", lambda self, *a, **k: looked.append(1) or detect(self, *a, **k))
    opened = UnitRun._open
    # Every unit as on an actor of its own, which has nothing open yet.
    monkeypatch.setattr(UnitRun, "_open", lambda self: self.bench.put_away() or opened(self))
    hashes = []
    for segments in (100, 1):  # units of a hundred segments, or of one
        monkeypatch.setattr("cluster.plan.UNIT_SEGMENTS", segments)
        monkeypatch.setattr("cluster.burn_in_frames.UNIT_SEGMENTS", segments)
        storage = Storage(str(tmp_path / f"out-{segments}"))
        rows, detectors = rows_of(manifest, {"mask-rcnn": colours})
        units = run_here(storage, rows, CONFIG, tmp_path / "scratch", detectors=detectors)
        assert len(units) == (1 if segments == 100 else 7) and len(looked) == 1
        looked.clear()
        masks = [(r["object_id"], r["frame_index"], r["rle_counts"], r["label"]) for r in table(storage, "masks")]
        hashes.append(sorted(masks))
        tracks = table(storage, "tracks")
        assert [row["found_class"] for row in tracks] == ["red", "blue"] and tracks[0]["found_frame"] == 30
    assert hashes[0] == hashes[1] and len(hashes[0]) == 120


@pytest.mark.parametrize(
    ("frames", "grid", "count", "expected"),
    [
        (20, (0, None, 1), 1, [10]),
        (20, (0, None, 1), 5, [2, 6, 10, 14, 18]),
        (100, (10, 50, 4), 3, [14, 30, 42]),  # positions 1, 5, 8 of ten
        (100, (0, 400, 1), 1, [50]),
        (3, (0, None, 1), 2**31 - 1, [0, 1, 2]),
    ],
)
def test_candidates_lie_evenly_in_the_range(frames: int, grid: tuple, count: int, expected: list[int]) -> None:
    video = SimpleNamespace(grid=FrameGrid(*grid), times=range(frames), info=None)
    assert spread(video, count) == expected
    folder = SimpleNamespace(grid=FrameGrid(*grid), times=None, info=SimpleNamespace(frames_declared=frames))
    assert spread(folder, count) == expected


def failed(tmp_path: Path, manifest: list[dict], weights: dict[str, Path], **defaults) -> UnitFailed:
    storage = Storage(str(tmp_path / "out"))
    rows, detectors = rows_of(manifest, weights, **defaults)
    units = plan_run(storage, rows, CONFIG, {}, set(), print)
    with Decoder() as decoder:
        bench = Workbench(StandInSegmenters(), decoder, CONFIG, storage, tmp_path, "a", 1 << 20, detectors=detectors)
        answer = annotate_unit(units[0], bench, Heartbeat())
    assert isinstance(answer, UnitFailed)
    return answer


def test_nothing_detected_is_a_failure_with_a_class_and_a_remedy(tmp_path: Path, colours: Path) -> None:
    video = str(colour_video(tmp_path / "v.mp4", 6))  # blue comes at frame 10 only
    weights = {"mask-rcnn": colours}
    answer = failed(tmp_path, [{"video": video, "prompts": [{"detector": "mask-rcnn", "classes": ["blue"]}]}], weights)
    assert answer.error_class == "nothing-detected" and "finds nothing of blue" in answer.message
    assert "--detector-score" in REMEDIES[answer.error_class]
    points = [{"frame": 0, "object_id": 1, "points": [[60, 2, 1]]}]
    answer = failed(tmp_path, [{"video": video, "prompts": points}], weights)
    assert answer.error_class == "nothing-detected" and "lies under (60, 2)" in answer.message
    beyond = [{"detector": "mask-rcnn", "frame": 99}]
    assert failed(tmp_path, [{"video": video, "prompts": beyond}], weights).error_class == "nothing-detected"


def test_identity_holds_settings_and_weights(tmp_path: Path, colours: Path) -> None:
    def unit_id(prompt: dict, content: bytes = b"colours", **defaults) -> str:
        colours.write_bytes(content)
        rows, _ = rows_of([{"video": "/v.mp4", "prompts": [prompt]}], {"mask-rcnn": colours}, **defaults)
        return video_key(rows[0], SourceStat(True, False, 10, "v"), {}, CONFIG)

    plain = {"detector": "mask-rcnn"}
    ids = {
        unit_id(plain),
        unit_id(plain, b"other weights"),
        unit_id(plain, min_score=0.3),
        unit_id(plain, classes=("red",)),
        unit_id(plain | {"max_objects": 1}),
        unit_id(plain | {"frame": 3}),
        unit_id({"frame": 3, "box": [1, 1, 5, 5]} | plain),
        unit_id({"frame": 3, "box": [1, 1, 5, 5]} | plain, matching="nearest"),
    }
    assert len(ids) == 8 and unit_id(plain) in ids
    # What the run says for others does not matter where the prompt says it itself.
    assert unit_id(plain | {"min_score": 0.4}) == unit_id(plain | {"min_score": 0.4}, min_score=0.3)


def test_a_prompt_may_insist_on_its_weights(tmp_path: Path, colours: Path) -> None:
    record = {"video": "/v.mp4", "prompts": [{"detector": "mask-rcnn", "detector_sha256": "ab" * 32}]}
    with pytest.raises(ValueError, match="wants weights abababababab of mask-rcnn"):
        rows_of([record], {"mask-rcnn": colours})


def test_wrong_weights_stop_the_run_before_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--detector-weights lost=PATH_OR_URL"):
        weights_of({"lost": set()}, {}, {})
    with pytest.raises(FileNotFoundError):
        weights_of({"lost": set()}, {"lost": str(tmp_path / "none.pth")}, {})
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(DetectorError, match="--detector-weights of lost: .*text.pth"):
        weights_of({"lost": set()}, {"lost": str(tmp_path / "text.pth")}, {})
    url = str(tiny_weights(tmp_path, "mask-rcnn"))
    with pytest.raises(DetectorError, match="knows no class 'cat'"):
        weights_of({"mask-rcnn": {"cat", "dog"}}, {"mask-rcnn": url}, {})
    found = weights_of({"mask-rcnn": {"dog"}}, {"mask-rcnn": url, "lost": "unused"}, {})
    assert found == {"mask-rcnn": DetectorWeights(url, file_sha256(Path(url)))}
    assert weights_of({"lost": {"cat"}}, {"lost": url}, {}, check=False)["lost"].sha256 == file_sha256(Path(url))


def test_an_actor_loads_a_detector_once_and_only_when_asked(tmp_path: Path, colours: Path) -> None:
    known = {"mask-rcnn": DetectorWeights(str(colours), file_sha256(colours)), "lost": DetectorWeights("/none", "ab")}
    detectors = Detectors(known, "cpu", tmp_path, {})
    assert detectors.get("mask-rcnn") is detectors.get("mask-rcnn")  # the other's weights were never looked at
    with pytest.raises(WorkerError, match="weights of lost cannot be loaded"):
        detectors.get("lost")
    colours.write_bytes(b"others")
    with pytest.raises(WorkerError, match="SHA-256 .* at the driver"):
        Detectors(known, "cpu", tmp_path, {}).get("mask-rcnn")
    with pytest.raises(WorkerError, match="no weights of the detector pointrend"):
        detectors.get("pointrend")


@pytest.mark.parametrize("kind", ["one object found twice", "nothing to be found"])
def test_segments_on_other_actors_know_all_that_was_found(
    tmp_path: Path, colours: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlemasklib import RLEMask

    square = np.zeros((48, 64), np.uint8)
    square[30:46, 30:46] = 1
    whole, empty = ({"size": [48, 64], "counts": RLEMask.from_array(m).to_dict()["counts"].decode()}
                    for m in (square, 0 * square))  # fmt: skip
    prompts = [{"frame": 5, "object_id": 2, "rle": whole}]
    if kind == "one object found twice":
        # On frame 25 everything is said: object 2 is absent there.
        prompts.append({"frame": 25, "object_id": 1, "points": [[54, 8, 1]], "complete": True})
        prompts.append({"frame": 40, "object_id": 1, "points": [[54, 8, 1]]})
    else:
        prompts.append({"frame": 25, "object_id": 2, "rle": empty, "detector": "mask-rcnn"})
    manifest = [{"video": str(colour_video(tmp_path / "v.mp4", 60)), "video_id": "v", "prompts": prompts}]
    opened = UnitRun._open
    monkeypatch.setattr(UnitRun, "_open", lambda self: self.bench.put_away() or opened(self))
    found = []
    for segments in (100, 1):
        monkeypatch.setattr("cluster.plan.UNIT_SEGMENTS", segments)
        monkeypatch.setattr("cluster.burn_in_frames.UNIT_SEGMENTS", segments)
        storage = Storage(str(tmp_path / f"out-{segments}"))
        rows, detectors = rows_of(manifest, {"mask-rcnn": colours})
        run_here(storage, rows, CONFIG, tmp_path / "scratch", detectors=detectors)
        masks = [(r["object_id"], r["frame_index"], r["rle_counts"]) for r in table(storage, "masks")]
        assert not [mask for mask in masks if mask[:2] == (2, 25)]
        found.append((sorted(masks), table(storage, "tracks")[-1]["prompt_frames"]))
    assert found[0] == found[1] and found[0][1] == [5, 25]
