"""Finding and killing the processes of a run under test, by id only."""

import os
import signal
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Process ids below one, as /proc shows them."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, front = [], [pid]
    while front:
        front = [child for child, parent in parents.items() if parent in front]
        found += front
    return found


def actors_below(pid: int) -> list[int]:
    """The annotating actors among them (Ray names a worker's process after what it runs)."""
    return [child for child in descendants(pid) if b"AnnotateActor" in _command_line(child)]


def kill(pid: int) -> None:
    """SIGKILL, if it still runs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
