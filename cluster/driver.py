"""The driver: gives units to actors, one each, and owns their life, death, retry and blame."""

import collections
import itertools
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray
from ray import exceptions as errors

from cluster.actor import ActorSettings, AnnotateActor, Ready, UnitFailed
from cluster.blame import Breaker, Record
from cluster.exit_codes import ExitCode
from cluster.failure import ENVIRONMENT_CLASSES, failure_row
from cluster.finalise import publish_failure
from cluster.heartbeat import Beat
from cluster.plan import Unit
from cluster.progress import Progress, Standing
from cluster.storage import Storage
from cluster.unit import UnitDone

# An actor is gone. Several of these are no RayActorError, so the family is listed.
WORKER_LOST = (
    errors.RayActorError,
    errors.WorkerCrashedError,
    errors.OutOfMemoryError,
    errors.NodeDiedError,
    errors.TaskCancelledError,
    errors.ActorUnschedulableError,
    errors.ObjectLostError,
    errors.OwnerDiedError,
    errors.LocalRayletDiedError,
)
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


@dataclass
class Tally:
    """What became of the units in this run."""

    done: list[UnitDone] = field(default_factory=list)
    failed: list[tuple[Unit, str, str]] = field(default_factory=list)
    replaced: int = 0


class Driver:
    """Runs a plan's units on up to `actors` actors. `run` returns an exit code; `tally` says what happened."""

    def __init__(
        self,
        units: Sequence[Unit],
        records: Mapping[str, Record],
        settings: ActorSettings,
        storage: Storage,
        progress: Progress,
        *,
        actors: int,
        drain_seconds: float,
        ready_seconds: float = 900.0,
        earlier: tuple[int, int] = (0, 0),
    ) -> None:
        self.settings, self.storage, self.progress = settings, storage, progress
        self.tally = Tally()
        self._queue = collections.deque(units)
        self._units = list(units)
        self._records = {unit.unit_id: records.get(unit.unit_id, Record()) for unit in units}
        self._actors, self._drain_seconds, self._ready_seconds = actors, drain_seconds, ready_seconds
        self._earlier_done, self._earlier_failed = earlier
        self._workers: list[Worker] = []
        self._numbers = itertools.count(1)
        self._breaker = Breaker()
        self._undecided: list[Unit] = []  # failed by the environment's fault, until it is clear whether it works at all
        self._signal: int | None = None
        self._signals = 0
        self._signal_at = 0.0
        self._spawn_failures = 0
        self._warned = False

    def run(self) -> ExitCode:
        """Until all units are terminal, the breaker opens or a signal has drained the run."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        # After ray.init, which installs a SIGTERM handler of its own.
        for number in before:
            signal.signal(number, self._on_signal)
        last_beat = 0.0
        try:
            while self._queue or any(worker.unit for worker in self._workers):
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
            if stop is not None and (self._queue or self._undecided):
                return stop
            failed = self._earlier_failed + len(self.tally.failed)
            return ExitCode.FAILED_VIDEOS if failed else ExitCode.DONE
        finally:
            self.progress.show(self.standing(), final=True)
            self._let_go(list(self._workers))
            for number, handler in before.items():
                signal.signal(number, handler)

    def standing(self) -> Standing:
        """Where the run is now."""
        cost = {unit.unit_id: unit.cost for unit in self._units}
        ended = [done.unit_id for done in self.tally.done] + [unit.unit_id for unit, _, _ in self.tally.failed]
        work = sum(cost[unit_id] for unit_id in ended)
        frames = sum(done.frames for done in self.tally.done)
        for worker in self._workers:
            if worker.unit is not None and worker.beat.unit_id == worker.unit.unit_id:
                work += worker.unit.cost * worker.beat.work
                frames += worker.beat.written
        return Standing(
            done=self._earlier_done + len(self.tally.done),
            failed=self._earlier_failed + len(self.tally.failed),
            total=self._earlier_done + self._earlier_failed + len(self._units),
            work=work,
            all_work=sum(cost.values()),
            frames=frames,
            busy=sum(worker.unit is not None for worker in self._workers),
            waiting_actors=sum(worker.ready is None for worker in self._workers),
        )

    def _spawn(self) -> None:
        wanted = min(self._actors, len(self._queue) + sum(worker.unit is not None for worker in self._workers))
        while len(self._workers) < wanted:
            name = f"actor-{next(self._numbers)}"
            on_gpu = self.settings.device == "cuda"
            # num_cpus=0 beside a GPU: asking for both would leave GPUs idle on nodes with few CPUs.
            resources = {"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": self.settings.threads}
            handle = AnnotateActor.options(**resources).remote(name, self.settings)
            self._workers.append(Worker(name, handle, handle.ready.remote(), time.monotonic()))

    def _assign(self) -> None:
        for worker in self._workers:
            if self._queue and worker.ready is not None and worker.unit is None:
                worker.unit = self._queue.popleft()
                worker.call = worker.handle.annotate.remote(worker.unit)
        if not self._queue:
            self._let_go([worker for worker in self._workers if worker.unit is None])

    def _settle(self, worker: Worker) -> None:
        """One answer, or the news that there will be none."""
        call, worker.call = worker.call, None
        try:
            answer = ray.get(call)
        except WORKER_LOST as error:
            self._lost(worker, error)
        except errors.RayTaskError as error:
            self._broken(worker, error)
        else:
            if isinstance(answer, Ready):
                worker.ready = answer
                self._spawn_failures = 0
            elif isinstance(answer, UnitDone):
                self._done(worker, answer)
            else:
                self._failed(worker, answer)

    def _done(self, worker: Worker, answer: UnitDone) -> None:
        unit, worker.unit = worker.unit, None
        self.tally.done.append(answer)
        self.tally.replaced += answer.outcome == "replaced"
        self._judge(None)
        if answer.outcome == "replaced":
            self.progress.note(f"{unit.row.video_id}: an earlier attempt had published other masks; they are replaced")
        if answer.status == "truncated":
            self.progress.note(
                f"{unit.row.video_id}: truncated, {answer.frames} frames annotated (see the videos table)"
            )

    def _failed(self, worker: Worker, answer: UnitFailed) -> None:
        unit, worker.unit = worker.unit, None
        trusted = self._breaker.closed_for_good
        self._judge(answer.error_class)
        if answer.error_class in ENVIRONMENT_CLASSES and not trusted:
            # Not marked as failed: the fault lies outside the video, and may lie outside all of them.
            self._undecided.append(unit)
            self.progress.note(f"{unit.row.video_id}: {answer.error_class}: {_first_line(answer.message)}")
            return
        record = self._records[unit.unit_id] = self._records[unit.unit_id].failed()
        self._give_up(
            unit,
            worker,
            attempt=record.attempts,
            stage=answer.stage,
            error_class=answer.error_class,
            cause="exception",
            message=answer.message,
            frames_done=answer.frames_done,
        )

    def _judge(self, error_class: str | None) -> None:
        """Tells the breaker; once the environment has proved to work, the units it failed are tried again."""
        self._breaker = self._breaker.after(error_class)
        if self._breaker.closed_for_good and self._undecided:
            self._queue.extendleft(self._undecided)
            self._undecided.clear()

    def _lost(self, worker: Worker, error: Exception) -> None:
        """The actor is gone; what it worked on goes back into the queue unless it has done this before."""
        unit = worker.unit
        self._drop(worker)
        if unit is None:
            self._spawn_failures += 1
            self.progress.note(f"{worker.name} died while starting: {_first_line(error)}")
            return
        preempted = bool(getattr(error, "preempted", False))
        by_node = isinstance(error, errors.NodeDiedError) or preempted or "node" in _first_line(error).lower()
        before = self._records[unit.unit_id]
        record = self._records[unit.unit_id] = before.lost() if by_node else before.struck()
        cause = "node-lost" if by_node else "actor-died"
        if isinstance(error, errors.OutOfMemoryError):
            cause = "out-of-memory"
        facts = {
            "attempt": record.attempts,
            "stage": worker.beat.stage,
            "error_class": cause,
            "cause": cause,
            "message": str(error),
            "frames_done": worker.beat.done,
        }
        if record.finished:
            self._give_up(unit, worker, **facts)
        else:
            self.progress.note(f"{worker.name} died ({cause}) at {unit.row.video_id}: trying again")
            row = failure_row(unit, terminal=False, actor=worker.name, **facts)
            publish_failure(self.storage, row, self.settings.config)
            self._queue.appendleft(unit)

    def _broken(self, worker: Worker, error: errors.RayTaskError) -> None:
        """An exception out of an actor: starting failed, or our own bug. Never a strike against a video."""
        unit, worker.unit = worker.unit, None
        self._spawn_failures += 1
        self.progress.note(f"{worker.name}: {_first_line(error.cause or error)}")
        if unit is not None:
            self._queue.appendleft(unit)
        self._let_go([worker])

    def _give_up(self, unit: Unit, worker: Worker, **facts) -> None:
        row = failure_row(unit, terminal=True, actor=worker.name, device=self.settings.device, **facts)
        publish_failure(self.storage, row, self.settings.config)
        self.tally.failed.append((unit, facts["error_class"], facts["message"]))
        self.progress.note(f"{unit.row.video_id}: failed ({facts['error_class']}): {_first_line(facts['message'])}")

    def _must_stop(self) -> ExitCode | None:
        if self._breaker.open(len(self._units)):
            self.progress.note(
                "stopped: the first units all failed for reasons outside the videos. Mend what is said above and run "
                "the same command again; no video was marked as failed"
            )
            return ExitCode.CIRCUIT_BREAKER
        if self._spawn_failures >= SPAWN_FAILURES:
            self.progress.note(f"stopped: {SPAWN_FAILURES} actors in a row could not start")
            return ExitCode.CIRCUIT_BREAKER
        if self._signal is not None:
            working = any(worker.unit for worker in self._workers)
            if self._signals > 1 or not working or time.monotonic() - self._signal_at > self._drain_seconds:
                return self._signal_code()
        return None

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
                except (*WORKER_LOST, errors.RayTaskError):
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
        closing = [worker.handle.close.remote() for worker in workers if worker.ready and worker.unit is None]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=5)
        for worker in workers:
            self._drop(worker)
            ray.kill(worker.handle)

    def _drop(self, worker: Worker) -> None:
        self._workers = [other for other in self._workers if other is not worker]


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
