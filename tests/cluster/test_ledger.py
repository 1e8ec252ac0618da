"""What each outcome of a unit means, on real storage, without Ray."""

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from cluster.finalise import shard_name
from cluster.ledger import Ledger, first_line
from cluster.plan import Unit
from cluster.source import SourceStat
from cluster.storage import Storage
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
        )
        for number in range(count)
    ]
    said: list[str] = []
    return Ledger(units, {}, Storage(str(folder)), CONFIG, said.append), said


def done(unit: Unit) -> UnitDone:
    return UnitDone(unit.unit_id, "done", 3, 3, 1.0, "created")


def failed(unit: Unit, kind: str, message: str = "it broke") -> UnitFailed:
    return UnitFailed(unit.unit_id, kind, "final", message, 7)


def death(actor: str = "actor-1") -> dict:
    return {"message": "gone", "stage": "burn-in", "frames_done": 3, "actor": actor, "device": "cpu"}


def rows(folder: Path, table: str) -> list[dict]:
    path = folder / table
    return ds.dataset(path).to_table().to_pylist() if path.is_dir() else []


def test_a_bad_video_fails_at_once(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path)
    unit = ledger.take()
    ledger.failed(unit, failed(unit, "not-a-video", "s3://user:pass@host/x?sig=1 is text"), "actor-1", "cpu")
    assert [kind for _, kind, _ in ledger.tally.failed] == ["not-a-video"]
    (row,) = rows(tmp_path, "failures")
    assert row["terminal"] and row["attempt"] == 1 and "pass" not in row["message"] and "sig" not in row["message"]
    assert rows(tmp_path, "videos")[0]["status"] == "failed"


def test_environment_failures_are_tried_again_after_a_success_and_then_count(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path)
    first, second = ledger.take(), ledger.take()
    ledger.failed(first, failed(first, "storage"), "actor-1", "cpu")
    assert ledger.undecided == 1 and not ledger.broken and not rows(tmp_path, "failures")
    ledger.done(second, done(second))
    assert ledger.undecided == 0 and ledger.waiting == 3
    for unit in (ledger.take(), ledger.take()):
        ledger.done(unit, done(unit))
    again = ledger.take()
    assert again is first
    ledger.failed(again, failed(again, "storage"), "actor-1", "cpu")
    assert ledger.tally.failed[0][1] == "storage" and rows(tmp_path, "failures")[0]["terminal"]


def test_the_breaker_opens_also_after_successes_and_marks_nothing(tmp_path: Path):
    ledger, _ = make_ledger(tmp_path, 6)
    unit = ledger.take()
    ledger.done(unit, done(unit))
    for _ in range(3):
        assert not ledger.broken
        unit = ledger.take()
        ledger.failed(unit, failed(unit, "permission"), "actor-1", "cpu")
    assert ledger.broken and ledger.undecided == 3 and not ledger.tally.failed and not rows(tmp_path, "failures")


def test_deaths_and_lost_nodes(tmp_path: Path):
    ledger, said = make_ledger(tmp_path, 1)
    unit = ledger.take()
    ledger.died(unit, "node-lost", **death())
    ledger.died(ledger.take(), "actor-died", **death())
    assert ledger.waiting == 1 and not ledger.tally.failed
    ledger.died(ledger.take(), "out-of-memory", **death())
    assert ledger.waiting == 0 and ledger.tally.failed[0][1] == "out-of-memory"
    names = sorted(path.name.split("-", 1)[1] for path in (tmp_path / "failures").iterdir())
    assert names == ["001-lost.parquet", "002-retried.parquet", "003-final.parquet"]
    assert len(said) == 3


def test_a_failure_that_cannot_be_written_leaves_the_unit_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger, said = make_ledger(tmp_path, 1)
    unit = ledger.take()

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Storage, "publish", refuse)
    ledger.died(unit, "actor-died", **death())
    assert ledger.undecided == 1 and ledger.waiting == 0 and ledger.broken
    assert "disk full" in said[-1]


def test_published_masks_are_done_whatever_breaks_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ledger, _ = make_ledger(tmp_path, 2)
    for report in (
        lambda unit: ledger.failed(unit, failed(unit, "storage"), "actor-1", "cpu"),
        lambda unit: ledger.died(unit, "actor-died", **death()),
    ):
        unit = ledger.take()
        Storage(str(tmp_path)).publish(shard_name(unit.unit_id), b"a shard")
        record = {"status": "done", "mask_rows": 5, "frames_annotated": 9}
        monkeypatch.setattr("cluster.ledger.finalise_published", lambda *_, record=record: record)
        report(unit)
    assert [item.mask_rows for item in ledger.tally.done] == [5, 5] and not ledger.tally.failed


def test_first_line_hides_credentials():
    assert first_line("\n  see https://me:secret@host/a?token=1\nmore") == "see https://host/a"
    assert first_line(ValueError("")) == "ValueError"
