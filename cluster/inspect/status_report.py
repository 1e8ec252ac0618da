"""How far a run is, from storage alone: what `jobs.status` shows."""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.inspect.inspection import (
    DONE,
    FAILED,
    LEFT,
    Output,
    PlannedUnit,
    Unreadable,
    look,
    read_json,
    read_rows,
    video_state,
    video_units,
)
from cluster.inspect.remedy import remedy
from cluster.plan import BURN_IN
from cluster.progress import duration
from cluster.progress_file import AT_WORK, FRESH_SECONDS, PROGRESS_NAME
from cluster.stores.storage import Storage
from cluster.summary import SUMMARY_NAME
from schemas import failures as failures_schema
from schemas import videos as videos_schema

MOST_FAILURES = 2000  # so that a look at a run gone wrong stays a look


@dataclass(frozen=True)
class FailureKind:
    """Failed videos of one error class: how many, what to do, one message as an example."""

    error_class: str
    videos: int
    remedy: str
    example: str


@dataclass(frozen=True)
class Status:
    """One look at a run. Counts are None where the plan is missing.

    state: planning, running, draining, drained, done, stopped (its driver is gone), waiting (nothing is published yet),
    or what the run itself wrote last. units: kind -> (done, planned). last_progress: when the driver last wrote, UTC;
    age in s.
    """

    url: str
    state: str
    videos: int | None
    done: int
    failed: int
    left: int | None
    units: Mapping[str, tuple[int, int]]
    frames_done: int | None
    frames: int | None
    frames_per_second: float | None
    seconds_left: float | None
    actors_busy: int | None
    actors_starting: int | None
    attempts_retried: int
    attempts_lost: int
    failures: Sequence[FailureKind]
    last_progress: str | None
    last_progress_age_s: float | None
    notes: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Plain values. Units as {"kind": {"done": 3, "planned": 5}}."""
        units = {kind: {"done": done, "planned": planned} for kind, (done, planned) in self.units.items()}
        return asdict(self) | {"units": units, "failures": [asdict(kind) for kind in self.failures]}

    def lines(self) -> list[str]:
        """For people."""
        age = "" if self.last_progress_age_s is None else f", last heard of {_ago(self.last_progress_age_s)}"
        shown = [f"{self.url}: {self.state}{age}"]
        if self.videos is None:
            shown.append(f"videos: {self.done} done, {self.failed} failed; no plan, so what is left is not known")
        else:
            shown.append(f"videos: {self.done} of {self.videos} done, {self.failed} failed, {self.left} left")
        if self.units:
            shown.append("units:  " + ", ".join(f"{d} of {n} {kind}" for kind, (d, n) in self.units.items()))
        if self.frames_done is not None:
            of = f" of about {self.frames}" if self.frames else ""
            shown.append(f"frames: {self.frames_done}{of} in finished videos")
        if self.state in AT_WORK:
            shown.append("now:    " + self._pace())
        if self.attempts_retried or self.attempts_lost:
            shown.append(f"attempts: {self.attempts_retried} tried again, {self.attempts_lost} lost with their machine")
        for kind in self.failures:
            shown.append(f"failed: {kind.videos} x {kind.error_class}: {kind.remedy}")
            shown.append(f"        e.g. {kind.example}")
        return shown + [f"note:   {note}" for note in self.notes]

    def _pace(self) -> str:
        parts = []
        if self.frames_per_second is not None:
            parts.append(f"{self.frames_per_second:.1f} frames/s")
        if self.actors_busy is not None:
            parts.append(f"{self.actors_busy} actors busy")
        if self.actors_starting:
            parts.append(f"{self.actors_starting} starting")
        parts.append("time left not known yet" if self.seconds_left is None else f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


def read_status(storage: Storage, now: datetime.datetime | None = None) -> Status:
    """Looks once. now: UTC, for tests. Raises NoOutput where there is nothing, OSError where it cannot be read."""
    output = look(storage)
    now = now or datetime.datetime.now(datetime.UTC)
    notes = [output.plan_error] if output.plan_error else []
    progress = _optional_json(storage, PROGRESS_NAME, notes)
    summary = _optional_json(storage, SUMMARY_NAME, notes)
    attempts = output.failures()
    products = output.products()
    kinds = [kind for before in attempts.values() for _, kind, _ in before]
    terminal = output.terminal()
    if output.plan is None or output.compaction is not None:
        facts, failures = _from_tables(output, notes)
    else:
        facts = _from_plan(output.plan, products, terminal)
        failed = facts.pop("failed_units")
        # A later attempt may be that of a run that tried again and was killed: its row is no final one.
        last = [[name for _, kind, name in attempts[unit_id] if kind == "final"][-1] for unit_id in failed]
        failures = _failure_kinds(storage, last, notes)
    heard = _time(progress.get("time"))
    age = None if heard is None else max(0.0, (now - heard).total_seconds())
    running = age is not None and age <= FRESH_SECONDS and progress.get("state") in AT_WORK
    return Status(
        url=storage.url,
        state=_state(progress, summary, running, facts, bool(products)),
        **facts,
        frames_per_second=_number(progress.get("frames_per_second")),
        seconds_left=_number(progress.get("seconds_left")) if running else None,
        actors_busy=progress.get("actors_busy") if running else None,
        actors_starting=progress.get("actors_starting") if running else None,
        attempts_retried=kinds.count("retried"),
        attempts_lost=kinds.count("lost"),
        failures=failures,
        last_progress=heard.isoformat(timespec="seconds") if heard else None,
        last_progress_age_s=age,
        notes=tuple(notes),
    )


def _state(progress: Mapping, summary: Mapping, running: bool, facts: Mapping, begun: bool) -> str:
    if running:
        return progress["state"]
    said = progress.get("state") or summary.get("state")
    # With failed videos it may be a run that tried these again and was killed.
    if facts["left"] == 0 and not (facts["failed"] and said in AT_WORK):
        return "done"
    # A driver that was killed leaves "running" behind for ever.
    if said in AT_WORK:
        return "stopped"
    if said and said != "done":
        return str(said)
    return "stopped" if begun or said or facts["done"] or facts["failed"] else "waiting"


def _from_plan(plan: Sequence[PlannedUnit], products: frozenset[str], failed: frozenset[str]) -> dict:
    counts: Counter[str] = Counter()
    units: dict[str, list[int]] = {}
    frames_done, frames, known, failed_units = 0, 0, True, set()
    for mine in video_units(plan).values():
        state = video_state(mine, products, failed)
        counts[state] += 1
        if state == FAILED:
            failed_units |= failed & {unit.unit_id for unit in mine}
        else:
            known &= mine[0].frames is not None
            frames += mine[0].frames or 0
            frames_done += (mine[0].frames or 0) if state == DONE else 0
        for unit in mine:
            tally = units.setdefault(unit.kind, [0, 0])
            # A bank is deleted once its video is final.
            tally[0] += unit.unit_id in products or (unit.kind == BURN_IN and state == DONE)
            tally[1] += 1
    return {
        "videos": sum(counts.values()),
        "done": counts[DONE],
        "failed": counts[FAILED],
        "left": counts[LEFT],
        "units": {kind: (done, planned) for kind, (done, planned) in units.items()},
        "frames_done": frames_done if known else None,
        "frames": frames if known else None,
        "failed_units": failed_units,
    }


def _from_tables(output: Output, notes: list[str]) -> tuple[dict, list[FailureKind]]:
    """What the videos table says, where there is no plan, or one of other units (a compacted output)."""
    statuses: Counter[str] = Counter()
    frames = 0
    columns = ["video_id", "status", "frames_annotated"]
    for name, rows in read_rows(output.storage, output.names("videos"), videos_schema, columns):
        if isinstance(rows, Exception):
            notes.append(f"{name}: {rows}")
            continue
        statuses.update(row["status"] for row in rows)
        frames += sum(row["frames_annotated"] or 0 for row in rows)
    failed = statuses.pop(videos_schema.FAILED, 0)
    planned = len(video_units(output.plan)) if output.plan is not None else None
    left = None if planned is None else max(0, planned - failed - sum(statuses.values()))
    facts = {"videos": planned, "done": sum(statuses.values()), "failed": failed, "left": left, "units": {}}
    finals = [n for found in output.failures().values() for _, kind, n in found if kind == "final"]
    names = finals if output.compaction is None else output.names("failures")
    return facts | {"frames_done": frames, "frames": None}, _failure_kinds(
        output.storage, names if failed else [], notes
    )


def _failure_kinds(storage: Storage, names: Sequence[str], notes: list[str]) -> list[FailureKind]:
    if len(names) > MOST_FAILURES:
        notes.append(f"{len(names)} failures; the classes are those of {MOST_FAILURES} of them")
        names = names[:MOST_FAILURES]
    classes: dict[str, str] = {}  # video -> class
    examples: dict[str, str] = {}
    for name, rows in read_rows(storage, names, failures_schema, ["video_id", "terminal", "error_class", "message"]):
        if isinstance(rows, Exception):
            notes.append(f"{name}: {rows}")
            continue
        for row in rows:
            if row["terminal"]:
                classes[row["video_id"]] = row["error_class"]
                examples.setdefault(row["error_class"], f"{row['video_id']}: {row['message']}")
    return [
        FailureKind(kind, count, remedy(kind), examples[kind])
        for kind, count in Counter(classes.values()).most_common()
    ]


def _optional_json(storage: Storage, name: str, notes: list[str]) -> dict:
    try:
        return read_json(storage, name) or {}
    except Unreadable as error:
        notes.append(str(error))
        return {}


def _time(value: object) -> datetime.datetime | None:
    """An ISO 8601 text or seconds since 1970 -> UTC."""
    try:
        if isinstance(value, int | float):
            return datetime.datetime.fromtimestamp(value, datetime.UTC)
        found = datetime.datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{duration(seconds)} ago"
