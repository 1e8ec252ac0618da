"""The actors of a run as the driver sees them: asked for, ready, at work, let go."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import ray

from cluster.actor import ActorSettings, AnnotateActor, Ready
from cluster.deadline import Deadline
from cluster.heartbeat import Beat
from cluster.plan import Unit

CLOSE_SECONDS = 5.0


@dataclass
class Worker:
    """One actor. call is what it is waited for by; units is empty while it starts or idles."""

    name: str
    handle: ray.actor.ActorHandle
    call: ray.ObjectRef | None
    started: float
    ready: Ready | None = None
    units: tuple[Unit, ...] = ()
    called: float = 0.0
    open_video: str | None = None  # key of the video that it worked on last
    beat: Beat = field(default_factory=Beat)
    moved: float = 0.0  # when the beat's counter last changed
    answered: float = 0.0  # when its heartbeat last answered
    asked: ray.ObjectRef | None = None

    @property
    def place(self) -> str:
        """Where it runs, as `Ready` says; empty while that is not known."""
        return self.ready.place if self.ready is not None else ""

    @property
    def current(self) -> Unit | None:
        """The unit that it said it works on, if it is one of those it was given."""
        return next((unit for unit in self.units if unit.unit_id == self.beat.unit_id), None)

    def heard(self, beat: Beat, now: float) -> None:
        """An answer of its heartbeat."""
        if beat.ticks != self.beat.ticks:
            self.moved = now
        self.answered, self.beat = now, beat

    def stuck(self, deadline: Deadline, now: float, predicted_seconds: float | None) -> str | None:
        """Why its units are to be taken from it, or None."""
        return deadline.verdict(now, self.called, self.moved, predicted_seconds, self.beat.stage, self.answered)


class Crew:
    """Starts and ends actors. An actor that is lost is never used again: a new one takes its place."""

    def __init__(self, settings: ActorSettings) -> None:
        self.settings = settings
        self.workers: list[Worker] = []
        self._numbers = itertools.count(1)

    @property
    def busy(self) -> list[Worker]:
        """Those that have units."""
        return [worker for worker in self.workers if worker.units]

    @property
    def idle(self) -> list[Worker]:
        """Those that could take units now."""
        return [worker for worker in self.workers if worker.ready is not None and not worker.units]

    @property
    def starting(self) -> list[Worker]:
        """Those that are asked for, and perhaps wait for a node."""
        return [worker for worker in self.workers if worker.ready is None]

    def calls(self) -> dict[ray.ObjectRef, Worker]:
        """What is waited for."""
        return {worker.call: worker for worker in self.workers if worker.call is not None}

    def add(self) -> None:
        """One more actor. Where the cluster has no room yet, asking is what makes an autoscaler add a node."""
        # num_cpus=0 beside a GPU: asking for both would leave GPUs idle on nodes with few CPUs.
        on_gpu = self.settings.device == "cuda"
        resources = {"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": self.settings.threads}
        name = f"actor-{next(self._numbers)}"
        handle = AnnotateActor.options(**resources).remote(name, self.settings)
        self.workers.append(Worker(name, handle, handle.ready.remote(), time.monotonic()))

    def give(self, worker: Worker, units: tuple[Unit, ...]) -> None:
        """Sends units to an idle actor."""
        worker.units = units
        worker.call = worker.handle.annotate.remote(units)
        worker.called = worker.moved = worker.answered = time.monotonic()
        worker.open_video = units[-1].video_key

    def ask(self, worker: Worker) -> None:
        """Takes in the answer of the last question to its heartbeat, if it came, and asks anew."""
        if worker.asked is not None:
            answered, _ = ray.wait([worker.asked], timeout=0)
            if not answered:
                return
            try:
                worker.heard(ray.get(worker.asked), time.monotonic())
            except ray.exceptions.RayError:
                pass  # its units' own call brings the news
        worker.asked = worker.handle.beat.remote()

    def drop(self, worker: Worker) -> None:
        """Ends an actor that is lost or stuck."""
        self.workers = [other for other in self.workers if other is not worker]
        ray.kill(worker.handle)

    def let_go(self, workers: Sequence[Worker]) -> None:
        """Ends actors that are not needed, so that their nodes can go; those at rest tidy up before."""
        closing = [worker.handle.close.remote() for worker in workers if worker.ready and worker.call is None]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        for worker in workers:
            self.drop(worker)
