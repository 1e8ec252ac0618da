"""`_run/progress.json`: where a run is, for whoever looks from outside. Written beside the work, never in its way."""

import calendar
import json
import os
import platform
import threading
import time
from collections import Counter
from pathlib import Path

from cluster.ledger import Tally
from cluster.progress import Standing, seconds_left
from cluster.stores.storage import Storage

PROGRESS_NAME = "_run/progress.json"
EVERY_SECONDS = 10.0
FRESH_SECONDS = 60.0  # storage and clocks may lag
AT_WORK = ("planning", "running", "draining")  # states; every other one is a last word
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def other_driver(storage: Storage) -> str | None:
    """Another process that has said within the last minute that it works on this output: "process 7 on host"."""
    try:
        record = json.loads(storage.read(PROGRESS_NAME))
        heard = calendar.timegm(time.strptime(record["time"], TIME_FORMAT))
        host, pid = record["host"], int(record["pid"])
        at_work = record["state"] in AT_WORK and abs(time.time() - heard) < FRESH_SECONDS
    except (OSError, ValueError, KeyError, TypeError):
        return None
    here = host == platform.node()
    gone = here and (pid == os.getpid() or (Path("/proc/self").exists() and not Path(f"/proc/{pid}").exists()))
    return f"process {pid} on {host}" if at_work and not gone else None


class ProgressFile:
    """Publishes the newest standing about every ten seconds from a thread of its own: slow storage delays no unit.

    Used with `with`: from its beginning on it says that the run is planning, which may take hours, until a standing is
    shown; where it is left without a last word, that the run has stopped. As long as it has no work, a run does not
    take the place of what another one says that is at work.
    """

    def __init__(self, storage: Storage, every: float = EVERY_SECONDS) -> None:
        self._storage, self._every = storage, every
        self._started = time.monotonic()
        self._first_work: float | None = None
        self._newest: dict | None = None
        self._due = threading.Event()
        self._over = False
        self._next = 0.0
        self._met = False
        self._thread = threading.Thread(target=self._publish_newest, name="progress-file", daemon=True)

    def __enter__(self) -> "ProgressFile":
        self._publish_planning()  # before the plan is read, so that of two runs one sees the other
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._over:
            self._end(self._said("stopped"))

    def other(self) -> str | None:
        """Another driver that is at work on this output, as `other_driver` names it."""
        found = other_driver(self._storage)
        self._met = self._met or found is not None
        return found

    def met(self) -> bool:
        """Whether another driver was seen at work on this output, now or earlier while this run planned."""
        return self.other() is not None or self._met

    def show(self, standing: Standing, tally: Tally) -> None:
        """Notes where the run is; cheap when nothing is due."""
        now = time.monotonic()
        if self._first_work is None:
            self._first_work, self._started = standing.work, now
        if now >= self._next:
            self._next = now + self._every
            self._newest = self._record(standing, tally, "draining" if standing.draining else "running")
            self._due.set()

    def close(self, standing: Standing, tally: Tally, state: str) -> None:
        """The last word; waits a moment for it to be written."""
        self._end(self._record(standing, tally, state))

    def _end(self, record: dict) -> None:
        if self._first_work is not None or self.other() is None:
            self._newest = record
        self._over = True
        self._due.set()
        self._thread.join(timeout=self._every)

    def _said(self, state: str) -> dict:
        now = time.strftime(TIME_FORMAT, time.gmtime())
        return {"time": now, "state": state, "host": platform.node(), "pid": os.getpid()}

    def _record(self, standing: Standing, tally: Tally, state: str) -> dict:
        seconds = time.monotonic() - self._started
        left = seconds_left(standing, seconds, self._first_work or 0.0)
        return self._said(state) | {
            "videos_done": standing.done,
            "videos_failed": standing.failed,
            "videos_total": standing.total,
            "units_done": standing.units,
            "units_failed": len(tally.failed),
            "units_total": standing.all_units,
            "units_waiting": standing.queued,
            "frames": standing.frames,
            "frames_per_second": round(standing.frames / seconds, 3) if seconds > 0 else None,
            "seconds": round(seconds, 1),
            "seconds_left": None if left is None else round(left, 1),
            "actors_busy": standing.busy,
            "actors_starting": standing.waiting_actors,
            "failures_by_class": dict(Counter(kind for kind, _ in tally.failed.values())),
        }

    def _publish_newest(self) -> None:
        while True:
            self._due.wait(self._every if self._newest is None else None)
            self._due.clear()
            record, over = self._newest, self._over
            if record is not None:
                self._publish(record)
            elif not over:
                self._publish_planning()
            if over:
                return

    def _publish_planning(self) -> None:
        if self.other() is None:
            self._publish(self._said("planning"))

    def _publish(self, record: dict) -> None:
        try:
            self._storage.publish(PROGRESS_NAME, json.dumps(record, indent=2).encode())
        except OSError:
            pass  # the work itself will find out and say so
