"""What an actor holds for all its units: network, settings, storage, scratch."""

import contextlib
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from cluster.storage import Storage
from schemas.run_config import RunConfig
from stcn_core.network import STCN
from stcn_core.settings import OfflineSettings


@dataclass(frozen=True)
class Workbench:
    """One actor's tools. device is cpu or cuda; ram_bytes the cap for burn-in frames in RAM."""

    network: STCN
    config: RunConfig
    storage: Storage
    device: str
    threads: int
    scratch: Path
    actor: str
    ram_bytes: int
    input_options: dict = field(default_factory=dict)

    def device_profile(self) -> str:
        """What masks are promised equal for: device model, threads, precision, versions. One line of JSON."""
        model = torch.cuda.get_device_name() if self.device.startswith("cuda") else cpu_model()
        profile = {"device": model, "threads": self.threads, "precision": self.config.precision}
        profile |= {name: version(name) for name in ("torch", "framepump", "av", "numpy")}
        return json.dumps(profile, sort_keys=True)


def cpu_model() -> str:
    """The processor's name where the system tells it, otherwise its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def offline_settings(config: RunConfig) -> OfflineSettings:
    """The part of the run's settings that the algorithm takes. Raises ValueError on values out of range."""
    names = OfflineSettings.__dataclass_fields__
    return OfflineSettings(**{name: getattr(config, name) for name in names if hasattr(config, name)})
