"""What an output folder says is done: from file names alone, so that a resume needs one listing per table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cluster.blame import LOSSES, STRIKES, Record
from cluster.finalise import row_name
from cluster.plan import Unit

SHARD = re.compile(r"([0-9a-f]{32})\.parquet")
FAILURE = re.compile(r"([0-9a-f]{32})-(\d{3,})-(retried|lost|final)\.parquet")
BANK = re.compile(r"_run/banks/([0-9a-f]{32})\.json")
TABLES = ("masks", "failures", "videos", "tracks", "_run/banks")


@dataclass(frozen=True)
class OutputState:
    """Names found in an output folder.

    published: unit ids with masks; banks: burn-in units whose bank is there; failed: unit id -> attempt of its terminal
    failure; attempts: unit id -> (number, kind) of those that failed; rows: names of files in `videos` and `tracks`.
    """

    published: frozenset[str]
    banks: frozenset[str]
    failed: Mapping[str, int]
    attempts: Mapping[str, tuple[tuple[int, str], ...]]
    rows: frozenset[str]

    @staticmethod
    def of(names: Iterable[str]) -> "OutputState":
        """names: paths below the output folder, such as `masks/….parquet`."""
        published, banks, rows = set(), set(), set()
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
            elif match := BANK.fullmatch(name):
                banks.add(match[1])
        counted = {unit: tuple(sorted(numbers)) for unit, numbers in attempts.items()}
        return OutputState(frozenset(published), frozenset(banks), failed, counted, frozenset(rows))

    def record(self, unit_id: str, forgive: bool) -> Record:
        """What a run must know of a unit's earlier attempts. forgive: strikes count anew (`--retry-failed`)."""
        before = self.attempts.get(unit_id, ())
        kinds = [] if forgive else [kind for _, kind in before]
        # One short of the end, so that each run tries a unit once more that no run has given up.
        strikes = min(kinds.count("retried"), STRIKES - 1)
        losses = min(kinds.count("lost"), LOSSES - 1)
        return Record(max((number for number, _ in before), default=0), strikes, losses)

    def has(self, unit: Unit) -> bool:
        """Whether the unit's product is there."""
        return unit.unit_id in (self.published if unit.has_shard else self.banks)


@dataclass(frozen=True)
class Todo:
    """A plan's videos by what they need: work (its units, and all units of videos that are split), only their derived
    rows, or nothing."""

    work: list[Unit] = field(default_factory=list)
    videos: dict[str, tuple[Unit, ...]] = field(default_factory=dict)
    finalise: list[tuple[Unit, ...]] = field(default_factory=list)
    finalise_failed: list[str] = field(default_factory=list)  # failed units whose video has no row yet
    leftover_banks: list[str] = field(default_factory=list)  # burn-in units whose bank nobody needs any more
    done: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Videos of the plan."""
        return self.done + self.failed + len(self.videos)


def by_video(units: Sequence[Unit]) -> Iterable[tuple[Unit, ...]]:
    """A plan's units, video by video, as they stand next to each other in it."""
    for _, members in groupby(units, lambda unit: unit.video_key):
        yield tuple(members)


def sort_out(units: Sequence[Unit], state: OutputState, retry: Mapping[str, str] | None) -> Todo:
    """retry: unit id -> error class of the failed units to be tried again; None for none."""
    work, videos, finalise, finalise_failed, leftover = [], {}, [], [], []
    done = failed = 0
    for video in by_video(units):
        shards = [unit for unit in video if unit.has_shard]
        lost = [unit.unit_id for unit in video if unit.unit_id in state.failed and not state.has(unit)]
        banks = [unit.unit_id for unit in video if not unit.has_shard and state.has(unit)]
        if all(map(state.has, shards)):
            done += 1
            leftover += banks
            rows = {row_name(table, video[0].row.video_id) for table in ("videos", "tracks")}
            # Where a failure is on record too, the row of `videos` may be the failure's.
            if not rows <= state.rows or any(unit.unit_id in state.failed for unit in video):
                finalise.append(video)
        elif lost and not any(unit_id in (retry or {}) for unit_id in lost):
            failed += 1
            leftover += banks
            if row_name("videos", video[0].row.video_id) not in state.rows:
                finalise_failed.append(lost[0])
        else:
            videos[video[0].video_key] = video
            work += [unit for unit in video if not state.has(unit)]
    return Todo(work, videos, finalise, finalise_failed, leftover, done, failed)
