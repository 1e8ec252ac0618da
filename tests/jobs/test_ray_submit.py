"""Clusters whose nodes have this project installed, as `ray submit` and an image leave it: one script, any folder."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from made_cluster import RAY, Head, plain_environment, ray_head
from made_corpus import ROOT, SETTINGS, annotate, read_rows, rows_hash, write_checkpoint, write_corpus
from moto.server import ThreadedMotoServer

SECRETS = {"key": "inputkey-8J2Q", "secret": "inputsecret-5T7W"}, {"key": "outputkey-4R9X", "secret": "outputhush-1Z6P"}
BUCKET = "corpus"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project as pip installs it, from a copy, so that no build folder is left here."""
    folder = tmp_path_factory.mktemp("installed")
    source, target = folder / "source", folder / "site"
    source.mkdir()
    for name in ("cluster", "jobs", "schemas", "stcn_core"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    # Python 3.11's venv brings a setuptools too old for pyproject.toml: then pip fetches one, as it does for users.
    if recent_setuptools():
        command.append("--no-build-isolation")
    subprocess.run(command, check=True, timeout=600)
    assert (target / "stcn_core" / "weights" / "small.safetensors").is_file()
    return target


def recent_setuptools() -> bool:
    try:
        return int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def cluster(installed: Path) -> Iterator[Head]:
    with ray_head(PYTHONPATH=str(installed)) as head:
        yield head


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(manifest, checkpoint, the output of a run on a Ray of its own)."""
    folder = tmp_path_factory.mktemp("corpus")
    manifest, checkpoint = write_corpus(folder, videos=2), write_checkpoint(folder)
    done = annotate(manifest, folder / "alone", checkpoint)
    assert done.returncode == 0, done.stderr
    return manifest, checkpoint, folder / "alone"


@pytest.fixture(scope="module")
def script(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ray submit cluster.yaml jobs/annotate.py` leaves on the head: that file alone."""
    return Path(shutil.copy(ROOT / "jobs" / "annotate.py", tmp_path_factory.mktemp("home")))


def submitted_script(script: Path, cluster: Head, installed: Path, *arguments: str, **more: str):
    """`python annotate.py …` on the head, in the folder of the script."""
    environment = plain_environment(PYTHONPATH=str(installed), RAY_TMPDIR=str(cluster.folder.parent), **more)
    command = ["python", script.name, *arguments, *SETTINGS]
    return subprocess.run(
        command, env=environment, cwd=script.parent, capture_output=True, text=True, timeout=600, check=False
    )


def test_the_script_alone_joins_the_cluster_of_its_machine(
    script: Path, cluster: Head, installed: Path, corpus: tuple[Path, Path, Path], tmp_path: Path
):
    manifest, checkpoint, alone = corpus
    arguments = ["--manifest", str(manifest), "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]
    done = submitted_script(script, cluster, installed, *arguments, "--actors", "2")
    assert done.returncode == 0, done.stderr
    assert f"Ray at {cluster.address}: 2 cpu actor(s)" in done.stderr
    assert rows_hash(read_rows(tmp_path / "out")) == rows_hash(read_rows(alone))


def test_job_submit_from_an_empty_folder(cluster: Head, corpus: tuple[Path, Path, Path], tmp_path: Path):
    manifest, checkpoint, alone = corpus
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [str(RAY), "job", "submit", "--address", cluster.dashboard, "--working-dir", ".", "--"]
    command += ["python", "-m", "jobs.annotate", "--manifest", str(manifest), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--checkpoint", str(checkpoint), *SETTINGS],
        env=plain_environment(),
        cwd=empty,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows_hash(read_rows(tmp_path / "out")) == rows_hash(read_rows(alone))


def test_a_cluster_that_cannot_be_joined_is_one_line(
    script: Path, cluster: Head, installed: Path, corpus: tuple[Path, Path, Path], tmp_path: Path
):
    manifest, checkpoint, _ = corpus
    arguments = ["--manifest", str(manifest), "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]
    done = submitted_script(script, cluster, installed, *arguments, "--address", cluster.dashboard)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {cluster.dashboard} is the dashboard's: use `ray job submit"
    )
    assert "Traceback" not in done.stderr


def test_storage_keys_stay_out_of_ray_and_of_the_output(
    script: Path, cluster: Head, installed: Path, corpus: tuple[Path, Path, Path], tmp_path: Path
):
    """Keys given as options: not in Ray's job table, its logs, what the run says, nor in any file it writes."""
    import s3fs

    manifest, _, alone = corpus
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        given = [json.dumps({**keys, "endpoint_url": endpoint}) for keys in SECRETS]
        s3 = s3fs.S3FileSystem(**json.loads(given[0]), use_listings_cache=False, skip_instance_cache=True)
        s3.mkdir(BUCKET)
        for file in manifest.parent.iterdir():
            if file.is_file():
                s3.put_file(str(file), f"{BUCKET}/in/{file.name}")
        arguments = ["--manifest", f"s3://{BUCKET}/in/{manifest.name}", "--output", f"s3://{BUCKET}/out"]
        arguments += ["--checkpoint", f"s3://{BUCKET}/in/tiny.safetensors"]
        arguments += ["--input-options", given[0], "--output-options", given[1], "--actors", "2"]
        done = submitted_script(script, cluster, installed, *arguments)
        assert done.returncode == 0, done.stderr
        assert rows_hash(read_rows(f"{BUCKET}/out/masks", s3)) == rows_hash(read_rows(alone))
        jobs = urllib.request.urlopen(f"{cluster.dashboard}/api/jobs/", timeout=30).read()
        assert b"annotate.py" in jobs and f"s3://{BUCKET}/out".encode() in jobs
        shown = {"the job table": jobs, "what was said": (done.stdout + done.stderr).encode()}
        shown |= {name: s3.cat_file(name) for name in s3.find(f"{BUCKET}/out")}
    finally:
        server.stop()
    logs = {name: content for name, content in session_files(cluster.folder)}
    assert any("worker" in name for name in logs) and any("gcs_server" in name for name in logs)
    assert any("_run/plan.parquet" in name for name in shown) and any("_run/config.json" in name for name in shown)
    for name, content in {**shown, **logs}.items():
        for keys in SECRETS:
            for secret in keys.values():
                assert secret.encode() not in content, name


def session_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every regular file of a Ray session; sockets and what vanishes meanwhile are left out."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            if path.is_file():
                try:
                    yield str(path), path.read_bytes()
                except OSError:
                    continue
