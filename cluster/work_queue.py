"""Which units wait, and which is next. Pure: no clock, no Ray, no storage.

Most costly first, which keeps the end of a run short. A long video's burn-in counts with all that it unlocks; its
segments wait until its bank is there. An actor goes on with the video that it has open. Units too small to be worth a
call of their own are packed; one that has cost an attempt, or was in a pack when its actor died, runs alone from
then on, so that the next death can be blamed on one unit.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Sequence

from cluster.plan import BURN_IN, SEGMENT, WHOLE, Unit

PACK_UNITS = 64  # so that an answer stays small and a stop is not held up
# Less work than this is given several units at a time: an answer to and fro costs milliseconds, a listing more.
PACK_SECONDS = 20.0


def pack_cost(per_cost: float | None, waiting_cost: float, actors: int) -> float:
    """How much work to give at a time: little, and less towards the end. per_cost: seconds per unit of predicted cost,
    None where not measured yet."""
    return 0.0 if not per_cost else min(PACK_SECONDS / per_cost, waiting_cost / (4 * actors))


class WorkQueue:
    """Waiting units. A segment whose burn-in is among `units` is blocked until `unlock`."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.cost = 0.0  # of everything that waits
        self._number = itertools.count()
        self._heap: list[tuple[float, int, Unit]] = []
        self._waiting: dict[str, Unit] = {}  # unit id -> unit that can be taken
        self._blocked: dict[str, list[Unit]] = {}  # video key -> segments without a bank
        self._of_video: dict[str, list[Unit]] = {}  # video key -> its units that can be taken
        self._alone: set[str] = set()
        unlocks = {unit.video_key: 0.0 for unit in units if unit.kind == BURN_IN}
        for unit in units:
            if unit.kind == SEGMENT and unit.video_key in unlocks:
                unlocks[unit.video_key] += unit.cost
                self._blocked.setdefault(unit.video_key, []).append(unit)
                self.cost += unit.cost
        blocked = {unit.unit_id for waiting in self._blocked.values() for unit in waiting}
        for unit in units:
            if unit.unit_id not in blocked:
                self._push(unit, unit.cost + unlocks.get(unit.video_key, 0.0))

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._blocked.values()))

    @property
    def available(self) -> int:
        """How many units can be taken now."""
        return len(self._waiting)

    def take(self, open_video: str | None = None, pack_cost: float = 0.0) -> tuple[Unit, ...]:
        """The next unit, or several small ones of together about pack_cost; () where none is available.

        open_video: key of the video that the actor has open, whose segments it goes on with.
        """
        first = self._next_segment(open_video) or self._pop()
        if first is None:
            return ()
        pack, cost = [first], first.cost
        while self._packs(first) and len(pack) < PACK_UNITS:
            following = self._peek()
            if following is None or not self._packs(following) or cost + following.cost > pack_cost:
                break
            pack.append(self._pop())
            cost += following.cost
        return tuple(pack)

    def put_back(self, units: Iterable[Unit], *, alone: bool = False) -> None:
        """Units to be tried again, before all others. alone: never again in a pack."""
        for unit in units:
            if alone:
                self._alone.add(unit.unit_id)
            self._push(unit, math.inf)

    def unlock(self, video_key: str) -> None:
        """The video's bank is there: its segments can be taken."""
        for unit in self._blocked.pop(video_key, []):
            self.cost -= unit.cost
            self._push(unit, unit.cost)

    def lock(self, burn_in: Unit) -> None:
        """The video's bank is lost: its segments wait for a new one."""
        waiting = self._of_video.pop(burn_in.video_key, [])
        for unit in waiting:
            del self._waiting[unit.unit_id]
        self._blocked.setdefault(burn_in.video_key, []).extend(waiting)
        self._push(burn_in, math.inf)

    def block(self, segment: Unit) -> None:
        """A segment that must wait for its video's burn-in, which is waiting or in flight."""
        self._blocked.setdefault(segment.video_key, []).append(segment)
        self.cost += segment.cost

    def drop(self, video_key: str) -> list[Unit]:
        """Forgets what waits of a video; returns it."""
        dropped = self._blocked.pop(video_key, []) + self._of_video.pop(video_key, [])
        for unit in dropped:
            self._waiting.pop(unit.unit_id, None)
            self.cost -= unit.cost
        return dropped

    def _packs(self, unit: Unit) -> bool:
        return unit.kind == WHOLE and unit.unit_id not in self._alone

    def _push(self, unit: Unit, priority: float) -> None:
        self._waiting[unit.unit_id] = unit
        self.cost += unit.cost
        heapq.heappush(self._heap, (-priority, next(self._number), unit))
        self._of_video.setdefault(unit.video_key, []).append(unit)

    def _peek(self) -> Unit | None:
        # Units that went another way (a segment taken by its video's actor, a dropped video) are still in the heap.
        while self._heap and self._waiting.get(self._heap[0][2].unit_id) is not self._heap[0][2]:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def _pop(self) -> Unit | None:
        unit = self._peek()
        if unit is not None:
            heapq.heappop(self._heap)
            self._remove(unit)
        return unit

    def _next_segment(self, video_key: str | None) -> Unit | None:
        candidates = [unit for unit in self._of_video.get(video_key, []) if unit.kind == SEGMENT]
        if not candidates:
            return None
        unit = min(candidates, key=lambda unit: unit.first)
        self._remove(unit)
        return unit

    def _remove(self, unit: Unit) -> None:
        del self._waiting[unit.unit_id]
        self.cost -= unit.cost
        kept = [other for other in self._of_video.pop(unit.video_key) if other is not unit]
        if kept:
            self._of_video[unit.video_key] = kept
