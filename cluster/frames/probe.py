"""What the videos of a manifest are, for the plan: looked at in child processes that may crash or hang."""

import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.frames.child_process import ChildDied, ChildProcess, ChildSilent
from schemas.urls import is_local, public_url

CHILD = "cluster.frames.probe_child"
CHILDREN_LOCAL = 4
CHILDREN_REMOTE = 12  # they mostly wait for the network
START_SECONDS = 60.0
SAY_SECONDS = 10.0
FAILED_STARTS = 3  # in a row: this machine cannot start children
HANGS_IN_A_ROW = 32  # without an answer between them: the storage is not there, and the rest is not waited for


@dataclass(frozen=True)
class Probe:
    """What a container says. `frames`: its own count, or else duration times rate; not to be trusted. `height`,
    `width`: as displayed, in pixels. `fps`: average. None where it is not known. `error`: why nothing is known; None
    where there was no error."""

    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    codec: str | None = None
    error: str | None = None


def probe_sources(
    urls: Iterable[str],
    options: Mapping[str, Any] | None = None,
    *,
    children: int | None = None,
    deadline_seconds: float = 60,
    say: Callable[[str], None] | None = None,
) -> dict[str, Probe]:
    """A Probe of every URL, in their order: local files and folders of images, and remote ones by ranged reads.

    `children`: how many processes; None: `CHILDREN_LOCAL`, or `CHILDREN_REMOTE` where a URL is remote.
    `options` for fsspec go to the children over a pipe. Each URL has `deadline_seconds`; a crash, a hang or no access
    is a Probe with `error`. `say` gets a line every 10 seconds. Raises ValueError for numbers that are not positive.
    """
    urls = list(dict.fromkeys(urls))
    if children is None:
        children = CHILDREN_LOCAL if all(map(is_local, urls)) else CHILDREN_REMOTE
    if children < 1 or deadline_seconds <= 0:
        raise ValueError(f"children and deadline_seconds must be positive, got {children} and {deadline_seconds}")
    crew = _Crew(urls, dict(options or {}), deadline_seconds, say or (lambda line: None))
    return crew.run(children)


class _Prober:
    """One child and what it is at: starting (`url` None) or a URL; with a deadline."""

    def __init__(self) -> None:
        self.child = ChildProcess(CHILD)
        self.url: str | None = None
        self.deadline = time.monotonic() + START_SECONDS


class _Crew:
    def __init__(self, urls: list[str], options: dict, deadline_seconds: float, say: Callable[[str], None]):
        self.urls, self.options, self.deadline_seconds, self.say = urls, options, deadline_seconds, say
        self.waiting = deque(urls)
        self.found: dict[str, Probe] = {}
        self.probers: list[_Prober] = []
        self.hangs = self.failed_starts = 0  # in a row
        self.given_up: str | None = None

    def run(self, children: int) -> dict[str, Probe]:
        said = time.monotonic()
        try:
            while len(self.found) < len(self.urls) and self.given_up is None:
                while len(self.probers) < min(children, len(self.waiting) + self._busy()):
                    self.probers.append(_Prober())
                self._wait(said + SAY_SECONDS)
                if time.monotonic() >= said + SAY_SECONDS:
                    said = time.monotonic()
                    failed = sum(probe.error is not None for probe in self.found.values())
                    self.say(f"{len(self.found)} of {len(self.urls)} videos probed, {failed} not readable")
        finally:
            for prober in self.probers:
                prober.child.kill()
        missing = Probe(error=f"not probed: {self.given_up}")
        return {url: self.found.get(url, missing) for url in self.urls}

    def _busy(self) -> int:
        return sum(prober.url is not None for prober in self.probers)

    def _wait(self, until: float) -> None:
        """Takes in what the children say, until one has spoken or a deadline has passed."""
        poll = select.poll()
        for prober in self.probers:
            poll.register(prober.child.fileno(), select.POLLIN)
        left = min([until, *(prober.deadline for prober in self.probers)]) - time.monotonic()
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, left) * 1000 + 1)}
        now = time.monotonic()
        for prober in list(self.probers):
            if prober.child.fileno() in ready or now >= prober.deadline:
                self._hear(prober, now >= prober.deadline)

    def _hear(self, prober: _Prober, late: bool) -> None:
        try:
            self._answered(prober, prober.child.receive(0))
            self._next(prober)
        except ChildSilent:
            if late:
                self.hangs += prober.url is not None
                self._lost(prober, f"gave no answer for {self.deadline_seconds:g} s and was given up")
                if self.hangs >= HANGS_IN_A_ROW:
                    self.given_up = f"{self.hangs} videos in a row gave no answer for {self.deadline_seconds:g} s"
        except ChildDied as death:
            said = f": {death.tail}" if death.tail else ""
            self._lost(prober, f"crashed its process ({death}){said}")

    def _answered(self, prober: _Prober, answer: dict[str, Any]) -> None:
        self.failed_starts = 0
        if prober.url is not None:
            self.hangs = 0
            self.found[prober.url] = Probe(**answer.get("facts", {}), error=answer.get("error"))
            prober.url = None

    def _next(self, prober: _Prober) -> None:
        if not self.waiting:
            prober.child.kill()
            self.probers.remove(prober)
            return
        # A child that cannot even take the URL is no fault of the URL.
        prober.child.send({"url": self.waiting[0], "options": self.options}, self.deadline_seconds)
        prober.url = self.waiting.popleft()
        prober.deadline = time.monotonic() + self.deadline_seconds

    def _lost(self, prober: _Prober, what: str) -> None:
        """The child is dead or hangs: so ends its URL. Where it had none it never started, or is of no use."""
        prober.child.kill()
        self.probers.remove(prober)
        if prober.url is not None:
            self.found[prober.url] = Probe(error=f"{public_url(prober.url)}: {what}")
            return
        self.failed_starts += 1
        if self.failed_starts >= FAILED_STARTS:
            self.given_up = f"{self.failed_starts} processes in a row did not start; the last one {what}"
