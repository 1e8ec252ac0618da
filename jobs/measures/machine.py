"""What a report says of the machine: hardware, versions, load."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cluster.segmenter import cpu_model

PACKAGES = ("torch", "numpy", "framepump", "av", "rlemasklib", "pyarrow", "stcnbuf")
# Of a processor's flags those that decide how fast its arithmetic is.
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def machine(device: str, threads: int) -> dict[str, object]:
    """Hardware and the versions of what computes."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cpu flags": " ".join(flag for flag in FLAGS if flag in cpu_flags()),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str:
    """Its version, or that it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cpu_flags() -> set[str]:
    """The first processor's flags where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def load() -> dict[str, object]:
    """The load average of 1, 5 and 15 minutes and the time."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def anonymous_bytes(pid: int | str = "self") -> int:
    """RssAnon of a process, 0 where it is gone or the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
