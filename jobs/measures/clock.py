"""Times of alternatives, taken in turns so that a machine's other load falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]
MOST_ROUNDS = 15
SHORT_SECONDS = 1.0  # rounds under it are made three times however little time is left


@dataclass(frozen=True)
class Timing:
    """Seconds of the same work, round by round."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The shortest round: the least disturbed one."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(longest - shortest) / median over the rounds; 0 with one round."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def per(self, count: float) -> "Timing":
        """Seconds per one of `count` that were done in each round."""
        return Timing(tuple(seconds / count for seconds in self.seconds))

    def plus(self, other: "Timing") -> "Timing":
        """Round by round; the shorter list decides how many."""
        return Timing(tuple(a + b for a, b in zip(self.seconds, other.seconds, strict=False)))


def pair_ratios(over: Timing, under: Timing) -> tuple[float, ...]:
    """over / under, round by round."""
    return tuple(a / b for a, b in zip(over.seconds, under.seconds, strict=False))


class Clock:
    """Seconds of one call on a device: CUDA events and synchronisation there, the wall clock on a CPU.

    processor: on a CPU the processor seconds of this process instead, its threads added up. They leave out what other
    processes take, and also what children do and what is waited for.
    """

    def __init__(self, device: str, processor: bool = False) -> None:
        self.device = device
        self.cuda, self.processor = device.startswith("cuda"), processor
        self._now = time.process_time if processor else time.perf_counter

    def seconds(self, work: Work) -> float:
        """The call is done when its results are there."""
        if not self.cuda:
            before = self._now()
            work()
            return self._now() - before
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        work()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1000

    def interleaved(self, works: Mapping[str, Work], seconds: float, most: int = MOST_ROUNDS) -> dict[str, Timing]:
        """Rounds in which every work is called once, every second round backwards, for about `seconds` in all.

        The first round warms up and is not counted, unless there is no time for two more like it: then it is all that
        is known, or one of two.
        """
        started = time.perf_counter()
        rounds: list[dict[str, float]] = []
        names = list(works)
        for number in range(most + 1):
            before = time.perf_counter()
            rounds.append({name: self.seconds(works[name]) for name in (names if number % 2 == 0 else names[::-1])})
            now = time.perf_counter()
            if now - started + (now - before) > seconds and (number >= 2 or now - before > SHORT_SECONDS):
                break
        counted = rounds[1:] if len(rounds) > 2 else rounds
        return {name: Timing(tuple(one[name] for one in counted)) for name in names}


class Budget:
    """What is left of the time that the whole benchmark may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._started = seconds, time.monotonic()

    @property
    def spent(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        return self.seconds - self.spent
