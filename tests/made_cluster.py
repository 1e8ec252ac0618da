"""A Ray head with a dashboard, as `ray start` makes one, ended by its own process id."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
# Below those that Linux hands out by itself, and above those of Ray's workers: between the look and `ray start` nobody
# is given one of these.
PORTS = range(20_000, 32_000)
START_SECONDS = 300.0


@dataclass(frozen=True)
class Head:
    """dashboard is for `ray job`, address for ray.init, metrics for Prometheus; folder holds its session and logs."""

    dashboard: str
    address: str
    metrics: str
    folder: Path


@contextmanager
def ray_head(cpus: int = 3, **more: str) -> Iterator[Head]:
    """A head node with its ports and folder to itself. more: its environment; without it no token is asked for.

    RAY_TMPDIR=<folder's parent> in another process's environment makes it the cluster of this machine for that one.
    """
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port", "metrics-export-port")
    ports = {name: free_port() for name in names}
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as parent:
        folder = Path(parent) / "ray"  # short: Ray's sockets lie below it
        options = [f"--{name}={port}" for name, port in ports.items()]
        command = [str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", f"--temp-dir={folder}", *options]
        head = subprocess.Popen(
            [*command, "--disable-usage-stats", "--include-dashboard=true"],
            env=plain_environment(**more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(ports["dashboard-port"], folder / "ray_current_cluster", head)
            address = (folder / "ray_current_cluster").read_text().strip()
            yield Head(
                f"http://127.0.0.1:{ports['dashboard-port']}",
                address,
                f"http://{address.rpartition(':')[0]}:{ports['metrics-export-port']}/metrics",
                folder,
            )
        finally:
            head.send_signal(signal.SIGTERM)
            try:
                head.wait(30)
            except subprocess.TimeoutExpired:
                head.kill()
                head.wait()


def plain_environment(**more: str) -> dict[str, str]:
    """This environment without a Ray, a token or a path of its own; this Python comes first on the path."""
    drop = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **more}


def free_port() -> int:
    """A port on which nothing listens, nor will unless it is told to."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue


def _wait_for(port: int, note: Path, head: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert head.poll() is None, "ray start ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0 and note.exists():
                return
        time.sleep(0.5)
    raise AssertionError("the dashboard did not come up")
