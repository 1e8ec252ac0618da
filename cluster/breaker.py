"""The circuit breaker: whether the environment fails the whole run, or one machine of it. Pure, tested without Ray.

A place is a machine or, on GPUs, one GPU of it. Failures of the environment (storage, permission, device) in a row mean
that the run must stop, but not where they all come from one place while others work on: then that place is set aside.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cluster.failure import ENVIRONMENT_CLASSES

BREAKER_UNITS = 3


@dataclass(frozen=True)
class Breaker:
    """in_a_row: the places of the environment's latest failures without another outcome between (one without a name is
    the driver itself); worked: some unit has got through before; streaks: how many in a row at each place, 0 where the
    last outcome was another one."""

    in_a_row: tuple[str, ...] = ()
    worked: bool = False
    streaks: dict[str, int] = field(default_factory=dict)

    def after(self, error_class: str | None, place: str = "", own: bool = False) -> "Breaker":
        """error_class of a finished unit, None where it succeeded; own: it was found to be the video's own doing, and
        says nothing of the place. A bad video says that the environment works."""
        fault = error_class in ENVIRONMENT_CLASSES
        streak = self.streaks.get(place, 0)
        streaks = self.streaks if own and fault else self.streaks | {place: streak + 1 if fault else 0}
        return Breaker((*self.in_a_row, place) if fault else (), self.worked or not fault, streaks)

    def open(self, units: int, at_work: Collection[str] = ()) -> bool:
        """Whether the run must stop. A run of fewer units than the threshold is judged by all of them.

        at_work: the place of every actor that has units. What has worked before is not given up for one moment's fault
        that meets all of them at once. As long as another place may still show that the environment works, a place
        counts once, however often it fails.
        """
        threshold = max(BREAKER_UNITS, len(at_work) + 1) if self.worked else BREAKER_UNITS
        elsewhere = set(at_work) - set(self.in_a_row)
        count = len(set(self.in_a_row)) if elsewhere else len(self.in_a_row)
        return count >= min(threshold, max(1, units))

    def suspect(self, actors: Mapping[str, int], at_work: Collection[str]) -> str | None:
        """A place that fails whatever it is given, while others are at work. actors: how many there are at each place:
        one moment's fault may meet all of them."""
        elsewhere = set(at_work) - set(self.in_a_row)
        for place, streak in self.streaks.items():
            if place and streak >= max(BREAKER_UNITS, actors.get(place, 0) + 1) and elsewhere - {place}:
                return place
        return None

    def forget(self, place: str) -> "Breaker":
        """Without what is known of a place: nothing is given to it for a while."""
        rest = {other: streak for other, streak in self.streaks.items() if other != place}
        return Breaker(tuple(other for other in self.in_a_row if other != place), self.worked, rest)

    def trusts(self, place: str) -> bool:
        """Whether the last thing that happened there was no fault of the environment: what fails there now is the
        video's own doing."""
        return self.streaks.get(place) == 0
