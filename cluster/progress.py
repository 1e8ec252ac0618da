"""Progress: a live bar on a terminal, one plain line every few seconds in a log."""

import sys
import time
from dataclasses import dataclass
from typing import TextIO

from tqdm import tqdm

LINE_SECONDS = 10.0
LEAST_SHARE = 1e-4  # of the work, before it says how long the rest takes


@dataclass(frozen=True)
class Standing:
    """Where the run is. done, failed and total count videos; work and all_work are predicted cost; frames were written
    now; queued counts units that wait."""

    done: int
    failed: int
    total: int
    units: int = 0
    all_units: int = 0
    work: float = 0.0
    all_work: float = 0.0
    frames: int = 0
    busy: int = 0
    waiting_actors: int = 0
    queued: int = 0
    draining: bool = False


class Progress:
    """Call `show` as often as you like; it draws when it is time."""

    def __init__(self, stream: TextIO = sys.stderr, line_seconds: float = LINE_SECONDS) -> None:
        self._stream = stream
        self._every = line_seconds
        self._started = time.monotonic()
        self._last = float("-inf")
        self._first_work: float | None = None
        self._bar = None
        if stream.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {postfix}"
            self._bar = tqdm(total=1000, file=stream, bar_format=form, leave=True)

    def show(self, standing: Standing, final: bool = False) -> None:
        """Draws the bar, or prints a line if one is due."""
        now = time.monotonic()
        if self._first_work is None:
            self._first_work, self._started = standing.work, now
        due = now - self._last >= (0.2 if self._bar is not None else self._every)
        if not (due or final):
            return
        self._last = now
        text = describe(standing, now - self._started, self._first_work)
        if self._bar is not None:
            self._bar.n = round(1000 * standing.work / standing.all_work) if standing.all_work else 1000
            self._bar.set_description_str("videos", refresh=False)
            self._bar.set_postfix_str(text)
        else:
            print(text, file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def describe(standing: Standing, seconds: float, first_work: float) -> str:
    """One line: videos, frames, frames/s, time left by predicted work."""
    parts = [f"{standing.done}/{standing.total} videos"]
    if standing.failed:
        parts.append(f"{standing.failed} failed")
    parts.append(f"{standing.frames} frames")
    if seconds > 0:
        parts.append(f"{standing.frames / seconds:.1f} frames/s")
    parts.append(f"{standing.busy} actors busy")
    if standing.waiting_actors:
        parts.append(f"{standing.waiting_actors} starting")
    if standing.work >= standing.all_work:
        parts.append("nothing left")
    left = seconds_left(standing, seconds, first_work)
    if left is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)


def seconds_left(standing: Standing, seconds: float, first_work: float) -> float | None:
    """By predicted work, at the rate so far; None as long as there is next to none, or when nothing is left."""
    gained, left = standing.work - first_work, standing.all_work - standing.work
    known = gained > LEAST_SHARE * standing.all_work and seconds > 1
    return seconds * left / gained if left > 0 and known else None


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
