"""Joining real clusters: token authentication, other versions, no cluster there. Each try is a process of its own."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_cluster import Head, free_port, plain_environment, ray_head

from cluster.ray_session import ClusterRefused, check_address, choose_address, refusal

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "0123456789abcdef" * 2
OTHER_VERSIONS = "import ray._private.utils as u; u.compute_version_info = lambda: ('2.9.1', '3.9.0')"
JOIN = """
import sys
{before}
from cluster.ray_session import ClusterRefused, connect
import ray
try:
    print("joined", connect(eval(sys.argv[1]), 1), ray.cluster_resources()["CPU"])
except ClusterRefused as refused:
    print("refused:", refused)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    """A cluster that asks for a token."""
    with ray_head(cpus=5, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        yield head


def join(address: str | None, home: Path, before: str = "", **more: str) -> str:
    """The one line that the try ends with. Its home has no token unless it is put there."""
    environment = plain_environment(PYTHONPATH=str(ROOT), HOME=str(home), RAY_NUM_REDIS_GET_RETRIES="2", **more)
    command = [sys.executable, "-c", JOIN.format(before=before), repr(address)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    assert TOKEN not in done.stdout + done.stderr
    return line


def test_with_the_token_it_joins(cluster: Head, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    said = join(cluster.address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(file))
    assert said == f"joined {cluster.address} 5.0"


@pytest.mark.parametrize("asked", [None, "auto"])
def test_the_cluster_of_this_machine_takes_the_token_of_this_user(cluster: Head, tmp_path: Path, asked: str | None):
    """As a script does that `ray submit` starts on the head: no variable is set."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    said = join(asked, tmp_path, "import os; del os.environ['RAY_AUTH_MODE']", RAY_TMPDIR=str(cluster.folder.parent))
    assert said == f"joined {cluster.address} 5.0"


@pytest.mark.parametrize(
    "more", [{}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN[::-1]}]
)
def test_without_the_token_it_says_what_to_set(cluster: Head, tmp_path: Path, more: dict[str, str]):
    said = join(cluster.address, tmp_path, **more)
    assert said.startswith(f"refused: the cluster at {cluster.address} wants a token that this process lacks")
    assert "export RAY_AUTH_MODE=token" in said and "RAY_AUTH_TOKEN_PATH" in said


def test_other_versions_are_named(cluster: Head, tmp_path: Path):
    said = join(cluster.address, tmp_path, OTHER_VERSIONS, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    python = ".".join(map(str, sys.version_info[:3]))
    assert said.startswith(f"refused: the cluster at {cluster.address} runs Ray 2.")
    assert f"on Python {python}, this process Ray 2.9.1 on Python 3.9.0" in said


def test_a_cluster_that_is_not_there_is_refused_at_once(tmp_path: Path):
    address = f"127.0.0.1:{free_port()}"
    said = join(address, tmp_path)
    assert said.startswith(f"refused: no Ray cluster answers at {address}")
    assert "no Ray cluster runs on this machine" in join("auto", tmp_path, RAY_TMPDIR=str(tmp_path))


def test_addresses_that_ray_means_otherwise_are_refused(tmp_path: Path):
    assert "ray job submit" in join("http://127.0.0.1:8265", tmp_path)
    assert "ray job submit" in join("ray://127.0.0.1:10001", tmp_path)
    assert "none of HOST:PORT, auto, local" in join("head-node", tmp_path)


def test_the_address_is_asked_for_noted_or_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    note = tmp_path / "ray" / "ray_current_cluster"
    for stale in (f"127.0.0.1:{free_port()}", "", "nonsense"):
        note.write_text(stale)
        assert choose_address(None) == "local"
        with pytest.raises(ClusterRefused, match="--address auto"):
            choose_address("auto")
        with monkeypatch.context() as patch, pytest.raises(ClusterRefused, match="RAY_ADDRESS=auto: no Ray cluster"):
            patch.setenv("RAY_ADDRESS", "auto")
            choose_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        note.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert choose_address(None) == choose_address("auto") == note.read_text()
        assert choose_address("head:6379") == "head:6379"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert choose_address(None) == choose_address("auto") == "10.0.0.1:6379"
    assert choose_address("local") == "local"


@pytest.mark.parametrize("address", ["head-node", "head:", ":6379", "head:six", "http://head:8265", "ray://head:10001"])
def test_the_form_of_an_address_is_checked_without_a_network(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterRefused):
        check_address(address)
    for good in (None, "auto", "local", "head.invalid:6379", "[::1]:6379"):
        check_address(good)
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_address("local")
    for asked in (None, "auto"):
        with pytest.raises(ClusterRefused):
            check_address(asked)


def test_any_other_refusal_is_one_line():
    assert "\n" not in refusal("h:1", RuntimeError("first\nsecond")) and "first" in refusal(
        "h:1", RuntimeError("first")
    )
    assert "TimeoutError" in refusal("h:1", TimeoutError())
