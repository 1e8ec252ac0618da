"""A child's half of `cluster/frames/child_process.py`: commands in, events out, and no life without the parent."""

import contextlib
import faulthandler
import fcntl
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from typing import Any

MAX_PRINTED = 1 << 20  # bytes kept of what the child prints; a damaged video may be worth a line per frame
ALIVE_S = 0.5  # least time between two signs of life


class ParentLink:
    """Reads commands and sends events as JSON lines over the descriptors given on the command line."""

    def __init__(self, arguments: list[str]):
        self._commands, self._events, life, *rest = map(int, arguments)
        self.shared = tuple(rest)
        self._buffer = bytearray()
        self._sent = self._looked = 0.0
        self._poll = select.poll()
        self._poll.register(self._commands, select.POLLIN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        die_with_parent(life)
        faulthandler.enable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def send(self, **event: Any) -> None:
        """Blocks while the parent does not read; a parent that is gone ends this process."""
        data = memoryview(json.dumps(event).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._events, data) :]
        except BrokenPipeError:
            os._exit(0)
        self._sent = time.monotonic()

    def silent(self) -> bool:
        """Whether it is time for a sign of life. Also keeps what was printed from growing without bounds."""
        now = time.monotonic()
        if now - self._looked >= ALIVE_S:
            self._looked = now
            if os.fstat(2).st_size > MAX_PRINTED:
                with contextlib.suppress(OSError):
                    os.ftruncate(2, 0)
        return now - self._sent >= ALIVE_S

    def command(self, wait: bool = True) -> dict[str, Any] | None:
        """The next command, or None when there is none now and `wait` is off. The parent's end ends this process."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._poll.poll(None if wait else 0):
                return None
            data = os.read(self._commands, 1 << 16)
            if not data:
                os._exit(0)
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return json.loads(line)


def die_with_parent(life: int) -> None:
    """Have the kernel kill this process when the last writing end of the pipe `life` closes, whatever it does then,
    holding the GIL or stopped; nobody ever writes into it.

    PR_SET_PDEATHSIG is no help: it fires when the parent's *thread* ends that started this process.
    """
    if sys.platform == "linux":
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
        ended = select.poll()
        ended.register(life, select.POLLIN)
        if ended.poll(0):  # before this was set up
            os._exit(0)
    else:
        threading.Thread(target=lambda: (os.read(life, 1), os._exit(0)), daemon=True).start()
