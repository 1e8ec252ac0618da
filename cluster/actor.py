"""The Ray actor: one per GPU (or a share of the CPU), the network loaded once, one unit at a time."""

import os
import shutil
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import ray

from cluster.heartbeat import Beat, Heartbeat
from cluster.plan import Unit
from cluster.storage import Storage
from schemas.run_config import RunConfig

SCRATCH = "stcn-scratch"


@dataclass(frozen=True)
class ActorSettings:
    """What every actor is started with. Credentials are left to the environment and to storage options."""

    config: RunConfig
    checkpoint: str  # URL, or "" for the bundled one
    storage: Storage
    device: str  # cpu, cuda
    threads: int
    ram_bytes: int
    input_options: dict = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Ready:
    """An actor that can work."""

    host: str
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
        # Ray sets OMP_NUM_THREADS=1 where an actor asks for no CPU; torch is told explicitly.
        import torch

        from cluster.checkpoint_fetch import fetch_checkpoint
        from cluster.workbench import Workbench

        settings = self._settings
        torch.set_num_threads(settings.threads)
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f"{self._name}: a GPU was assigned, but torch sees none (driver too old for this torch?)"
            )
        scratch = self._scratch = make_scratch()
        network, info = fetch_checkpoint(settings.checkpoint, scratch, settings.input_options)
        if info.sha256 != settings.config.checkpoint_sha256:
            raise RuntimeError(
                f"{self._name}: checkpoint {info.name} has SHA-256 {info.sha256[:12]} here, "
                f"{settings.config.checkpoint_sha256[:12]} at the driver: give a URL that all nodes read alike"
            )
        network = network.to(settings.device, memory_format=torch.channels_last)
        self._bench = Workbench(
            network=network,
            config=settings.config,
            storage=settings.storage,
            device=settings.device,
            threads=settings.threads,
            scratch=scratch,
            actor=self._name,
            ram_bytes=settings.ram_bytes,
            input_options=settings.input_options,
        )
        return Ready(socket.gethostname(), os.getpid(), settings.device)

    def annotate(self, unit: Unit):
        """UnitDone or UnitFailed. An exception out of here means that the actor itself is broken."""
        from cluster.unit import annotate_unit

        return annotate_unit(unit, self._bench, self._heartbeat)

    @ray.method(concurrency_group="control")
    def beat(self) -> Beat:
        """What the actor is doing now; answers while `annotate` works."""
        return self._heartbeat.beat

    def close(self) -> None:
        """Removes the scratch folder; the driver calls it before it lets an actor go."""
        shutil.rmtree(self._scratch, ignore_errors=True)


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
