"""The driver: gives units to actors and owns their life, death, retry and blame."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray import exceptions as errors

from cluster.actor import Ready
from cluster.blame import Place
from cluster.crew import Crew, Worker
from cluster.deadline import Deadline
from cluster.exit_codes import ExitCode
from cluster.failure import BROKEN_ACTOR_CLASSES
from cluster.ledger import Ledger, telling_line
from cluster.progress import Standing
from cluster.unit import UnitDone
from cluster.work_queue import pack_cost

WAIT_SECONDS = 0.25
BEAT_SECONDS = 2.0
CAPACITY_SECONDS = 10.0
SPARSE_SECONDS = 20.0
SPAWN_FAILURES = 3
FIRST_SECONDS = 5.0
START_SECONDS = 60.0
SAME_MOMENT_SECONDS = 5.0
CAP_SECONDS = 300.0
SECOND_CHANCE_SECONDS = 5.0


@dataclass(frozen=True)
class DriverSettings:
    """actors is the number wanted now, asked again and again as nodes come and go. Seconds; None = no limit. began:
    when the job did, of which planning is a part (time.monotonic()); None = now."""

    actors: Callable[[], int]
    drain_seconds: float = 30.0
    ready_seconds: float = 900.0
    job_seconds: float | None = None
    began: float | None = None
    deadline: Deadline = Deadline()


class Driver:
    """Works a ledger's units off. `run` returns an exit code; `ledger.tally` says what happened.

    note prints a line that stays; show takes the standing at every turn of the loop. earlier: videos done and failed
    by earlier runs.
    """

    def __init__(
        self,
        ledger: Ledger,
        crew: Crew,
        settings: DriverSettings,
        note: Callable[[str], None],
        show: Callable[[Standing], None],
        earlier: tuple[int, int] = (0, 0),
    ) -> None:
        self.ledger, self.crew, self.settings = ledger, crew, settings
        self._note, self._show, self._earlier = note, show, earlier
        self._videos = len(ledger.videos)
        self._wanted = max(1, settings.actors())
        self._wanted_at = time.monotonic()
        self._started = time.monotonic()
        self._job_began = self._started if settings.began is None else settings.began
        self._signal: int | None = None
        self._signals = 0
        self._signal_at = 0.0
        self._spawn_failures = 0
        self._counted_at = float("-inf")  # when the last failed start was counted
        self._next_spawn = 0.0
        self._cap: int | None = None  # fewer actors than wanted, because more do not start
        self._cap_until = 0.0
        self._cap_seconds = CAP_SECONDS / 2
        self._broken_at: float | None = None
        self._aside: dict[str, tuple[float, float]] = {}  # place -> (until when, for how many seconds)
        self._warned = False

    def run(self) -> ExitCode:
        """Until all units are terminal, the breaker opens or a signal has drained the run."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        # After ray.init, which installs a SIGTERM handler of its own.
        for number in before:
            signal.signal(number, self._on_signal)
        last_beat = 0.0
        try:
            while self._work_left():
                stop = self._must_stop()
                if stop is not None:
                    return stop
                if self._signal is None and self._broken_at is None:
                    self._spawn()
                    self._assign()
                self._wait()
                self._set_aside()
                now = time.monotonic()
                regular = now - last_beat >= BEAT_SECONDS
                for worker in self.crew.busy:
                    if regular or self.ledger.suspicious(worker.units):
                        self.crew.ask(worker)
                if regular:
                    self._watch(now)
                    last_beat = now
                self._show(self.standing())
            stop = self._must_stop()
            if stop is not None and (len(self.ledger.queue) or self.ledger.undecided):
                return stop
            if self.ledger.undecided:
                return self._break("no unit got through after these failures")
            failed = self._earlier[1] + len(self.ledger.tally.failed)
            return ExitCode.FAILED_VIDEOS if failed else ExitCode.DONE
        finally:
            self._show(self.standing())
            self.crew.let_go(list(self.crew.workers))
            for number, handler in before.items():
                signal.signal(number, handler)

    def _work_left(self) -> bool:
        """Whether anything can be waited for. Units that the environment failed are tried once more at the end."""
        if self.ledger.queue.available or self.crew.busy:
            return True
        if not self.ledger.undecided or self._signal is not None:
            return False
        time.sleep(SECOND_CHANCE_SECONDS)
        return self.ledger.second_chance()

    def standing(self) -> Standing:
        """Where the run is now."""
        tally = self.ledger.tally
        unfinished, frames = self.ledger.waiting_cost, tally.frames
        busy = self.crew.busy
        for worker in busy:
            unfinished += sum(unit.cost for unit in worker.units)
            current = worker.current
            if current is not None:
                unfinished -= current.cost * worker.beat.work
                frames += worker.beat.written
        done, failed = self._earlier
        return Standing(
            done=done + tally.videos,
            failed=failed + len(tally.failed),
            total=done + failed + self._videos,
            units=tally.units,
            all_units=self.ledger.total_units,
            work=self.ledger.total_cost - unfinished,
            all_work=self.ledger.total_cost,
            frames=frames,
            busy=len(busy),
            waiting_actors=len(self.crew.starting),
            queued=len(self.ledger.queue),
            draining=self._signal is not None,
        )

    def _wait(self) -> None:
        calls = self.crew.calls()
        if not calls:
            time.sleep(WAIT_SECONDS)
            return
        finished, _ = ray.wait(list(calls), num_returns=1, timeout=WAIT_SECONDS)
        if finished:
            # What else has come in the meantime, so that many short calls need not wait for a turn each.
            finished, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for call in finished:
            self._settle(calls[call])

    def _spawn(self) -> None:
        now = time.monotonic()
        if now - self._wanted_at > CAPACITY_SECONDS:
            self._wanted, self._wanted_at = max(self._wanted, self.settings.actors()), now
        wanted = min(self._wanted, len(self.ledger.queue) + len(self.crew.busy))
        if self._cap is not None and now < self._cap_until:
            wanted = min(wanted, self._cap)
        while len(self.crew.workers) < wanted and now >= self._next_spawn:
            self.crew.add()

    def _assign(self) -> None:
        queue = self.ledger.queue
        for worker in self._fit():
            cost = pack_cost(self.ledger.rate.per_cost, queue.cost, self._wanted)
            units = queue.take(worker.open_video, cost)
            if not units:
                break
            self.crew.give(worker, units)
        # Segments of a video whose burn-in is under way are waited for.
        surplus = len(self.crew.idle) - len(queue)
        if surplus > 0:
            self.crew.let_go(self.crew.idle[:surplus])

    def _settle(self, worker: Worker) -> None:
        """One answer, or the news that there will be none."""
        call, worker.call = worker.call, None
        try:
            answer = ray.get(call)
        except errors.RayTaskError as error:
            self._lost(worker, "actor-died", error.cause or error, raised=True)
        except errors.RayError as error:  # an actor is gone; several of these are no RayActorError
            self._lost(worker, cause_of_death(error), error)
        else:
            if isinstance(answer, Ready):
                worker.ready = answer
                self._spawn_failures = 0
                return
            units, worker.units = worker.units, ()
            self.ledger.put_back(units[len(answer) :])
            broken = False
            for unit, result in zip(units, answer, strict=False):
                if isinstance(result, UnitDone):
                    self.ledger.done(unit, result, worker.place)
                else:
                    self.ledger.failed(unit, result, worker.name, self.crew.settings.device, worker.place)
                    broken = broken or result.error_class in BROKEN_ACTOR_CLASSES
            if broken:
                self.crew.let_go([worker])

    def _lost(self, worker: Worker, cause: str, error: object, raised: bool = False) -> None:
        """The actor is gone, or must be treated so: its handle is never used again. raised: it said so itself."""
        self.crew.drop(worker)
        if not worker.units:
            if cause == "node-lost":
                self._note(f"{worker.name} was lost with its node while it started")
            else:
                self._could_not_start(worker, error, raised)
            return
        place = None
        if worker.current is not None:
            place = Place(worker.beat.stage, worker.beat.done)
        elif self.ledger.suspicious(worker.units):
            place = Place("start", 0)  # asked at every turn, it died before its first answer
        self.ledger.died(
            worker.units, cause, place, message=str(error), actor=worker.name, device=self.crew.settings.device
        )

    def _could_not_start(self, worker: Worker, error: object, raised: bool) -> None:
        now = time.monotonic()
        # Actors that vanish at one moment went with one node, whatever Ray calls it: they count once.
        if raised or now - self._counted_at > SAME_MOMENT_SECONDS:
            self._spawn_failures += 1
            self._counted_at = now
        self._next_spawn = now + min(60.0, 2.0**self._spawn_failures)
        self._note(f"{worker.name} could not start: {telling_line(error)}")
        ready = sum(worker.ready is not None for worker in self.crew.workers)
        if self._spawn_failures >= SPAWN_FAILURES and ready:
            self._limit(ready)

    def _limit(self, actors: int) -> None:
        """No more than so many actors for a while, each time for longer."""
        now = time.monotonic()
        if now >= self._cap_until:  # otherwise it is the same trouble still
            self._cap_seconds = min(2 * self._cap_seconds, 3600.0)
        self._cap, self._cap_until, self._spawn_failures = max(1, actors), now + self._cap_seconds, 0
        self._note(f"going on with {self._cap} actor(s); more are tried again in {self._cap_seconds / 60:.0f} min")

    def _must_stop(self) -> ExitCode | None:
        if self._is_broken():
            return self._break("several units in a row failed for reasons outside the videos")
        if self._spawn_failures >= SPAWN_FAILURES:
            return self._break(f"{SPAWN_FAILURES} actors in a row could not start")
        now, allowed = time.monotonic(), self.settings.ready_seconds
        starting = self.crew.starting
        if starting and len(starting) == len(self.crew.workers) and all(now - w.started > allowed for w in starting):
            return self._break(f"no actor was ready within {allowed:g} s: has the cluster what they ask for?")
        if self._signal is None and self.settings.job_seconds and now - self._job_began > self.settings.job_seconds:
            self._drain(signal.SIGTERM, f"the job's time is over ({self.settings.job_seconds:g} s)")
        if self._signal is not None:
            if self._signals > 1 or not self.crew.busy or now - self._signal_at > self.settings.drain_seconds:
                return ExitCode.INTERRUPTED if self._signal == signal.SIGINT else ExitCode.TERMINATED
        return None

    def _is_broken(self) -> bool:
        """Whether the breaker is open and what was in flight has ended: a success among it closes the breaker."""
        now = time.monotonic()
        # Those that were asked for at first and are not ready yet may still show that the environment works.
        first = self._started + FIRST_SECONDS if now - self._started < START_SECONDS else 0.0
        coming = [worker.name for worker in self.crew.starting if worker.started < first]
        if not self.ledger.broken([*self._places_at_work(), *coming]):
            self._broken_at = None
            return False
        if self._broken_at is None:
            self._broken_at = now
            self._note(f"units fail for reasons outside the videos: waiting for the {len(self.crew.busy)} in flight")
        return not self.crew.busy or now - self._broken_at > self.settings.drain_seconds

    def _places_at_work(self) -> list[str]:
        return [worker.place for worker in self.crew.busy]

    def _set_aside(self) -> None:
        """Does without a machine or GPU that fails every unit while others work, each time for longer."""
        actors = Counter(worker.place for worker in self.crew.workers)
        place = self.ledger.suspect(actors, self._places_at_work())
        if place is not None:
            _, before = self._aside.get(place, (0.0, CAP_SECONDS / 2))
            seconds = min(2 * before, 3600.0)
            self._aside[place] = (time.monotonic() + seconds, seconds)
            self._note(
                f"{place}: units in a row failed there for reasons outside the videos, while others work: it gets no "
                f"more for {seconds / 60:.0f} min. Look at that machine"
            )

    def _fit(self) -> list[Worker]:
        """Idle actors that may be given units. Those at a place set aside are kept without: they hold the room there,
        so that Ray starts no other actor in it. With nobody else to try, all are fit."""
        now = time.monotonic()
        idle = self.crew.idle
        fit = [worker for worker in idle if now >= self._aside.get(worker.place, (0.0, 0.0))[0]]
        return fit if fit or self.crew.busy or self.crew.starting else idle

    def _break(self, why: str) -> ExitCode:
        self._note(
            f"stopped: {why}. Mend what is said above and run the same command again; "
            "no video was marked as failed for it"
        )
        return ExitCode.CIRCUIT_BREAKER

    def _on_signal(self, number: int, _frame) -> None:
        self._signals += 1
        if self._signal is None:
            self._drain(number, f"signal {number}")

    def _drain(self, number: int, why: str) -> None:
        self._signal, self._signal_at = number, time.monotonic()
        self._note(f"{why}: finishing what is in flight (at most {self.settings.drain_seconds:g} s)")

    def _watch(self, now: float) -> None:
        """Actors that are stuck or do not come: a decoder's process is watched by its actor, the rest from here."""
        for worker in self.crew.busy:
            predicted = self.ledger.rate.predict(sum(unit.cost for unit in worker.units))
            why = worker.stuck(self.settings.deadline, now, predicted)
            if why is not None:
                self._lost(worker, "deadline", f"{worker.name} was ended: {why}")
        starting = self.crew.starting
        if starting and not self._warned and now - min(w.started for w in starting) > SPARSE_SECONDS:
            self._warned = True
            kind = "GPUs" if self.crew.settings.device == "cuda" else "CPUs"
            self._note(
                f"{len(starting)} of {len(self.crew.workers)} actors still wait: the cluster may have fewer {kind} "
                "than asked (--actors, --threads), or nodes are starting"
            )
        late = [worker for worker in starting if now - worker.started > self.settings.ready_seconds]
        # No capacity, or a node that hangs: as long as others work, that is no reason to stop.
        if late and len(starting) < len(self.crew.workers):
            who = f"{late[0].name} was" if len(late) == 1 else f"{len(late)} actors were"
            self._note(f"{who} not ready within {self.settings.ready_seconds:g} s: going on without")
            self.crew.let_go(late)
            self._limit(len(self.crew.workers))


def cause_of_death(error: errors.RayError) -> str:
    """out-of-memory (the unit's own doing), node-lost (nobody's), or actor-died."""
    if isinstance(error, errors.OutOfMemoryError):
        return "out-of-memory"
    # Ray says so in the middle of a long message: the class is ActorDiedError for a lost node, too.
    lost = isinstance(error, errors.NodeDiedError) or getattr(error, "preempted", False)
    return "node-lost" if lost or "node has died" in str(error) else "actor-died"
