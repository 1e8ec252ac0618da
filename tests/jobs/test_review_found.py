"""A correction of what a detector found corrects that object, and is not a new one."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_detectors import colour_picture
from made_runs import run_here
from made_videos import write_video
from rlemasklib import RLEMask

from cluster.detector_weights import Detectors, DetectorWeights
from cluster.stores.storage import Storage
from jobs.review import main
from schemas.detector_defaults import with_weights
from schemas.manifest import parse_manifest
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256
from stcn_core.detectors import factory

CONFIG = RunConfig(
    "tiny", "ab" * 32, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)


def test_numbers_stay_from_run_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(factory.DETECTORS, "mask-rcnn", ("made_detectors", "ColourDetector"))
    weights = tmp_path / "colours.bin"
    weights.write_bytes(b"colours")
    sha256 = file_sha256(weights)
    detectors = Detectors({"mask-rcnn": DetectorWeights(str(weights), sha256)}, "cpu", tmp_path, {})
    picture = colour_picture(("red", 2, 6, 16), ("green", 30, 30, 16), ("blue", 48, 2, 12))
    video = write_video(tmp_path / "v.mp4", 20, size=(48, 64), stored=lambda _: picture)
    record = {"video": str(video), "video_id": "v", "prompts": [{"detector": "mask-rcnn"}]}

    def run(manifest: bytes, out: str) -> dict[int, str]:
        storage = Storage(str(tmp_path / out))
        rows = with_weights(parse_manifest("m.jsonl", manifest, "/"), {"mask-rcnn": sha256})
        run_here(storage, rows, CONFIG, tmp_path / "scratch", detectors=detectors)
        with storage.open_input(next(iter(storage.list("tracks")))) as file:
            return {row["object_id"]: row["found_class"] for row in pq.read_table(file).to_pylist()}

    classes = run(json.dumps(record).encode(), "out")
    assert classes == {1: "red", 2: "green", 3: "blue"}
    assert main([str(tmp_path / "out"), "--to", str(tmp_path / "r.jsonl"), "--per-video", "1"]) == 0
    corrected = json.loads((tmp_path / "r.jsonl").read_text())
    slot = next(prompt for prompt in corrected["prompts"] if prompt["object_id"] == 2 and "suggested" in prompt)
    counts = RLEMask.from_array(np.ones((48, 64), np.uint8)).to_dict()["counts"].decode()
    slot |= {"rle": {"size": [48, 64], "counts": counts}}
    assert run(json.dumps(corrected).encode(), "out2") == classes
