"""A child process that may crash or hang at any time: JSON lines to it and from it, and never a wait without an end.

The child's half is `cluster/frames/parent_link.py`.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TAIL_BYTES = 16384  # read from the end of what the child printed
TAIL_CHARS = 600  # of it shown
WAKE_S = 1.0  # between looks at whether the child still lives, where its end of the pipe does not tell
REAP_S = 10.0
# glibc: larger blocks go back to the system when they are freed, and grow without being copied. By default that size
# rises with use, and the index of a file of 100,000 frames then takes 9 MB instead of 4. Decoding is no slower.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


class ChildDied(Exception):
    """The child is gone. `signal`: a name such as SIGSEGV, or None when it left by itself; `tail`: what it printed
    last, on one line."""

    def __init__(self, code: int | None, tail: str):
        self.signal = _signal_name(code) if code is not None and code < 0 else None
        self.tail = tail
        super().__init__(self.signal or f"exit code {code}")


class ChildSilent(Exception):
    """The child sent nothing for the time given."""


class ChildProcess:
    """Starts `python -m module`, whose first message says that it is ready; used by one thread at a time.

    Gives the child what this process has: environment, `sys.path`, the open files `shared`. What the child prints
    goes to a file in memory, so that no full pipe can stop it. It dies when this process does, and ignores SIGINT and
    SIGTERM: whoever drains this process still needs it.
    """

    def __init__(self, module: str, shared: tuple[int, ...] = ()):
        self._buffer = bytearray()
        self._printed = memory_file("printed")
        fcntl.fcntl(self._printed, fcntl.F_SETFL, fcntl.fcntl(self._printed, fcntl.F_GETFL) | os.O_APPEND)
        commands, self._commands = os.pipe()
        self._events, events = os.pipe()
        life, self._life = os.pipe()
        passed = (commands, events, life, *shared)
        self._process = None
        try:
            os.set_blocking(self._commands, False)
            self._poll = select.poll()
            self._poll.register(self._events, select.POLLIN)
            # -P: with -m alone, a folder named cluster in the working directory would be taken for this one.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *map(str, passed)],
                pass_fds=passed,
                env={**ALLOCATOR, **os.environ, "PYTHONPATH": os.pathsep.join(_search_path())},
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
            )
        except BaseException:
            self.kill()
            raise
        finally:
            for end in (commands, events, life):
                os.close(end)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable when `receive` has something, for waiting on several children at once."""
        return self._events

    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any], seconds: float = REAP_S) -> None:
        """Raises ChildDied, or ChildSilent when the child does not read its commands for `seconds`."""
        data, deadline = memoryview(json.dumps(message).encode() + b"\n"), time.monotonic() + seconds
        while data:
            try:
                data = data[os.write(self._commands, data) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ChildSilent from None
                select.select([], [self._commands], [], WAKE_S)
            except BrokenPipeError:
                raise self._death() from None

    def receive(self, seconds: float) -> dict[str, Any]:
        """The child's next message. Raises ChildDied, or ChildSilent when there is none within `seconds`."""
        deadline = time.monotonic() + seconds
        while (end := self._buffer.find(b"\n")) < 0:
            left = deadline - time.monotonic()
            gone = not self.alive() if left < seconds - WAKE_S else False
            # What it sent before its death is still read.
            if self._poll.poll(1000 * max(0.0, min(left, 0.0 if gone else WAKE_S))):
                data = os.read(self._events, 1 << 16)
                if not data:
                    raise self._death()
                self._buffer += data
            elif gone:
                raise self._death()
            elif left <= 0:
                raise ChildSilent
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return json.loads(line)

    def kill(self) -> None:
        """Ends the child at once, reaps it, and closes everything."""
        if self._process is not None:
            self._process.kill()
            self._reap()
        for name in ("_commands", "_events", "_life", "_printed"):
            if (descriptor := getattr(self, name)) is not None:
                os.close(descriptor)
                setattr(self, name, None)

    def _reap(self) -> int | None:
        try:
            return self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return None  # stuck in the kernel; Popen reaps it later

    def _death(self) -> ChildDied:
        code = self._reap()
        return ChildDied(code, self._tail())

    def _tail(self) -> str:
        size = os.fstat(self._printed).st_size
        text = os.pread(self._printed, TAIL_BYTES, max(0, size - TAIL_BYTES)).decode("utf-8", "replace")
        # faulthandler lists every compiled module; the fault itself stands before it.
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Extension mod")]
        text = " | ".join(lines)
        fault = text.rfind("Fatal Python error")
        return text[fault:][:TAIL_CHARS] if fault >= 0 else text[-TAIL_CHARS:]


def memory_file(name: str) -> int:
    """Descriptor of an empty file that no folder lists; its pages are memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _search_path() -> list[str]:
    root = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([root, *(os.path.abspath(entry) for entry in sys.path if entry)]))


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
