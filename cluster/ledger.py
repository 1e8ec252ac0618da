"""The fate of every unit of a run: waiting, in flight, done, failed, or undecided while the environment is in doubt."""

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.blame import Breaker, Record
from cluster.failure import ENVIRONMENT_CLASSES, failure_row
from cluster.finalise import finalise_published, publish_failure, shard_name
from cluster.plan import Unit
from cluster.storage import Storage
from cluster.unit import UnitDone, UnitFailed
from schemas.run_config import RunConfig
from schemas.urls import public_url


@dataclass
class Tally:
    """What became of the units in this run."""

    done: list[UnitDone] = field(default_factory=list)
    failed: list[tuple[Unit, str, str]] = field(default_factory=list)
    replaced: int = 0


class Ledger:
    """Decides what each outcome means, and writes failures down. Knows no Ray. say prints a line that stays."""

    def __init__(
        self,
        units: Sequence[Unit],
        records: Mapping[str, Record],
        storage: Storage,
        config: RunConfig,
        say: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self.units = list(units)
        self._queue = collections.deque(units)
        self._records = {unit.unit_id: records.get(unit.unit_id, Record()) for unit in units}
        self._undecided: list[Unit] = []
        self._breaker = Breaker()
        self._storage, self._config, self._say = storage, config, say

    @property
    def waiting(self) -> int:
        """Units that an actor could take now."""
        return len(self._queue)

    @property
    def undecided(self) -> int:
        """Units that the environment failed, without a later success that would show whose fault it was."""
        return len(self._undecided)

    @property
    def broken(self) -> bool:
        """Whether the circuit breaker is open."""
        return self._breaker.open(len(self.units))

    def take(self) -> Unit:
        """The next unit."""
        return self._queue.popleft()

    def done(self, unit: Unit, answer: UnitDone) -> None:
        """A unit is published."""
        self.tally.done.append(answer)
        self.tally.replaced += answer.outcome == "replaced"
        self._judge(None)
        if answer.outcome == "replaced":
            self._say(f"{unit.row.video_id}: an earlier attempt had published other masks; they are replaced")
        if answer.status == "truncated":
            self._say(f"{unit.row.video_id}: truncated, {answer.frames} frames annotated (see the videos table)")

    def failed(self, unit: Unit, answer: UnitFailed, actor: str, device: str) -> None:
        """A unit failed in an orderly way."""
        if self._was_published(unit):
            return
        record = self._records[unit.unit_id]
        worked_since = record.excused > 0  # it was put back because another unit got through
        self._judge(answer.error_class)
        if answer.error_class in ENVIRONMENT_CLASSES and not worked_since:
            self._records[unit.unit_id] = record.excuse()
            self._undecided.append(unit)
            self._say(f"{unit.row.video_id}: {answer.error_class}: {first_line(answer.message)}")
            return
        record = self._records[unit.unit_id] = record.failed()
        facts = {"stage": answer.stage, "error_class": answer.error_class, "cause": "exception"}
        facts |= {"message": answer.message, "frames_done": answer.frames_done, "actor": actor, "device": device}
        self._give_up(unit, attempt=record.attempts, **facts)

    def died(self, unit: Unit, cause: str, **facts: object) -> None:
        """The actor that worked on it is gone. cause: actor-died, out-of-memory or node-lost."""
        if self._was_published(unit):
            return
        before = self._records[unit.unit_id]
        record = self._records[unit.unit_id] = before.lost() if cause == "node-lost" else before.struck()
        facts |= {"attempt": record.attempts, "error_class": cause, "cause": cause}
        if record.finished:
            self._give_up(unit, **facts)
            return
        self._say(f"{facts['actor']} died ({cause}) at {unit.row.video_id}: trying again")
        if self._write(unit, terminal=False, **facts):
            self._queue.appendleft(unit)

    def _was_published(self, unit: Unit) -> bool:
        """Masks that are out are out, whatever broke afterwards: then only the derived rows are missing."""
        try:
            if not self._storage.exists(shard_name(unit.unit_id)):
                return False
            record = finalise_published(self._storage, unit.unit_id)
        except OSError as error:
            self._say(f"{unit.row.video_id}: {first_line(error)}")
            return False
        answer = (record["status"], record["mask_rows"], record["frames_annotated"])
        self.done(unit, UnitDone(unit.unit_id, *answer, seconds=0.0, outcome="same"))
        return True

    def _judge(self, error_class: str | None) -> None:
        """Tells the breaker; once the environment has shown that it works, the units it failed are tried again."""
        self._breaker = self._breaker.after(error_class)
        if not self._breaker.in_a_row and self._undecided:
            self._queue.extend(self._undecided)
            self._undecided.clear()

    def _give_up(self, unit: Unit, **facts: object) -> None:
        if self._write(unit, terminal=True, **facts):
            self.tally.failed.append((unit, facts["error_class"], facts["message"]))
            self._say(f"{unit.row.video_id}: failed ({facts['error_class']}): {first_line(facts['message'])}")

    def _write(self, unit: Unit, **facts: object) -> bool:
        """Writes a failure down. Where that fails, storage is in doubt and the unit undecided."""
        try:
            publish_failure(self._storage, failure_row(unit, **facts), self._config)
        except OSError as error:
            self._say(f"{unit.row.video_id}: its failure cannot be written: {first_line(error)}")
            self._undecided.append(unit)
            self._breaker = self._breaker.after("storage")
            return False
        return True


def first_line(error: object) -> str:
    """The first line of a message, without credentials."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return public_url(lines[0][:300]) if lines else type(error).__name__
