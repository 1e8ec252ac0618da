"""What an output folder says is done: from file names alone, so that a resume needs one listing per table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.blame import LOSSES, STRIKES, Record
from cluster.finalise import row_name
from cluster.plan import Unit

SHARD = re.compile(r"([0-9a-f]{32})\.parquet")
FAILURE = re.compile(r"([0-9a-f]{32})-(\d{3,})-(retried|lost|final)\.parquet")


@dataclass(frozen=True)
class OutputState:
    """Names found in an output folder.

    published: unit ids with masks; failed: unit id -> attempt of its terminal failure; attempts: unit id -> (number,
    kind) of those that failed; rows: names of files in `videos` and `tracks`.
    """

    published: frozenset[str]
    failed: Mapping[str, int]
    attempts: Mapping[str, tuple[tuple[int, str], ...]]
    rows: frozenset[str]

    @staticmethod
    def of(names: Sequence[str]) -> "OutputState":
        """names: paths below the output folder, such as `masks/….parquet`."""
        published, rows = set(), set()
        failed: dict[str, int] = {}
        attempts: dict[str, list[tuple[int, str]]] = {}
        for name in names:
            table, _, file = name.partition("/")
            if table == "masks" and (match := SHARD.fullmatch(file)):
                published.add(match[1])
            elif table == "failures" and (match := FAILURE.fullmatch(file)):
                attempts.setdefault(match[1], []).append((int(match[2]), match[3]))
                if match[3] == "final":
                    failed[match[1]] = max(int(match[2]), failed.get(match[1], 0))
            elif table in ("videos", "tracks"):
                rows.add(name)
        counted = {unit: tuple(sorted(numbers)) for unit, numbers in attempts.items()}
        return OutputState(frozenset(published), failed, counted, frozenset(rows))

    def record(self, unit_id: str, forgive: bool) -> Record:
        """What a run must know of a unit's earlier attempts. forgive: strikes count anew (`--retry-failed`)."""
        before = self.attempts.get(unit_id, ())
        kinds = [] if forgive else [kind for _, kind in before]
        # One short of the end, so that each run tries a unit once more that no run has given up.
        strikes = min(kinds.count("retried"), STRIKES - 1)
        losses = min(kinds.count("lost"), LOSSES - 1)
        return Record(max((number for number, _ in before), default=0), strikes, losses)


@dataclass(frozen=True)
class Todo:
    """The plan's units by what they need: work, only their derived rows, or nothing."""

    work: list[Unit]
    finalise: list[Unit]
    done: list[Unit]
    failed: list[Unit]


def sort_out(units: Sequence[Unit], state: OutputState, retry: Mapping[str, str] | None) -> Todo:
    """retry: unit id -> error class of the failed units to be tried again; None for none."""
    todo = Todo([], [], [], [])
    for unit in units:
        if unit.unit_id in state.published:
            todo.done.append(unit)
            rows = {row_name(table, unit.row.video_id) for table in ("videos", "tracks")}
            # Where a failure is on record too, the row of `videos` may be the failure's.
            if not rows <= state.rows or unit.unit_id in state.failed:
                todo.finalise.append(unit)
        elif unit.unit_id in state.failed and unit.unit_id not in (retry or {}):
            todo.failed.append(unit)
        else:
            todo.work.append(unit)
    return todo
