"""Making and keeping a plan: what was found out is not lost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_videos import write_video

from cluster import planning
from cluster.frames.probe import Probe
from cluster.plan_table import PlanError, PlannedOtherwise
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


def meanwhile(monkeypatch: pytest.MonkeyPatch, *happens: Callable[[], object], frames: int = 5) -> None:
    """The nth time that videos are looked into, what happens is the nth of these."""
    events = iter(happens)

    def probe(urls: list[str], *_: object, **__: object) -> dict[str, Probe]:
        next(events, lambda: None)()
        return {url: Probe(frames, 64, 48, 25.0, frames / 25, "h264", None) for url in urls}

    monkeypatch.setattr(planning, "probe_sources", probe)


def unit_ids(storage: Storage) -> set[str]:
    return set(read_plan(storage)["unit_id"].to_pylist())


def test_what_another_run_plans_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also when it plans while parts of this one's plan are written down already."""
    rows, storage = rows_of(tmp_path, 6), Storage(str(tmp_path / "out"))
    monkeypatch.setattr(planning, "PROBED_AT_A_TIME", 2)

    def other(row: VideoRow) -> Callable[[], object]:
        return lambda: plan_run(storage, [row], CONFIG, {}, set(), print)

    meanwhile(monkeypatch, other(rows[4]), lambda: None, other(rows[5]))
    units = plan_run(storage, rows[:4], CONFIG, {}, set(), print)
    assert len(units) == 4 and sorted(read_plan(storage)["video_id"].to_pylist()) == [f"v{n}" for n in range(6)]


@pytest.mark.parametrize("long_for_us", [True, False])
def test_of_two_plans_for_one_video_the_first_that_was_written_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_for_us: bool
):
    """One run takes the video for a long one, which is split, the other does not."""
    rows, storage = rows_of(tmp_path, 1), Storage(str(tmp_path / "out"))
    ours, theirs = (5, 100 * CONFIG.segment_frames)[:: -1 if long_for_us else 1]

    def other() -> None:
        meanwhile(monkeypatch, frames=theirs)
        plan_run(storage, rows, CONFIG, {}, set(), print)

    meanwhile(monkeypatch, other, frames=ours)
    units = plan_run(storage, rows, CONFIG, {}, set(), print)
    assert len(units) == (1 if long_for_us else 21) and {unit.unit_id for unit in units} == unit_ids(storage)


def test_a_plan_by_which_another_run_works_is_not_split_anew(tmp_path: Path, blip: Blip):
    """It came after this one, and wrote what was there already: only its word in the progress file shows it."""
    rows, storage = rows_of(tmp_path, 1), Storage(str(tmp_path / "out"))
    whole = plan_run(storage, rows, CONFIG, {}, set(), print)
    blip.broken = False
    assert plan_run(storage, rows, CONFIG, {}, set(), print, met=lambda: True) == whole
    assert unit_ids(storage) == {unit.unit_id for unit in whole}
    assert len(plan_run(storage, rows, CONFIG, {}, set(), print)) == 21


def test_two_runs_with_other_prompts_for_one_video_do_not_both_work_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (row,), storage = rows_of(tmp_path, 1), Storage(str(tmp_path / "out"))
    other = replace(row, prompts=(Prompt(frame=0, object_id=7, box=(0, 0, 5, 5)),))
    meanwhile(monkeypatch, lambda: plan_run(storage, [other], CONFIG, {}, set(), print))
    with pytest.raises(PlannedOtherwise, match="once it has ended"):
        plan_run(storage, [row], CONFIG, {}, set(), print)
    there = unit_ids(storage)
    with pytest.raises(PlannedOtherwise):
        plan_run(storage, [row], CONFIG, {}, set(), print, look_again=False)
    assert unit_ids(storage) == there
    assert unit_ids(storage) != {unit.unit_id for unit in plan_run(storage, [row], CONFIG, {}, set(), print)}


def test_what_a_run_of_before_planned_binds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Prompts were edited since; meanwhile another run plans a video of its own."""
    (row, more), storage = rows_of(tmp_path, 2), Storage(str(tmp_path / "out"))
    plan_run(
        storage, [replace(row, prompts=(Prompt(frame=0, object_id=7, box=(0, 0, 5, 5)),))], CONFIG, {}, set(), print
    )
    meanwhile(monkeypatch, lambda: plan_run(storage, [more], CONFIG, {}, set(), print))
    units = plan_run(storage, [row], CONFIG, {}, set(), print)
    assert {unit.unit_id for unit in units} < unit_ids(storage) and len(unit_ids(storage)) == 2


def test_a_damaged_plan_says_what_to_do(tmp_path: Path):
    storage = Storage(str(tmp_path))
    storage.publish(planning.PLAN_NAME, b"no parquet")
    with pytest.raises(PlanError, match="Delete it"):
        read_plan(storage)
