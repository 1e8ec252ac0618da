"""Connecting to Ray: the job's cluster, a cluster on this machine, or one of our own."""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError

from cluster.command_line import hide, shown_credentials

START_TRIES = 2  # a machine busy with something else may be too slow for Ray's own time limit once
ALIVE_SECONDS = 2.0
ANSWER_SECONDS = 10.0

TOKEN_REMEDY = (
    "`export RAY_AUTH_MODE=token` and, with the cluster's token, RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN, or "
    "the file ~/.ray/auth_token)"
)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class ClusterRefused(OSError):
    """No Ray session: the message says in one line which cluster, why not, and what to do."""


class ClusterAway(ClusterRefused, ConnectionError):
    """Nothing answers or starts: perhaps later."""


def choose_address(asked: str | None) -> str:
    """The address for ray.init: as asked; RAY_ADDRESS (set inside `ray job submit`); a live cluster on this machine
    (as under `ray submit`); otherwise `local`, a cluster of our own, unless either of them is `auto`: that joins or
    fails.

    Ray's own default reads the same file, but takes the address of a cluster that has stopped, and then hangs.
    Raises ClusterRefused for `auto` where there is no cluster.
    """
    named = _named_address(asked)
    if named and named != "auto":
        return named
    found = _live_cluster_here()
    if found:
        return found
    if named == "auto":
        raise ClusterRefused(
            f"{'--address ' if asked else 'RAY_ADDRESS='}auto: no Ray cluster runs on this machine. Start one with "
            "`ray start --head`, give --address HOST:6379, or --address local for a cluster of this run's own"
        )
    return "local"


def check_address(asked: str | None) -> None:
    """What can be said of the address without a network. Raises ClusterRefused."""
    named = _named_address(asked)
    if named and named not in ("auto", "local"):
        _host_and_port(named)


def _named_address(asked: str | None) -> str | None:
    """What was asked for; RAY_ADDRESS where that is nothing, or `auto`, which says less."""
    around = os.environ.get("RAY_ADDRESS")
    return around or asked if asked in (None, "", "auto") else asked


def connect(address: str | None, cpus: int, say: Callable[[str], None] = _to_stderr) -> str:
    """Starts or joins Ray and returns the address used. cpus is what a cluster of our own is given at least; say takes
    warnings.

    Where this process has RAY_AUTH_MODE unset and joins the cluster of its own machine, Ray's token authentication is
    used if a token is there, as `ray start` does; for any other cluster Ray wants RAY_AUTH_MODE=token to be set.
    Raises ClusterRefused where the cluster is not there, does not let us in, or has another Ray or Python.
    """
    chosen = choose_address(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray keeps the driver's command line with the job and shows it on its dashboard.
    warning = shown_credentials(sys.argv, os.environ)
    if warning:
        say(f"warning: {warning}")
    hide(sys.argv)
    common = {"log_to_driver": True, "logging_level": "warning"}
    if chosen == "local":
        _start_here(cpus, common)
        return chosen
    _check_answers(chosen)
    try:
        if chosen == _live_cluster_here():
            _use_token_if_any()
        ray.init(address=chosen, **common)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise ClusterRefused(refusal(chosen, error)) from error
    return chosen


def _start_here(cpus: int, common: dict) -> None:
    """A cluster of our own on this machine. Raises ClusterRefused."""
    for attempt in range(1, START_TRIES + 1):
        try:
            ray.init(
                address="local",
                num_cpus=max(cpus, os.cpu_count() or 1),
                include_dashboard=False,
                # Nothing large crosses Ray: frames and masks go from actor to storage.
                object_store_memory=100 << 20,
                runtime_env={"env_vars": _import_path()},
                **common,
            )
            return
        except Exception as error:  # Ray raises a bare Exception where its processes are not up in time
            ray.shutdown()
            if attempt == START_TRIES:
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise ClusterAway(f"Ray does not start on this machine: {first}") from error


def refusal(address: str, error: BaseException) -> str:
    """One line for what ray.init raised."""
    said = " ".join(_chain(error))
    versions = re.search(r"Ray: (\S+)\s+Python: (\S+)\s.*?Ray: (\S+)\s+Python: (\S+)", said, re.DOTALL)
    if "Version mismatch" in said and versions:
        ray_there, python_there, ray_here, python_here = versions.groups()
        return (
            f"the cluster at {address} runs Ray {ray_there} on Python {python_there}, this process Ray {ray_here} on "
            f"Python {python_here}: start it from an environment with the cluster's versions, or let `ray job submit` "
            "run it on the cluster"
        )
    if isinstance(error, AuthenticationError) or "InvalidAuthToken" in said or "AuthenticationError" in said:
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        return f"the cluster at {address} wants a token that this process lacks (RAY_AUTH_MODE {mode}): {TOKEN_REMEDY}"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the Ray cluster at {address} cannot be joined: {first}"


def _host_and_port(address: str) -> tuple[str, int]:
    """Raises ClusterRefused where ray.init would mean something else by the address."""
    scheme, separator, _ = address.partition("://")
    if separator:
        what = "Ray Client's, which long jobs do not survive" if scheme == "ray" else "the dashboard's"
        raise ClusterRefused(
            f"{address} is {what}: use `ray job submit --address http://HEAD:8265 -- python -m jobs.annotate ...`, or "
            "on a node of the cluster --address auto"
        )
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ClusterRefused(f"{address} (--address or RAY_ADDRESS) is none of HOST:PORT, auto, local")
    return host.strip("[]"), int(port)


def _check_answers(address: str) -> None:
    """ray.init would wait minutes for a head that is not there."""
    place = _host_and_port(address)
    try:
        socket.create_connection(place, ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterAway(
            f"no Ray cluster answers at {address} ({error}): is its head up, and is 6379 (or what `ray start --port` "
            "said) open to this machine?"
        ) from error


def _live_cluster_here() -> str | None:
    """The address that the last `ray start` on this machine noted, if something listens there."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        address = note.read_text().strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), ALIVE_SECONDS):
            return address
    except (OSError, ValueError, OverflowError):
        return None


def _use_token_if_any() -> None:
    """What ray.init does for the address `auto`, which alone takes the first cluster found among this machine's
    processes, were it the wrong one."""
    try:
        from ray._private.authentication import authentication_token_setup as setup
    except ImportError:
        return  # Ray before 2.52 has no tokens
    if hasattr(setup, "maybe_enable_token_auth_if_token_available"):
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def _import_path() -> dict[str, str]:
    """Actors of a local cluster find this project where the driver found it, from whichever folder it was started."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path))}
