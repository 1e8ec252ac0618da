"""Making and keeping a plan: what was found out is not lost."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_videos import write_video

from cluster import planning
from cluster.frames.probe import Probe
from cluster.plan_table import PlanError
from cluster.planning import plan_run, read_plan
from cluster.stores.storage import Storage
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig("small", "ab" * 32)


def rows_of(folder: Path, count: int) -> list[VideoRow]:
    first = write_video(folder / "0.mp4", 5, size=(48, 64))
    for number in range(1, count):
        (folder / f"{number}.mp4").write_bytes(first.read_bytes())
    box = Prompt(frame=0, object_id=1, box=(0, 0, 5, 5))
    return [VideoRow(number + 1, str(folder / f"{number}.mp4"), f"v{number}", (box,)) for number in range(count)]


def test_probes_are_kept_when_planning_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows, storage = rows_of(tmp_path, 5), Storage(str(tmp_path / "out"))
    asked: list[str] = []

    def probe(urls: list[str], *_: object, **__: object) -> dict[str, Probe]:
        if len(asked) >= 4:
            raise KeyboardInterrupt
        asked.extend(urls)
        return {url: Probe(5, 64, 48, 25.0, 0.2, "h264", None) for url in urls}

    monkeypatch.setattr(planning, "PROBED_AT_A_TIME", 2)
    monkeypatch.setattr(planning, "probe_sources", probe)
    with pytest.raises(KeyboardInterrupt):
        plan_run(storage, rows, CONFIG, {}, set(), print)
    assert sorted(read_plan(storage)["video_id"].to_pylist()) == ["v0", "v1", "v2", "v3"]
    asked.clear()
    units = plan_run(storage, rows, CONFIG, {}, set(), print)
    assert [Path(url).name for url in asked] == ["4.mp4"] and len(units) == 5
    assert read_plan(storage).num_rows == 5


def test_real_probes_and_a_missing_video(tmp_path: Path):
    rows = rows_of(tmp_path, 2)
    (tmp_path / "1.mp4").unlink()
    units = plan_run(Storage(str(tmp_path / "out")), rows, CONFIG, {}, set(), print)
    assert {unit.row.video_id: (unit.found, unit.probe.frames) for unit in units} == {
        "v0": (True, 5),
        "v1": (False, None),
    }


class Blip:
    """Probing that fails at first, as storage may for a moment; counts its calls."""

    def __init__(self) -> None:
        self.broken, self.asked = True, 0

    def __call__(self, urls: list[str], *_: object, **__: object) -> dict[str, Probe]:
        self.asked += len(urls)
        long = Probe(100 * CONFIG.segment_frames, 64, 48, 25.0, 4000.0, "h264", None)
        return {url: Probe(error=f"{url}: Connection reset by peer") if self.broken else long for url in urls}


@pytest.fixture
def blip(monkeypatch: pytest.MonkeyPatch) -> Blip:
    probing = Blip()
    monkeypatch.setattr(planning, "probe_sources", probing)
    return probing


def test_a_moments_fault_leaves_a_long_video_in_one_piece_for_one_run_only(tmp_path: Path, blip: Blip):
    rows, storage = rows_of(tmp_path, 1), Storage(str(tmp_path / "out"))
    said: list[str] = []
    assert [unit.kind for unit in plan_run(storage, rows, CONFIG, {}, set(), said.append)] == ["whole"]
    assert f"1 of 1 sources could not be looked into (such as {rows[0].video}: Connection reset" in said[0]
    blip.broken = False
    said.clear()
    assert len(plan_run(storage, rows, CONFIG, {}, set(), said.append)) == 21
    assert not said and read_plan(storage).num_rows == 21
    assert len(plan_run(storage, rows, CONFIG, {}, set(), print)) == 21 and blip.asked == 2


def test_beside_another_driver_the_plan_stays_as_it_is(tmp_path: Path, blip: Blip):
    rows, storage = rows_of(tmp_path, 1), Storage(str(tmp_path / "out"))
    whole = plan_run(storage, rows, CONFIG, {}, set(), print)
    blip.broken = False
    assert plan_run(storage, rows, CONFIG, {}, set(), print, look_again=False) == whole and blip.asked == 1


def test_what_is_published_or_given_up_in_one_piece_stays_so(tmp_path: Path, blip: Blip):
    rows, storage = rows_of(tmp_path, 2), Storage(str(tmp_path / "out"))
    published, failed = (unit.unit_id for unit in plan_run(storage, rows, CONFIG, {}, set(), print))
    blip.broken = False
    units = plan_run(storage, rows, CONFIG, {}, {published}, print, given_up={failed})
    assert {unit.unit_id for unit in units} == {published, failed} and blip.asked == 2
    assert len(plan_run(storage, rows, CONFIG, {}, {published}, print)) == 22  # as --retry-failed does


def test_of_two_videos_in_one_file_the_published_one_stays_what_it_was(tmp_path: Path, blip: Blip):
    (row,), storage = rows_of(tmp_path, 1), Storage(str(tmp_path / "out"))
    rows = [row, replace(row, row=2, video_id="other", end=50 * CONFIG.segment_frames)]
    before = {unit.row.video_id: unit for unit in plan_run(storage, rows, CONFIG, {}, set(), print)}
    blip.broken = False
    units = plan_run(storage, rows, CONFIG, {}, {before[row.video_id].unit_id}, print)
    assert [unit for unit in units if unit.row.video_id == row.video_id] == [before[row.video_id]]
    assert len([unit for unit in units if unit.row.video_id == "other"]) == 11


def test_a_damaged_plan_says_what_to_do(tmp_path: Path):
    storage = Storage(str(tmp_path))
    storage.publish(planning.PLAN_NAME, b"no parquet")
    with pytest.raises(PlanError, match="Delete it"):
        read_plan(storage)
