"""`_run/progress.json`: where a run is, for whoever looks from outside. Written beside the work, never in its way."""

import json
import os
import platform
import threading
import time
from collections import Counter

from cluster.ledger import Tally
from cluster.progress import Standing, seconds_left
from cluster.stores.storage import Storage

PROGRESS_NAME = "_run/progress.json"
EVERY_SECONDS = 10.0


class ProgressFile:
    """Publishes the newest standing about every ten seconds from a thread of its own: slow storage delays no unit."""

    def __init__(self, storage: Storage, every: float = EVERY_SECONDS) -> None:
        self._storage, self._every = storage, every
        self._started = time.monotonic()
        self._first_work: float | None = None
        self._newest: dict | None = None
        self._due = threading.Event()
        self._over = False
        self._next = 0.0
        self._thread = threading.Thread(target=self._publish_newest, name="progress-file", daemon=True)
        self._thread.start()

    def show(self, standing: Standing, tally: Tally) -> None:
        """Notes where the run is; cheap when nothing is due."""
        now = time.monotonic()
        if self._first_work is None:
            self._first_work = standing.work
        if now >= self._next:
            self._next = now + self._every
            self._newest = self._record(standing, tally, "draining" if standing.draining else "running")
            self._due.set()

    def close(self, standing: Standing, tally: Tally, state: str) -> None:
        """The last word; waits a moment for it to be written."""
        self._newest, self._over = self._record(standing, tally, state), True
        self._due.set()
        self._thread.join(timeout=self._every)

    def _record(self, standing: Standing, tally: Tally, state: str) -> dict:
        seconds = time.monotonic() - self._started
        left = seconds_left(standing, seconds, self._first_work or 0.0)
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "state": state,
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
            "host": platform.node(),
            "pid": os.getpid(),
        }

    def _publish_newest(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            record, over = self._newest, self._over
            try:
                self._storage.publish(PROGRESS_NAME, json.dumps(record, indent=2).encode())
            except OSError:
                pass  # the work itself will find out and say so
            if over:
                return
