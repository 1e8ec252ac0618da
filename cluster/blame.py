"""Whose fault a lost attempt is. Pure decisions, tested without Ray.

A video that fails in an orderly way (it cannot be decoded, its prompt is out of range) has failed for good: the same
input gives the same error. An actor that dies while it works on a video is a strike against the video; two strikes are
the end. A lost node or a preempted actor is no strike, but is capped. Errors of the environment (storage, permission,
device) on several units in a row open the circuit breaker; the units they hit are not marked as failed, but tried again
once another unit has shown that the environment works, and only a second such error there is the video's own.
"""

from dataclasses import dataclass, replace

from cluster.failure import ENVIRONMENT_CLASSES

STRIKES = 2
LOSSES = 10
BREAKER_UNITS = 3


@dataclass(frozen=True)
class Record:
    """What has happened to one unit so far in this run and, by its stored failures, before."""

    attempts: int = 0
    strikes: int = 0
    losses: int = 0
    excused: int = 0

    def struck(self) -> "Record":
        """One more death while it was worked on."""
        return replace(self, attempts=self.attempts + 1, strikes=self.strikes + 1)

    def lost(self) -> "Record":
        """One more loss of the machine below it."""
        return replace(self, attempts=self.attempts + 1, losses=self.losses + 1)

    def failed(self) -> "Record":
        """One more orderly failure."""
        return replace(self, attempts=self.attempts + 1)

    def excuse(self) -> "Record":
        """One failure put down to the environment."""
        return replace(self, excused=self.excused + 1)

    @property
    def finished(self) -> bool:
        """Whether the video is given up."""
        return self.strikes >= STRIKES or self.losses >= LOSSES


@dataclass(frozen=True)
class Breaker:
    """Counts outcomes in a row that are the environment's fault."""

    in_a_row: int = 0

    def after(self, error_class: str | None) -> "Breaker":
        """error_class of a finished unit, None where it succeeded. A bad video says that the environment works."""
        return Breaker(self.in_a_row + 1 if error_class in ENVIRONMENT_CLASSES else 0)

    def open(self, units: int) -> bool:
        """Whether the run must stop. A run of fewer units than the threshold is judged by all of them."""
        return self.in_a_row >= min(BREAKER_UNITS, max(1, units))
