"""Settings that a unit acts on itself: which frames its burn-in visits, in which order, and clean-up of its masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_runs import run_here
from made_videos import write_video

from cluster.stand_in import StandInSegmenter
from cluster.stores.storage import Storage
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig
from stcn_core.burn_in import BurnInChoice, outward
from stcn_core.cleanup import clean_frame, parse_steps
from stcn_core.masks import ObjectMask
from stcn_core.seeds import named_seed

CONFIG = RunConfig(
    "tiny", "ab" * 32, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)
COUNTS = np.zeros((48, 64), np.uint8)
COUNTS[10:30, 10:40], COUNTS[14:16, 14:16], COUNTS[40, 50] = 1, 0, 1


@pytest.fixture
def row(tmp_path: Path) -> VideoRow:
    from rlemasklib import RLEMask

    rle = (48, 64, RLEMask.from_array(COUNTS).to_dict()["counts"])
    url = str(write_video(tmp_path / "v.mp4", 24, size=(48, 64)))
    return VideoRow(1, url, "v", (Prompt(frame=5, object_id=1, rle=rle),))


def rows_of(storage: Storage) -> list[dict]:
    found = []
    for name in sorted(storage.list("masks")):
        with storage.open_input(name) as file:
            found += pq.read_table(file).to_pylist()
    return found


def test_masks_are_cleaned_given_ones_are_not(tmp_path: Path, row: VideoRow) -> None:
    steps = "largest,holes=9"
    storages = []
    for clean in ("", steps):
        storages.append(Storage(str(tmp_path / f"out-{clean}")))
        run_here(storages[-1], [row], replace(CONFIG, clean=clean), tmp_path / "scratch")
    # The stand-in's masks depend on the settings that the algorithm has, of which clean-up is none.
    plain, cleaned = map(rows_of, storages)
    assert len(plain) == len(cleaned) == 24
    for before, after in zip(plain, cleaned, strict=True):
        box = tuple(before[f"bbox_{name}"] for name in "xywh")
        facts = (before["object_id"], before["rle_counts"], 48, 64, before["area"], box, before["score"])
        (expected,) = clean_frame([ObjectMask(*facts, before["is_prompt"])], parse_steps(steps))
        assert after["rle_counts"] == expected.counts and after["area"] == expected.area
        assert before["is_prompt"] == (after["rle_counts"] == before["rle_counts"])
    assert [row["frame_index"] for row in plain if row["is_prompt"]] == [5]


def visited(tmp_path: Path, row: VideoRow, monkeypatch: pytest.MonkeyPatch, **changes: object) -> list[int]:
    """The frames that a unit's burn-in visits, in order."""
    seen: list[int] = []
    burn_in = StandInSegmenter.burn_in
    monkeypatch.setattr(
        StandInSegmenter,
        "burn_in",
        lambda self, order, picture: burn_in(self, seen.extend(o := list(order)) or o, picture),
    )
    storage = Storage(str(tmp_path / f"out-{len(list(tmp_path.iterdir()))}"))
    run_here(storage, [row], replace(CONFIG, **changes), tmp_path / "scratch")
    monkeypatch.undo()
    return seen


def test_stcnbufs_order_and_its_visit_of_the_prompted_frame(
    tmp_path: Path, row: VideoRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"burn_in_frames": 0, "burn_in_order": "stcnbuf", "seed": 11, "burn_in_passes": 2, "pin_prompts": False}
    np.random.seed(11)  # as whoever wants the same burn-in from stcnbuf must
    stream = [*np.random.permutation(24), *np.random.permutation(24)]
    stream.remove(5)
    stream = [5, *stream]
    found = visited(tmp_path, row, monkeypatch, group_frames=1, **common)
    assert found == stream
    found = visited(tmp_path, row, monkeypatch, **common)
    assert found == [*stream[4::5], stream[-1]]  # 48 frames in batches of five: the last batch has three
    pinned = visited(tmp_path, row, monkeypatch, group_frames=1, **{**common, "pin_prompts": True})
    assert 5 not in pinned and sorted(pinned) == sorted([*range(24)] * 2)[:10] + sorted([*range(6, 24)] * 2)


def test_the_default_order_is_outward(tmp_path: Path, row: VideoRow, monkeypatch: pytest.MonkeyPatch) -> None:
    found = visited(tmp_path, row, monkeypatch)
    plain = visited(tmp_path, row, monkeypatch, burn_in_order="priority")
    assert sorted(found) == sorted(plain) and found != plain
    assert tuple(found) == outward(plain, [5], np.random.default_rng(named_seed(0, row.video_id, "outward")))


def test_motion_chooses_the_frames_where_it_changes(
    tmp_path: Path, row: VideoRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that stands still but for three frames, where its number flashes."""
    numbers = [0] * 60
    numbers[20] = numbers[21] = numbers[41] = 0xFFFF
    video = write_video(tmp_path / "still.mp4", numbers, size=(48, 64), options={"crf": "1"})
    row = replace(row, video=str(video))
    uniform = visited(tmp_path, row, monkeypatch, burn_in_order="priority")
    motion = visited(tmp_path, row, monkeypatch, burn_in_choice="motion", burn_in_order="priority")
    assert len(uniform) == len(motion) == 8
    changing = {20, 21, 22, 23, 41, 42, 43}
    assert len(changing & set(motion)) >= 5 > len(changing & set(uniform))
    choice = BurnInChoice(0, "v", 1, 8)
    assert motion == sorted(motion, key=lambda frame: choice.priority(0, frame))  # in random order all the same
