"""Connecting to Ray: the job's cluster, a cluster on this machine, or one of our own."""

import os
import socket
from pathlib import Path

import ray

ALIVE_SECONDS = 2.0


def choose_address(asked: str | None) -> str:
    """The address for ray.init: as asked; RAY_ADDRESS (set inside `ray job submit`); a live cluster on this machine
    (as under `ray submit`); otherwise `local`, a cluster of our own.

    Ray's own default reads the same file, but takes the address of a cluster that has stopped, and then hangs.
    """
    if asked:
        return asked
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        address = note.read_text().strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), ALIVE_SECONDS):
            return address
    except (OSError, ValueError):
        return "local"


def connect(address: str | None, cpus: int) -> str:
    """Starts or joins Ray and returns the address used. cpus is what a cluster of our own is given at least."""
    chosen = choose_address(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    common = {"log_to_driver": True, "logging_level": "warning"}
    if chosen == "local":
        ray.init(
            address="local",
            num_cpus=max(cpus, os.cpu_count() or 1),
            include_dashboard=False,
            # Nothing large crosses Ray: frames and masks go from actor to storage.
            object_store_memory=100 << 20,
            runtime_env={"env_vars": _import_path()},
            **common,
        )
    else:
        ray.init(address=chosen, **common)
    return chosen


def _import_path() -> dict[str, str]:
    """Actors of a local cluster find this project where the driver found it, from whichever folder it was started."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path))}
