"""The Ray actor: one per GPU (or a share of the CPU), the network loaded once, one call at a time."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ray

from cluster.config_lock import CONFIG_NAME
from cluster.detector_weights import Detectors, DetectorWeights
from cluster.failure import BROKEN_ACTOR_CLASSES
from cluster.frames.decoder import Decoder
from cluster.heartbeat import Beat, Heartbeat
from cluster.plan import Unit
from cluster.segmenter import Segmenters
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, UnitFailed, annotate_unit
from cluster.workbench import Workbench
from schemas.run_config import RunConfig

SCRATCH = "stcn-scratch"


@dataclass(frozen=True)
class ActorSettings:
    """What every actor is started with. Credentials are left to the environment and to storage options."""

    config: RunConfig
    segmenters: Segmenters
    storage: Storage
    device: str  # cpu, cuda
    threads: int
    ram_bytes: int
    decoder_seconds: float  # a decoder that shows no progress for so long is killed
    nvdec: bool = False
    input_options: dict = field(default_factory=dict, repr=False)
    detectors: dict[str, DetectorWeights] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """An actor that can work. place: its machine and, on a GPU, which one."""

    place: str
    pid: int
    device: str


@ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"control": 1})
class AnnotateActor:
    """Restart and retry belong to the driver: with Ray's own restarts the cause of a death would be hidden."""

    def __init__(self, name: str, settings: ActorSettings) -> None:
        self._name, self._settings = name, settings
        self._heartbeat = Heartbeat()
        self._bench = None

    def ready(self) -> Ready:
        """Loads the network. Slow things are here, so that the constructor cannot fail or hang."""
        settings = self._settings
        if not settings.storage.exists(CONFIG_NAME):
            raise RuntimeError(
                f"{settings.storage.url} is another place on {socket.gethostname()} than at the driver, which wrote "
                f"{CONFIG_NAME} there: give an --output that all nodes share"
            )
        self._scratch = make_scratch()
        settings.segmenters.load(
            settings.config, settings.device, settings.threads, self._scratch, settings.input_options
        )
        self._bench = Workbench(
            segmenters=settings.segmenters,
            decoder=Decoder(stall_seconds=settings.decoder_seconds, nvdec=settings.nvdec),
            config=settings.config,
            storage=settings.storage,
            scratch=self._scratch,
            actor=self._name,
            ram_bytes=settings.ram_bytes,
            input_options=settings.input_options,
            detectors=Detectors(settings.detectors, settings.device, self._scratch, settings.input_options),
        )
        return Ready(_place(), os.getpid(), settings.device)

    def annotate(self, units: tuple[Unit, ...]) -> tuple[UnitDone | UnitFailed, ...]:
        """The answers of the units, one after the other, as far as `answers` goes. An exception out of here means that
        the actor is broken."""
        return answers(units, lambda unit: annotate_unit(unit, self._bench, self._heartbeat))

    @ray.method(concurrency_group="control")
    def beat(self) -> Beat:
        """What the actor is doing now; answers while `annotate` works."""
        return self._heartbeat.beat

    def close(self) -> None:
        """Ends the decoder and removes the scratch folder; the driver calls it before it lets an actor go."""
        if self._bench is not None:
            self._bench.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def answers(units: Sequence[Unit], work: Callable[[Unit], UnitDone | UnitFailed]) -> tuple[UnitDone | UnitFailed, ...]:
    """work's answers, up to the first after which this process is not to be trusted: a device that has failed once
    fails all that follows, and no other unit should be blamed for it. Pure apart from work."""
    found: list[UnitDone | UnitFailed] = []
    for unit in units:
        found.append(work(unit))
        if isinstance(found[-1], UnitFailed) and found[-1].error_class in BROKEN_ACTOR_CLASSES:
            break
    return tuple(found)


def _place() -> str:
    """Node ids tell machines apart that have one name, and nodes that share a machine."""
    context = ray.get_runtime_context()
    gpus = ", ".join(f"GPU {gpu}" for gpu in context.get_accelerator_ids().get("GPU", ()))
    return f"{socket.gethostname()} (node {context.get_node_id()[:8]}{', ' if gpus else ''}{gpus})"


def make_scratch() -> Path:
    """A scratch folder named by host and process; those of processes that are gone are removed.

    A killed actor cannot tidy up after itself: the next one on its node does.
    """
    root, host = Path(tempfile.gettempdir()), socket.gethostname()
    for old in root.glob(f"{SCRATCH}-{host}-*"):
        pid = old.name[len(f"{SCRATCH}-{host}-") :].partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{SCRATCH}-{host}-{os.getpid()}-", dir=root))
