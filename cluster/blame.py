"""Whose fault a lost attempt is. Pure decisions, tested without Ray.

A video that fails in an orderly way (it cannot be decoded, its prompt is out of range) has failed for good: the same
input gives the same error. What may be the video's doing, but also bad luck, is a strike: its decoder crashed or hung,
the unit ran out of memory, made no progress until its deadline. Two strikes are the end. An actor that dies of unknown
cause, a lost node and a preemption are no strikes, but are capped; three deaths at the same place of the same unit are
no chance any more. (Two can be: where actors are killed at random and a unit waits long at one place, as its start on a
busy machine, two of 105 random kills met there.)

Units that the environment failed (storage, permission, device) are not marked as failed, but tried again once another
unit has shown that the environment works, and only a second such error, at a place that works, is the video's own.
Several in a row open the circuit breaker (`cluster/breaker.py`).
"""

from dataclasses import dataclass, replace

STRIKES = 2
LOSSES = 10
DEATHS_AT_ONE_PLACE = 3
# The driver hears of an actor's place every quarter of a second once a unit is suspicious.
PLACE_FRAMES = 3
STRIKING = frozenset({"out-of-memory", "deadline"})  # causes of death that are strikes


@dataclass(frozen=True)
class Place:
    """Where in a unit a death happened, as last heard of."""

    stage: str
    done: int

    def near(self, other: "Place") -> bool:
        """Whether two deaths here are one and the same death."""
        return self.stage == other.stage and abs(self.done - other.done) <= PLACE_FRAMES


@dataclass(frozen=True)
class Record:
    """What has happened to one unit so far in this run and, by its stored failures, before."""

    attempts: int = 0
    strikes: int = 0
    losses: int = 0
    excused: int = 0
    places: tuple[Place, ...] = ()

    def died(self, cause: str, place: Place | None) -> "Record":
        """One more death while it was worked on. place None: not known."""
        record = replace(self, attempts=self.attempts + 1)
        if cause in STRIKING:
            return replace(record, strikes=self.strikes + 1)
        if cause == "actor-died" and place is not None:
            record = replace(record, places=(*self.places, place))
            if sum(place.near(other) for other in record.places) >= DEATHS_AT_ONE_PLACE:
                return replace(record, strikes=STRIKES)
        return replace(record, losses=self.losses + 1)

    def struck(self) -> "Record":
        """One more failure that may be the video's doing."""
        return replace(self, attempts=self.attempts + 1, strikes=self.strikes + 1)

    def failed(self) -> "Record":
        """One more orderly failure."""
        return replace(self, attempts=self.attempts + 1)

    def excuse(self) -> "Record":
        """One failure put down to the environment."""
        return replace(self, excused=self.excused + 1)

    @property
    def suspicious(self) -> bool:
        """Whether the driver should look closely when it is tried again."""
        return bool(self.strikes or self.losses)

    @property
    def finished(self) -> bool:
        """Whether the video is given up."""
        return self.strikes >= STRIKES or self.losses >= LOSSES
