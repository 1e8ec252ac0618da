"""`ray job submit --working-dir . -- python -m jobs.annotate …` on a real local cluster."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_corpus import ROOT, SETTINGS, read_rows, write_checkpoint, write_corpus

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """A head node with a dashboard; ended by its own process id."""
    ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    ports |= {name: free_port() for name in ("ray-client-server-port",)}
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        options = [f"--{name}={port}" for name, port in ports.items()]
        command = [str(RAY), "start", "--head", "--block", "--num-cpus=3", f"--temp-dir={folder}", *options]
        head = subprocess.Popen(
            [*command, "--disable-usage-stats", "--include-dashboard=true"],
            env=job_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        try:
            wait_for(ports["dashboard-port"], head)
            yield address
        finally:
            head.send_signal(signal.SIGTERM)
            try:
                head.wait(30)
            except subprocess.TimeoutExpired:
                head.kill()


def job_environment() -> dict[str, str]:
    """A plain cluster without token authentication, and this Python first on the path."""
    drop = ("RAY_ADDRESS", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def wait_for(port: int, head: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert head.poll() is None, "ray start ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the dashboard did not come up")


def test_job_submit_annotates(dashboard: str, tmp_path: Path):
    manifest, checkpoint = write_corpus(tmp_path, videos=2), write_checkpoint(tmp_path)
    command = [str(RAY), "job", "submit", "--address", dashboard, "--working-dir", str(ROOT), "--"]
    command += ["python", "-m", "jobs.annotate", "--manifest", str(manifest), "--output", str(tmp_path / "out")]
    command += ["--checkpoint", str(checkpoint), "--actors", "2", *SETTINGS]
    done = subprocess.run(command, env=job_environment(), capture_output=True, text=True, timeout=240, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "2 of 2 videos done" in said
    assert len({row["video_id"] for row in read_rows(tmp_path / "out")}) == 2
