"""The fate of every unit of a run: waiting, in flight, done, failed, or undecided while the environment is in doubt."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.blame import Place, Record
from cluster.breaker import Breaker
from cluster.deadline import Rate
from cluster.failure import BANK, ENVIRONMENT_CLASSES, STRIKE_CLASSES, failure_row, never_published
from cluster.finalise import bank_names, delete_bank, finalise_video, publish_failure, shard_name
from cluster.plan import BURN_IN, SEGMENT, Unit, frame_range
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, UnitFailed
from cluster.work_queue import WorkQueue
from schemas.run_config import RunConfig
from schemas.urls import public_url


@dataclass
class Tally:
    """What became of units and videos in this run."""

    units: int = 0
    videos: int = 0
    frames: int = 0
    mask_rows: int = 0
    truncated: int = 0
    replaced: int = 0
    deaths: int = 0
    seconds: float = 0.0  # that actors spent on the units done
    network_seconds: float = 0.0  # of that: network, memory and the making of masks
    video_seconds: float = 0.0  # playing time of the frames done
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)  # video key -> (error class, message)
    attempts: Counter = field(default_factory=Counter)  # failed attempts by error class


class Ledger:
    """Decides what each outcome means, and writes failures down. Knows no Ray. say prints a line that stays.

    units are those to be done; videos all units of their videos by key, done ones included.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        videos: Mapping[str, Sequence[Unit]],
        records: Mapping[str, Record],
        storage: Storage,
        config: RunConfig,
        say: Callable[[str], None],
    ) -> None:
        self.tally, self.rate = Tally(), Rate()
        self.queue = WorkQueue(units)
        self.total_units, self.total_cost = len(units), sum(unit.cost for unit in units)
        self.videos = videos
        self._left: dict[str, set[str]] = {}  # video key -> shards that are not published yet
        for unit in units:
            if unit.has_shard:
                self._left.setdefault(unit.video_key, set()).add(unit.unit_id)
        self._measured: dict[str, list[UnitDone]] = {}
        self._records = dict(records)
        self._undecided: list[Unit] = []
        self._chances: set[str] = set()  # undecided units that were tried once more when nothing else was left
        self._burning: set[str] = set()  # keys of videos whose burn-in is being done again
        self._breaker = Breaker()
        self._storage, self._config, self._say = storage, config, say

    @property
    def undecided(self) -> int:
        """Units that the environment failed, without a later success that would show whose fault it was."""
        return len(self._undecided)

    @property
    def waiting_cost(self) -> float:
        """Predicted work that no actor has begun."""
        return self.queue.cost + sum(unit.cost for unit in self._undecided)

    def broken(self, at_work: Collection[str]) -> bool:
        """Whether the circuit breaker is open. at_work: the place of every actor with units."""
        return self._breaker.open(self.total_units, at_work)

    def suspect(self, actors: Mapping[str, int], at_work: Collection[str]) -> str | None:
        """A place that fails every unit for reasons outside the videos while others work, named once. actors: how many
        there are at each place."""
        place = self._breaker.suspect(actors, at_work)
        if place is not None:
            self._breaker = self._breaker.forget(place)
        return place

    def second_chance(self) -> bool:
        """Puts the undecided units back, each once: where nothing else is left, nothing else can show whose fault it
        was. Says whether there was any."""
        again = [unit for unit in self._undecided if unit.unit_id not in self._chances]
        self._undecided = [unit for unit in self._undecided if unit.unit_id in self._chances]
        self._chances |= {unit.unit_id for unit in again}
        self.queue.put_back(again)
        return bool(again)

    def suspicious(self, units: Sequence[Unit]) -> bool:
        """Whether one of them has cost an attempt before."""
        return any(self._record(unit).suspicious for unit in units)

    def done(self, unit: Unit, answer: UnitDone, place: str = "") -> None:
        """A unit's product is published. place: where its actor runs."""
        tally = self.tally
        tally.units += 1
        tally.seconds += answer.seconds
        tally.frames += answer.frames
        tally.mask_rows += answer.mask_rows
        tally.network_seconds += answer.measured.get("seconds_network", 0.0)
        if unit.probe.fps:
            tally.video_seconds += answer.frames * frame_range(unit.row, self._config)[2] / unit.probe.fps
        if answer.seconds:
            self.rate = self.rate.after(answer.seconds, unit.cost)
        if answer.published is not None and answer.published.outcome == "replaced":
            tally.replaced += 1
            self._say(f"{unit.row.video_id}: an earlier attempt had published other bytes; they are replaced")
        self._judge(None, place)
        if unit.video_key in tally.failed:
            return
        self._measured.setdefault(unit.video_key, []).append(answer)
        if unit.kind == BURN_IN:
            self._burning.discard(unit.video_key)
            self.queue.unlock(unit.video_key)
        else:
            left = self._left[unit.video_key]
            left.discard(unit.unit_id)
            if not left:
                self._video_done(unit, self._measured.pop(unit.video_key))

    def failed(self, unit: Unit, answer: UnitFailed, actor: str, device: str, place: str = "") -> None:
        """A unit failed in an orderly way. place: where its actor runs."""
        if unit.video_key in self.tally.failed:
            return
        # Two requests to storage, which are spared where thousands of files are no videos.
        if not never_published(answer.error_class, answer.stage) and self._was_published(unit):
            return
        record = self._record(unit)
        facts = {"stage": answer.stage, "error_class": answer.error_class, "cause": answer.cause}
        facts |= {"message": answer.message, "frames_done": answer.frames_done, "actor": actor, "device": device}
        # It was put back because another unit got through, and here is where units get through.
        own = record.excused > 0 and self._breaker.trusts(place)
        # Where others get numbers out of the same weights, it would give none in any run.
        own |= answer.error_class == "not-a-number" and unit.unit_id in self._chances and self._breaker.worked
        self._judge(answer.error_class, place, own)
        if answer.error_class in ENVIRONMENT_CLASSES and not own:
            self._undecided.append(unit)
            where = f" on {place}" if place else ""
            self._say(f"{unit.row.video_id}: {answer.error_class}{where}: {first_line(answer.message)}")
        elif answer.error_class == BANK:
            self._after(unit, record.died("bank-lost", None), facts)
        elif answer.error_class in STRIKE_CLASSES:
            self._after(unit, record.struck(), facts)
        else:
            record = self._records[unit.unit_id] = record.failed()
            self._give_up(unit, attempt=record.attempts, **facts)

    def died(self, units: Sequence[Unit], cause: str, place: Place | None, **facts: object) -> None:
        """The actor that worked on them is gone. cause: actor-died, out-of-memory, node-lost or deadline."""
        self.tally.deaths += 1
        given_up = self.tally.failed
        left = [unit for unit in units if unit.video_key not in given_up and not self._was_published(unit)]
        if len(units) > 1:
            # Nobody knows which one it was: each runs alone now, and a death there has one culprit.
            if left:
                self._say(f"{facts['actor']} died ({cause}) at one of {len(left)} small videos: trying each alone")
            self.queue.put_back(left, alone=True)
            return
        for unit in left:
            known = {"stage": place.stage if place else "unknown", "frames_done": place.done if place else 0}
            facts |= {"error_class": cause, "cause": cause}
            self._after(unit, self._record(unit).died(cause, place), known | facts)

    def put_back(self, units: Sequence[Unit]) -> None:
        """Units of a pack that were not begun."""
        self.queue.put_back([unit for unit in units if unit.video_key not in self.tally.failed])

    def _record(self, unit: Unit) -> Record:
        return self._records.get(unit.unit_id, Record())

    def _after(self, unit: Unit, record: Record, facts: Mapping[str, object]) -> None:
        """After a death or a strike: the end, or another attempt."""
        strike = record.strikes > self._record(unit).strikes
        self._records[unit.unit_id] = record
        if record.finished:
            self._give_up(unit, attempt=record.attempts, **facts)
            return
        kind = "retried" if strike else "lost"
        self._say(f"{unit.row.video_id}: {facts['error_class']} on {facts['actor']}: trying again")
        if self._write(unit, kind, attempt=record.attempts, **facts):
            if facts["error_class"] == BANK:
                self._burn_in_again(unit)
            else:
                # In a pack it could take others with it again.
                self.queue.put_back([unit], alone=True)

    def _burn_in_again(self, segment: Unit) -> None:
        self.queue.block(segment)
        if segment.video_key not in self._burning:  # other segments may have found out before
            self._burning.add(segment.video_key)
            burn_in = next(unit for unit in self.videos[segment.video_key] if unit.kind == BURN_IN)
            delete_bank(self._storage, burn_in.unit_id)
            self.queue.lock(burn_in)

    def _was_published(self, unit: Unit) -> bool:
        """What is out is out, whatever broke afterwards: then only the derived rows are missing."""
        name = shard_name(unit.unit_id) if unit.has_shard else bank_names(unit.unit_id)[1]
        try:
            if not self._storage.exists(name):
                return False
            if unit.kind in (BURN_IN, SEGMENT):
                self.done(unit, UnitDone(unit.unit_id, "done", 0, 0, 0.0))
            else:
                row = finalise_video(self._storage, [unit.unit_id])
                answer = (row["status"], row["mask_rows"], row["frames_annotated"])
                self.done(unit, UnitDone(unit.unit_id, *answer, seconds=0.0))
        except OSError as error:
            self._say(f"{unit.row.video_id}: {first_line(error)}")
            return False
        return True

    def _video_done(self, unit: Unit, answers: Sequence[UnitDone]) -> None:
        """All its shards are there. A whole video's rows were derived by its actor, a split one's are now."""
        status = answers[0].status
        if unit.kind == SEGMENT:
            try:
                status = self._finalise(unit, answers)
            except OSError as error:
                self._say(f"{unit.row.video_id}: its rows cannot be written, the next run does it: {first_line(error)}")
        self.tally.videos += 1
        if status == "truncated":
            self.tally.truncated += 1
            self._say(f"{unit.row.video_id}: truncated, the frames that decode are annotated (see the videos table)")

    def _finalise(self, unit: Unit, answers: Sequence[UnitDone]) -> str:
        video = self.videos[unit.video_key]
        shards = [part.unit_id for part in video if part.has_shard]
        measured = None
        # Otherwise some were made by an earlier run, and the times would be too short.
        if len(answers) == len(video) and all(answer.measured for answer in answers):
            measured = {
                name: sum(answer.measured.get(name, 0.0) for answer in answers)
                for name in ("seconds_total", "seconds_fetch", "seconds_burn_in", "seconds_final", "seconds_network")
            }
            for name in ("device", "actor"):
                measured[name] = ", ".join(sorted({answer.measured[name] for answer in answers}))
        published = {answer.unit_id: answer.published for answer in answers if answer.published is not None}
        row = finalise_video(self._storage, shards, measured, published)
        self._delete_bank(unit.video_key)
        return row["status"]

    def _delete_bank(self, video_key: str) -> None:
        for part in self.videos.get(video_key, ()):
            if part.kind == BURN_IN:
                delete_bank(self._storage, part.unit_id)

    def _judge(self, error_class: str | None, place: str, own: bool = False) -> None:
        """Tells the breaker; once the environment has shown that it works, the units it failed are tried again."""
        self._breaker = self._breaker.after(error_class, place, own)
        if not self._breaker.in_a_row and self._undecided:
            undecided, self._undecided = self._undecided, []
            for unit in undecided:
                self._records[unit.unit_id] = self._record(unit).excuse()
            self.put_back(undecided)

    def _give_up(self, unit: Unit, **facts: object) -> None:
        if self._write(unit, "final", **facts):
            self.queue.drop(unit.video_key)
            self._delete_bank(unit.video_key)
            self.tally.failed[unit.video_key] = (str(facts["error_class"]), str(facts["message"]))
            self._say(f"{unit.row.video_id}: failed ({facts['error_class']}): {first_line(facts['message'])}")

    def _write(self, unit: Unit, kind: str, **facts: object) -> bool:
        """Writes a failure down. Where that fails, storage is in doubt and the unit undecided."""
        try:
            publish_failure(self._storage, failure_row(unit, terminal=kind == "final", **facts), kind, self._config)
        except OSError as error:
            self._say(f"{unit.row.video_id}: its failure cannot be written: {first_line(error)}")
            self._undecided.append(unit)
            self._breaker = self._breaker.after("storage")
            return False
        self.tally.attempts[str(facts["error_class"])] += 1
        return True


def telling_line(error: object) -> str:
    """Of a message with a traceback in it the line that names the error, otherwise its first and its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return first_line(named[-1] if named else " ... ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else error)


def first_line(error: object) -> str:
    """The first line of a message, without credentials."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return public_url(lines[0][:300]) if lines else type(error).__name__
