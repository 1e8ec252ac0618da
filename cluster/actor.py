"""The Ray actor: one per GPU (or a share of the CPU), the network loaded once, one unit at a time."""

import logging
import os
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import ray

from cluster.heartbeat import Beat, Heartbeat
from cluster.plan import Unit
from cluster.storage import Storage
from schemas.run_config import RunConfig

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class UnitFailed:
    """The answer of a unit that failed in an orderly way. Plain values: no exception crosses Ray."""

    unit_id: str
    error_class: str
    stage: str
    message: str
    frames_done: int
    internal: bool


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
        from cluster.unit import Workbench

        settings = self._settings
        torch.set_num_threads(settings.threads)
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f"{self._name}: a GPU was assigned, but torch sees none (driver too old for this torch?)"
            )
        scratch = Path(tempfile.mkdtemp(prefix="stcn-scratch-"))
        self._scratch = scratch
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
        import gc

        from cluster.failure import error_class
        from cluster.unit import annotate_unit

        try:
            return annotate_unit(unit, self._bench, self._heartbeat)
        except Exception as error:
            beat = self._heartbeat.last_work
            kind = error_class(error)
            internal = kind == "internal"
            text = f"{type(error).__name__}: {error}" if internal else str(error)
            if internal:
                log.exception("%s: %s failed", self._name, unit.row.video_id)
            return UnitFailed(unit.unit_id, kind, beat.stage, text, beat.done, internal)
        finally:
            gc.collect()

    @ray.method(concurrency_group="control")
    def beat(self) -> Beat:
        """What the actor is doing now; answers while `annotate` works."""
        return self._heartbeat.beat

    def close(self) -> None:
        """Removes the scratch folder; the driver calls it before it lets an actor go."""
        import shutil

        shutil.rmtree(self._scratch, ignore_errors=True)
