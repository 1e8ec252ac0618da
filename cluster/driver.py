"""The driver: gives units to actors, one each, and owns their life, death, retry and blame."""

import itertools
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray
from ray import exceptions as errors

from cluster.actor import ActorSettings, AnnotateActor, Ready
from cluster.blame import Record
from cluster.exit_codes import ExitCode
from cluster.failure import BROKEN_ACTOR_CLASSES
from cluster.heartbeat import Beat
from cluster.ledger import Ledger, first_line
from cluster.plan import Unit
from cluster.progress import Progress, Standing
from cluster.unit import UnitDone

WAIT_SECONDS = 0.5
BEAT_SECONDS = 2.0
SPARSE_SECONDS = 20.0
SPAWN_FAILURES = 3


@dataclass
class Worker:
    """One actor as the driver sees it. call is what it is waited for by; unit None while it starts or idles."""

    name: str
    handle: ray.actor.ActorHandle
    call: ray.ObjectRef | None
    started: float
    ready: Ready | None = None
    unit: Unit | None = None
    beat: Beat = field(default_factory=Beat)
    asked: ray.ObjectRef | None = None


class Driver:
    """Runs a plan's units on up to `actors` actors. `run` returns an exit code; `ledger.tally` says what happened."""

    def __init__(
        self,
        units: Sequence[Unit],
        records: Mapping[str, Record],
        settings: ActorSettings,
        progress: Progress,
        *,
        actors: int,
        drain_seconds: float,
        ready_seconds: float = 900.0,
        earlier: tuple[int, int] = (0, 0),
    ) -> None:
        self.settings, self.progress = settings, progress
        self.ledger = Ledger(units, records, settings.storage, settings.config, progress.note)
        self._cost = {unit.unit_id: unit.cost for unit in units}
        self._actors, self._drain_seconds, self._ready_seconds = actors, drain_seconds, ready_seconds
        self._earlier_done, self._earlier_failed = earlier
        self._workers: list[Worker] = []
        self._numbers = itertools.count(1)
        self._signal: int | None = None
        self._signals = 0
        self._signal_at = 0.0
        self._spawn_failures = 0
        self._next_spawn = 0.0
        self._warned = False

    def run(self) -> ExitCode:
        """Until all units are terminal, the breaker opens or a signal has drained the run."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        # After ray.init, which installs a SIGTERM handler of its own.
        for number in before:
            signal.signal(number, self._on_signal)
        last_beat = 0.0
        try:
            while self.ledger.waiting or any(worker.unit for worker in self._workers):
                stop = self._must_stop()
                if stop is not None:
                    return stop
                if self._signal is None:
                    self._spawn()
                    self._assign()
                calls = {worker.call: worker for worker in self._workers if worker.call is not None}
                if calls:
                    finished, _ = ray.wait(list(calls), num_returns=1, timeout=WAIT_SECONDS)
                    for call in finished:
                        self._settle(calls[call])
                else:
                    time.sleep(WAIT_SECONDS)
                now = time.monotonic()
                if now - last_beat >= BEAT_SECONDS:
                    self._ask_beats()
                    self._watch(now)
                    last_beat = now
                self.progress.show(self.standing())
            stop = self._must_stop()
            if stop is not None and (self.ledger.waiting or self.ledger.undecided):
                return stop
            if self.ledger.undecided:
                return self._break("no unit got through after these failures")
            failed = self._earlier_failed + len(self.ledger.tally.failed)
            return ExitCode.FAILED_VIDEOS if failed else ExitCode.DONE
        finally:
            self.progress.show(self.standing(), final=True)
            self._let_go(list(self._workers))
            for number, handler in before.items():
                signal.signal(number, handler)

    def standing(self) -> Standing:
        """Where the run is now."""
        tally, cost = self.ledger.tally, self._cost
        ended = [done.unit_id for done in tally.done] + [unit.unit_id for unit, _, _ in tally.failed]
        work = sum(cost[unit_id] for unit_id in ended)
        frames = sum(done.frames for done in tally.done)
        for worker in self._workers:
            if worker.unit is not None and worker.beat.unit_id == worker.unit.unit_id:
                work += worker.unit.cost * worker.beat.work
                frames += worker.beat.written
        return Standing(
            done=self._earlier_done + len(tally.done),
            failed=self._earlier_failed + len(tally.failed),
            total=self._earlier_done + self._earlier_failed + len(cost),
            work=work,
            all_work=sum(cost.values()),
            frames=frames,
            busy=sum(worker.unit is not None for worker in self._workers),
            waiting_actors=sum(worker.ready is None for worker in self._workers),
        )

    def _spawn(self) -> None:
        busy = sum(worker.unit is not None for worker in self._workers)
        wanted = min(self._actors, self.ledger.waiting + busy)
        while len(self._workers) < wanted and time.monotonic() >= self._next_spawn:
            name = f"actor-{next(self._numbers)}"
            on_gpu = self.settings.device == "cuda"
            # num_cpus=0 beside a GPU: asking for both would leave GPUs idle on nodes with few CPUs.
            resources = {"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": self.settings.threads}
            handle = AnnotateActor.options(**resources).remote(name, self.settings)
            self._workers.append(Worker(name, handle, handle.ready.remote(), time.monotonic()))

    def _assign(self) -> None:
        for worker in self._workers:
            if self.ledger.waiting and worker.ready is not None and worker.unit is None:
                worker.unit = self.ledger.take()
                worker.call = worker.handle.annotate.remote(worker.unit)
        if not self.ledger.waiting:
            self._let_go([worker for worker in self._workers if worker.unit is None])

    def _settle(self, worker: Worker) -> None:
        """One answer, or the news that there will be none."""
        call, worker.call = worker.call, None
        try:
            answer = ray.get(call)
        except errors.RayTaskError as error:
            self._broken(worker, error)
        except errors.RayError as error:  # an actor is gone; several of these are no RayActorError
            self._lost(worker, error)
        else:
            if isinstance(answer, Ready):
                worker.ready = answer
                self._spawn_failures = 0
                return
            unit, worker.unit = worker.unit, None
            if isinstance(answer, UnitDone):
                self.ledger.done(unit, answer)
                return
            self.ledger.failed(unit, answer, worker.name, self.settings.device)
            if answer.error_class in BROKEN_ACTOR_CLASSES:
                self._let_go([worker])

    def _lost(self, worker: Worker, error: errors.RayError) -> None:
        """The actor is gone, or must be treated so: its handle is never used again."""
        self._drop(worker)
        ray.kill(worker.handle)
        if worker.unit is None:
            self._could_not_start(worker, error)
            return
        self.ledger.died(
            worker.unit,
            cause_of_death(error),
            message=str(error),
            stage=worker.beat.stage,
            frames_done=worker.beat.done,
            actor=worker.name,
            device=self.settings.device,
        )

    def _broken(self, worker: Worker, error: errors.RayTaskError) -> None:
        """An exception out of an actor: it could not start, or it is broken while it had a unit."""
        self._let_go([worker])
        if worker.unit is None:
            self._could_not_start(worker, error.cause or error)
            return
        facts = {"message": str(error), "stage": worker.beat.stage, "frames_done": worker.beat.done}
        self.ledger.died(worker.unit, "actor-died", actor=worker.name, device=self.settings.device, **facts)

    def _could_not_start(self, worker: Worker, error: object) -> None:
        self._spawn_failures += 1
        self._next_spawn = time.monotonic() + min(60.0, 2.0**self._spawn_failures)
        self.progress.note(f"{worker.name} could not start: {first_line(error)}")
        ready = sum(worker.ready is not None for worker in self._workers)
        if self._spawn_failures >= SPAWN_FAILURES and ready:
            self._actors, self._spawn_failures = ready, 0
            self.progress.note(f"going on with {ready} actor(s)")

    def _must_stop(self) -> ExitCode | None:
        if self.ledger.broken:
            return self._break("several units in a row failed for reasons outside the videos")
        if self._spawn_failures >= SPAWN_FAILURES:
            return self._break(f"{SPAWN_FAILURES} actors in a row could not start")
        now = time.monotonic()
        if self._workers and all(w.ready is None and now - w.started > self._ready_seconds for w in self._workers):
            return self._break(
                f"no actor was ready within {self._ready_seconds:g} s: has the cluster what they ask for?"
            )
        if self._signal is not None:
            working = any(worker.unit for worker in self._workers)
            if self._signals > 1 or not working or now - self._signal_at > self._drain_seconds:
                return self._signal_code()
        return None

    def _break(self, why: str) -> ExitCode:
        self.progress.note(
            f"stopped: {why}. Mend what is said above and run the same command again; "
            "no video was marked as failed for it"
        )
        return ExitCode.CIRCUIT_BREAKER

    def _on_signal(self, number: int, _frame) -> None:
        self._signals += 1
        if self._signal is None:
            self._signal, self._signal_at = number, time.monotonic()
            self.progress.note(f"signal {number}: finishing what is in flight (at most {self._drain_seconds:g} s)")

    def _signal_code(self) -> ExitCode:
        return ExitCode.INTERRUPTED if self._signal == signal.SIGINT else ExitCode.TERMINATED

    def _ask_beats(self) -> None:
        for worker in self._workers:
            if worker.ready is None or worker.unit is None:
                continue
            if worker.asked is not None:
                answered, _ = ray.wait([worker.asked], timeout=0)
                if not answered:
                    continue
                try:
                    worker.beat = ray.get(worker.asked)
                except errors.RayError:
                    pass  # its unit's own call brings the news
            worker.asked = worker.handle.beat.remote()

    def _watch(self, now: float) -> None:
        """Actors that do not come: the cluster may be too small, or a node may hang."""
        late = [worker for worker in self._workers if worker.ready is None]
        for worker in late:
            if now - worker.started > self._ready_seconds and len(late) < len(self._workers):
                self.progress.note(f"{worker.name} was not ready within {self._ready_seconds:g} s: letting it go")
                self._actors = max(1, self._actors - 1)
                self._let_go([worker])
        if late and not self._warned and now - min(w.started for w in late) > SPARSE_SECONDS:
            self._warned = True
            kind = "GPUs" if self.settings.device == "cuda" else "CPUs"
            self.progress.note(
                f"{len(late)} of {len(self._workers)} actors still wait: the cluster may have fewer {kind} than asked "
                "(--actors, --threads), or nodes are starting"
            )

    def _let_go(self, workers: Sequence[Worker]) -> None:
        closing = [worker.handle.close.remote() for worker in workers if worker.ready and worker.call is None]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=5)
        for worker in workers:
            self._drop(worker)
            ray.kill(worker.handle)

    def _drop(self, worker: Worker) -> None:
        self._workers = [other for other in self._workers if other is not worker]


def cause_of_death(error: errors.RayError) -> str:
    """out-of-memory (the unit's own doing), node-lost (nobody's), or actor-died."""
    if isinstance(error, errors.OutOfMemoryError):
        return "out-of-memory"
    # Ray says so in the middle of a long message: the class is ActorDiedError for a lost node, too.
    lost = isinstance(error, errors.NodeDiedError) or getattr(error, "preempted", False)
    return "node-lost" if lost or "node has died" in str(error) else "actor-died"
