"""What each outcome of a unit means, on real storage, without Ray."""

from dataclasses import replace
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from cluster.blame import Place
from cluster.finalise import shard_name
from cluster.ledger import Ledger, first_line
from cluster.plan import BURN_IN, SEGMENT, Unit
from cluster.stores.source import SourceStat
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, UnitFailed
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig("small", "ab" * 32)


def make_ledger(folder: Path, count: int = 4) -> tuple[Ledger, list[str]]:
    units = [
        Unit(
            f"{number:032x}",
            VideoRow(number, f"{number}.mp4", f"v{number}", (Prompt(frame=0, object_id=1, box=(0, 0, 5, 5)),)),
            SourceStat(True, False, 10, "v"),
            10.0,
            f"{number:032x}",
        )
        for number in range(count)
    ]
    said: list[str] = []
    videos = {unit.video_key: (unit,) for unit in units}
    return Ledger(units, videos, {}, Storage(str(folder)), CONFIG, said.append), said


def take(ledger: Ledger) -> Unit:
    (unit,) = ledger.queue.take()
    return unit


def done(unit: Unit) -> UnitDone:
    return UnitDone(unit.unit_id, "done", 3, 3, 1.0)


def failed(unit: Unit, kind: str, message: str = "it broke") -> UnitFailed:
    return UnitFailed(unit.unit_id, kind, "final", message, 7)


def death(actor: str = "actor-1") -> dict:
    return {"message": "gone", "actor": actor, "device": "cpu"}


def rows(folder: Path, table: str) -> list[dict]:
    path = folder / table
    return ds.dataset(path).to_table().to_pylist() if path.is_dir() else []


def test_a_bad_video_fails_at_once(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path)
    unit = take(ledger)
    ledger.failed(unit, failed(unit, "not-a-video", "s3://user:pass@host/x?sig=1 is text"), "actor-1", "cpu")
    assert [kind for kind, _ in ledger.tally.failed.values()] == ["not-a-video"]
    (row,) = rows(tmp_path, "failures")
    assert row["terminal"] and row["attempt"] == 1 and "pass" not in row["message"] and "sig" not in row["message"]
    assert rows(tmp_path, "videos")[0]["status"] == "failed"


def test_environment_failures_are_tried_again_after_a_success_and_then_count(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path)
    first, second = take(ledger), take(ledger)
    ledger.failed(first, failed(first, "storage"), "actor-1", "cpu")
    assert ledger.undecided == 1 and not ledger.broken([]) and not rows(tmp_path, "failures")
    ledger.done(second, done(second))
    assert ledger.undecided == 0 and len(ledger.queue) == 3
    again = take(ledger)
    assert again is first
    ledger.failed(again, failed(again, "storage"), "actor-1", "cpu")
    assert rows(tmp_path, "failures")[0]["terminal"] and list(ledger.tally.failed.values())[0][0] == "storage"


def test_a_video_is_not_blamed_for_a_machine_that_fails_everything(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path)
    first, second, third = take(ledger), take(ledger), take(ledger)
    ledger.failed(first, failed(first, "worker"), "actor-1", "cpu", "bad")
    ledger.done(second, done(second), "good")
    again = take(ledger)
    assert again is first
    ledger.failed(again, failed(again, "worker"), "actor-4", "cpu", "bad")
    assert ledger.undecided == 1 and not rows(tmp_path, "failures")
    ledger.done(third, done(third), "good")
    again = take(ledger)
    ledger.failed(again, failed(again, "worker"), "actor-2", "cpu", "good")  # where others get through
    assert list(ledger.tally.failed.values())[0][0] == "worker"


def test_two_bad_videos_at_one_place_are_both_given_up(tmp_path: Path):
    """The first one's second failure says nothing of the place, which the other is judged by."""
    ledger, _ = make_ledger(tmp_path, 4)
    first, second, good = take(ledger), take(ledger), take(ledger)
    for unit in (first, second):
        ledger.failed(unit, failed(unit, "permission"), "actor-1", "cpu", "here")
    ledger.done(good, done(good), "here")
    for unit in (take(ledger), take(ledger)):
        assert unit in (first, second)
        ledger.failed(unit, failed(unit, "permission"), "actor-1", "cpu", "here")
    assert len(ledger.tally.failed) == 2 and not ledger.undecided


def test_no_numbers_again_after_successes_are_the_videos_own(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path, 2)
    good, bad = take(ledger), take(ledger)
    ledger.done(good, done(good), "here")
    for _ in range(2):
        ledger.failed(bad, failed(bad, "not-a-number"), "actor-1", "cpu", "here")
        if ledger.undecided:
            assert ledger.second_chance() and take(ledger) is bad
    assert len(ledger.tally.failed) == 1 and not ledger.undecided


def test_the_breaker_opens_also_after_successes_and_marks_nothing(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path, 6)
    unit = take(ledger)
    ledger.done(unit, done(unit))
    for _ in range(3):
        assert not ledger.broken([""])
        unit = take(ledger)
        ledger.failed(unit, failed(unit, "permission"), "actor-1", "cpu")
    assert ledger.broken([""]) and ledger.undecided == 3 and not ledger.tally.failed and not rows(tmp_path, "failures")


def test_deaths_and_lost_nodes(tmp_path: Path):
    ledger, said = make_ledger(tmp_path, 1)
    ledger.died([take(ledger)], "node-lost", Place("burn-in", 3), **death())
    ledger.died([take(ledger)], "out-of-memory", Place("burn-in", 90), **death())
    assert len(ledger.queue) == 1 and not ledger.tally.failed
    ledger.died([take(ledger)], "deadline", Place("final", 7), **death())
    assert len(ledger.queue) == 0 and list(ledger.tally.failed.values())[0][0] == "deadline"
    names = sorted(path.name.split("-", 1)[1] for path in (tmp_path / "failures").iterdir())
    assert names == ["001-lost.parquet", "002-retried.parquet", "003-final.parquet"]
    assert len(said) == 3 and ledger.tally.attempts == {"node-lost": 1, "out-of-memory": 1, "deadline": 1}


def test_unknown_deaths_end_a_video_only_at_the_same_place_or_after_ten(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path, 1)
    for done_then in (10, 40, 80):
        ledger.died([take(ledger)], "actor-died", Place("final", done_then), **death())
    ledger.died([take(ledger)], "actor-died", None, **death())
    ledger.died([take(ledger)], "actor-died", Place("final", 41), **death())
    assert len(ledger.queue) == 1
    ledger.died([take(ledger)], "actor-died", Place("final", 39), **death())
    assert len(ledger.queue) == 0 and rows(tmp_path, "failures")[-1]["terminal"]
    capped, _ = make_ledger(tmp_path / "capped", 1)
    for number in range(10):
        assert not capped.tally.failed
        capped.died([take(capped)], "actor-died", Place("final", 100 * number), **death())
    assert capped.tally.failed


def test_nobody_of_a_pack_is_blamed_and_each_runs_alone(tmp_path: Path):
    ledger, said = make_ledger(tmp_path, 3)
    pack = ledger.queue.take(pack_cost=1000.0)
    assert len(pack) == 3
    ledger.died(pack, "out-of-memory", None, **death())
    assert not rows(tmp_path, "failures") and "each alone" in said[-1]
    assert [len(ledger.queue.take(pack_cost=1000.0)) for _ in range(4)] == [1, 1, 1, 0]


def test_a_strike_is_tried_once_more(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path, 1)
    for _ in range(2):
        unit = take(ledger)
        ledger.failed(unit, replace(failed(unit, "decoder-crash"), cause="SIGSEGV"), "actor-1", "cpu")
    kept = sorted(rows(tmp_path, "failures"), key=lambda row: row["attempt"])
    assert [(row["cause"], row["terminal"]) for row in kept] == [("SIGSEGV", False), ("SIGSEGV", True)]


def test_struck_units_run_alone(tmp_path: Path):
    """One that fills the device's memory would strike the others of a pack once more, which is their end."""
    ledger, _ = make_ledger(tmp_path, 4)
    for unit in (take(ledger), take(ledger)):
        ledger.failed(unit, failed(unit, "device-out-of-memory"), "actor-1", "cuda")
    assert [len(ledger.queue.take(pack_cost=1000.0)) for _ in range(3)] == [1, 1, 2] and not ledger.tally.failed


def split_ledger(folder: Path) -> tuple[Ledger, dict[str, Unit]]:
    ledger, _ = make_ledger(folder, 1)
    whole = take(ledger)
    parts = {
        "burn-in": replace(whole, unit_id="b" * 32, kind=BURN_IN),
        "first": replace(whole, unit_id="1" * 32, kind=SEGMENT, last=50),
        "second": replace(whole, unit_id="2" * 32, kind=SEGMENT, first=50),
    }
    units = list(parts.values())
    return Ledger(units, {whole.video_key: tuple(units)}, {}, Storage(str(folder)), CONFIG, print), parts


def test_a_lost_bank_is_made_again_before_the_segments_go_on(tmp_path: Path):
    ledger, parts = split_ledger(tmp_path)
    assert take(ledger) is parts["burn-in"] and ledger.queue.take() == ()
    ledger.done(parts["burn-in"], done(parts["burn-in"]))
    assert {take(ledger).unit_id, take(ledger).unit_id} == {"1" * 32, "2" * 32}
    for name in ("first", "second"):  # both actors find out
        ledger.failed(parts[name], failed(parts[name], "bank"), "actor-1", "cpu")
    assert take(ledger) is parts["burn-in"] and ledger.queue.take() == () and len(ledger.queue) == 2
    ledger.done(parts["burn-in"], done(parts["burn-in"]))
    assert len(ledger.queue) == 2 and ledger.queue.available == 2 and not ledger.tally.failed


def test_a_failed_segment_ends_its_video(tmp_path: Path):
    ledger, parts = split_ledger(tmp_path)
    ledger.done(take(ledger), done(parts["burn-in"]))
    first = take(ledger)
    ledger.failed(first, failed(first, "prompt"), "actor-1", "cpu")
    assert len(ledger.queue) == 0 and len(ledger.tally.failed) == 1 and ledger.waiting_cost == pytest.approx(0)


def test_a_failure_that_cannot_be_written_leaves_the_unit_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger, said = make_ledger(tmp_path, 1)
    unit = take(ledger)

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Storage, "publish", refuse)
    ledger.died([unit], "out-of-memory", None, **death())
    assert ledger.undecided == 1 and len(ledger.queue) == 0 and ledger.broken([])
    assert "disk full" in said[-1]


def test_what_remains_of_a_video_that_is_given_up_is_not_worked_on(tmp_path: Path):
    ledger, parts = split_ledger(tmp_path)
    ledger.done(take(ledger), done(parts["burn-in"]))
    first, second = take(ledger), take(ledger)
    ledger.failed(first, failed(first, "prompt"), "actor-1", "cpu")
    ledger.died([second], "node-lost", None, **death())
    ledger.failed(second, failed(second, "bank"), "actor-2", "cpu")
    assert len(ledger.queue) == 0 and len(rows(tmp_path, "failures")) == 1


def test_when_nothing_else_is_left_the_undecided_get_one_more_chance(tmp_path: Path):
    """Also a burn-in that blocks its segments: the run neither waits for ever nor gives up at once."""
    ledger, parts = split_ledger(tmp_path)
    burn_in = take(ledger)
    ledger.failed(burn_in, failed(burn_in, "storage"), "actor-1", "cpu")
    assert ledger.queue.available == 0 and len(ledger.queue) == 2
    assert ledger.second_chance() and take(ledger) is burn_in
    ledger.failed(burn_in, failed(burn_in, "storage"), "actor-1", "cpu")
    assert not ledger.second_chance() and ledger.undecided == 1 and not rows(tmp_path, "failures")


def test_one_moments_fault_of_many_actors_does_not_open_the_breaker(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path, 40)
    unit = take(ledger)
    ledger.done(unit, done(unit))
    for _ in range(8):
        unit = take(ledger)
        ledger.failed(unit, failed(unit, "storage"), "actor-1", "cpu")
    assert not ledger.broken([""] * 8) and ledger.broken([""] * 2)


def test_published_masks_are_done_whatever_breaks_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger, _ = make_ledger(tmp_path, 2)
    for report in (
        lambda unit: ledger.failed(unit, failed(unit, "storage"), "actor-1", "cpu"),
        lambda unit: ledger.died([unit], "actor-died", None, **death()),
    ):
        unit = take(ledger)
        Storage(str(tmp_path)).publish(shard_name(unit.unit_id), b"a shard")
        record = {"status": "done", "mask_rows": 5, "frames_annotated": 9}
        monkeypatch.setattr("cluster.ledger.finalise_video", lambda *_, record=record: record)
        report(unit)
    assert (ledger.tally.mask_rows, ledger.tally.videos) == (10, 2) and not ledger.tally.failed


def test_storage_is_not_asked_for_masks_that_nobody_can_have_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """But it is after what may pass, and after what is found late: another attempt may have got through."""
    ledger, _ = make_ledger(tmp_path, 4)
    asked: list[str] = []
    monkeypatch.setattr(Storage, "exists", lambda self, name: asked.append(name))
    for kind, stage in (("not-a-video", "probe"), ("prompt", "prompts"), ("storage", "fetch"), ("decode", "final")):
        unit = take(ledger)
        ledger.failed(unit, replace(failed(unit, kind), stage=stage), "actor-1", "cpu")
    assert asked == [shard_name(f"{number:032x}") for number in (2, 3)] and len(ledger.tally.failed) == 3


def test_first_line_hides_credentials():
    assert first_line("\n  see https://me:secret@host/a?token=1\nmore") == "see https://host/a"
    assert first_line(ValueError("")) == "ValueError"
