"""`ray job submit --working-dir . -- python -m jobs.annotate …` and `ray job stop` on a real local cluster."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_cluster import RAY, Head, plain_environment, ray_head
from made_corpus import ROOT, SETTINGS, environment, read_rows, rows_hash, write_checkpoint, write_corpus

from cluster.metrics import exported_names
from cluster.stop_policy import submit_option

VIDEOS, FRAMES = 4, 300
MIB = 1 << 20


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cluster's actors keep the videos that they work on."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Head]:
    """A head whose Python does not have this project."""
    with ray_head(RAY_metrics_report_interval_ms="500", TMPDIR=str(scratch)) as head:
        yield head


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of the annotate command, less --output: videos that take a few seconds each, whole, one after the other."""
    folder = tmp_path_factory.mktemp("corpus")
    manifest, checkpoint = write_corpus(folder, VIDEOS, FRAMES), write_checkpoint(folder)
    whole = [*SETTINGS, "--segment-frames", "1000"]
    return ["--manifest", str(manifest), "--checkpoint", str(checkpoint), "--actors", "1", *whole]


@dataclass(frozen=True)
class Undisturbed:
    """One submitted run; held: bytes in the object store, twice a second; metrics: this project's, as Prometheus saw
    them."""

    output: Path
    said: str
    held: list[float]
    metrics: set[str]


@pytest.fixture(scope="module")
def undisturbed(cluster: Head, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    held, metrics, over = [], set(), threading.Event()
    watch = threading.Thread(target=watch_metrics, args=(cluster.metrics, held, metrics, over))
    watch.start()
    done = submit(cluster, [*arguments, "--output", str(output)])
    over.set()
    watch.join()
    assert done.returncode == 0, done.stdout + done.stderr
    return Undisturbed(output, done.stdout + done.stderr, held, metrics)


def submit(cluster: Head, arguments: list[str], *options: str) -> subprocess.CompletedProcess:
    command = [str(RAY), "job", "submit", "--address", cluster.dashboard, "--working-dir", str(ROOT), *options, "--"]
    command += ["python", "-m", "jobs.annotate", *arguments]
    return subprocess.run(
        command, env=plain_environment(), capture_output=True, text=True, timeout=600, check=False, cwd="/"
    )


def ray_job(cluster: Head, *arguments: str) -> str:
    command = [str(RAY), "job", arguments[0], "--address", cluster.dashboard, *arguments[1:]]
    done = subprocess.run(command, env=plain_environment(), capture_output=True, text=True, timeout=600, check=False)
    return done.stdout + done.stderr


def watch_metrics(endpoint: str, held: list[float], metrics: set[str], over: threading.Event) -> None:
    """Object store memory wherever it lies, spilled objects included, and the names of the run's own metrics, as the
    node reports them twice a second."""
    while not over.wait(0.5):
        try:
            text = urllib.request.urlopen(endpoint, timeout=10).read().decode()
        except OSError:  # the endpoint comes up after the dashboard
            continue
        found = re.findall(r"^ray_object_store_memory\{.*\} (\S+)$", text, re.MULTILINE)
        if found:
            held.append(sum(float(number) for number in found))
        metrics.update(re.findall(r"^(ray_stcn_\w+)\{", text, re.MULTILINE))


def test_job_submit_annotates(undisturbed: Undisturbed):
    assert f"{VIDEOS} of {VIDEOS} videos done" in undisturbed.said
    assert "Submit with --runtime-env-json" in undisturbed.said, "a stop would leave 3 s, and the job says so"
    rows = read_rows(undisturbed.output)
    assert {row["video_id"] for row in rows} == {f"v-{number}" for number in range(VIDEOS)}


def test_nothing_large_crosses_ray(undisturbed: Undisturbed):
    assert len(undisturbed.held) >= 5
    assert max(undisturbed.held) < 50_000_000


def test_prometheus_sees_the_run(undisturbed: Undisturbed):
    assert undisturbed.metrics == exported_names() - {"ray_stcn_failures_total"}


def test_job_stop_drains_and_the_same_submit_finishes(
    cluster: Head, arguments: list[str], undisturbed: Undisturbed, scratch: Path, tmp_path: Path
):
    output = tmp_path / "out"
    mine = [*arguments, "--output", str(output), "--drain-seconds", "58"]
    wait = submit_option(58)
    assert wait == """--runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}'"""
    options = [*wait.replace("'", "").split(" ", 1), "--submission-id"]
    begun = submit(cluster, mine, *options, "to-be-stopped", "--no-wait")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    wait_for_second_video(scratch)
    # What `ray job stop` sends: its own start takes longer than these videos may. It then waits for the end.
    urllib.request.urlopen(f"{cluster.dashboard}/api/jobs/to-be-stopped/stop", data=b"", timeout=30).close()
    ray_job(cluster, "stop", "to-be-stopped")
    said = ray_job(cluster, "logs", "to-be-stopped")
    assert "stopped" in ray_job(cluster, "status", "to-be-stopped").lower()
    assert "finishing what is in flight (at most 58 s)" in said
    assert "--runtime-env-json" not in said, "nothing to warn of"
    summary = json.loads((output / "_run" / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"]) == ("terminated", 143)
    assert summary["done"] >= 2 and summary["left"] == VIDEOS - summary["done"] > 0, "the unit in flight was finished"
    assert verify(output).returncode == 6  # sound, unfinished
    again = submit(cluster, mine, *options, "goes-on")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{summary['left']} to do" in again.stdout + again.stderr
    assert rows_hash(read_rows(output)) == rows_hash(read_rows(undisturbed.output))
    assert verify(output).returncode == 0


def verify(output: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "jobs.verify", str(output)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)


def wait_for_second_video(scratch: Path) -> None:
    """Until the one actor has begun another video; a folder is made for each. Ten minutes for a busy machine."""
    seen: set[Path] = set()
    deadline = time.monotonic() + 600
    while len(seen) < 2:
        assert time.monotonic() < deadline, f"{len(seen)} video(s) begun"
        seen |= set(scratch.glob("stcn-scratch-*/video-*"))
        time.sleep(0.02)


def test_what_is_uploaded_is_small_and_whole(tmp_path: Path):
    """Packed by Ray's own code, with .gitignore, .rayignore and its default excludes."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(package) as archive:
        sizes = {entry.filename: entry.compress_size for entry in archive.infolist() if not entry.is_dir()}
    for folder in ("cluster", "jobs", "schemas", "stcn_core"):
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
        assert sources <= set(sizes)
    weights = {name for name in sizes if name.startswith("stcn_core/weights/")}
    assert "stcn_core/weights/small.safetensors" in weights and len(weights) == 2
    assert sum(size for name, size in sizes.items() if name not in weights) < 5 * MIB
    assert not [name for name in sizes if name.startswith(("tests/", ".git/", ".venv/")) or name.endswith(".pyc")]
