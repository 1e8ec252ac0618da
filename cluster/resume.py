"""What an output folder says is done: from file names alone, so that a resume needs one listing per table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.blame import Record
from cluster.finalise import row_name
from cluster.plan import Unit

SHARD = re.compile(r"([0-9a-f]{32})\.parquet")
FAILURE = re.compile(r"([0-9a-f]{32})-(\d{3,})-(retried|final)\.parquet")


@dataclass(frozen=True)
class OutputState:
    """Names found in an output folder.

    published: unit ids with masks; failed: unit id -> attempt of its terminal failure; attempts: unit id -> attempts
    that failed; rows: names of files in `videos` and `tracks`.
    """

    published: frozenset[str]
    failed: Mapping[str, int]
    attempts: Mapping[str, tuple[int, ...]]
    rows: frozenset[str]

    @staticmethod
    def of(names: Sequence[str]) -> "OutputState":
        """names: paths below the output folder, such as `masks/….parquet`."""
        published, rows = set(), set()
        failed: dict[str, int] = {}
        attempts: dict[str, list[int]] = {}
        for name in names:
            table, _, file = name.partition("/")
            if table == "masks" and (match := SHARD.fullmatch(file)):
                published.add(match[1])
            elif table == "failures" and (match := FAILURE.fullmatch(file)):
                attempts.setdefault(match[1], []).append(int(match[2]))
                if match[3] == "final":
                    failed[match[1]] = max(int(match[2]), failed.get(match[1], 0))
            elif table in ("videos", "tracks"):
                rows.add(name)
        counted = {unit: tuple(sorted(numbers)) for unit, numbers in attempts.items()}
        return OutputState(frozenset(published), failed, counted, frozenset(rows))

    def record(self, unit_id: str, forgive: bool) -> Record:
        """What a run must know of a unit's earlier attempts. forgive: strikes count anew (`--retry-failed`).

        A retried failure counts as a strike here: only deaths are retried, and losses of nodes are few.
        """
        numbers = self.attempts.get(unit_id, ())
        strikes = 0 if forgive else len(numbers) - (unit_id in self.failed)
        return Record(attempts=max(numbers, default=0), strikes=min(strikes, 1))


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
            if not {row_name(table, unit.row.video_id) for table in ("videos", "tracks")} <= state.rows:
                todo.finalise.append(unit)
        elif unit.unit_id in state.failed and unit.unit_id not in (retry or {}):
            todo.failed.append(unit)
        else:
            todo.work.append(unit)
    return todo
