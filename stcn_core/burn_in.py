"""Which frames the burn-in visits, and in which order: a pure choice that needs no frame count.

Each frame's priority in a pass is a hash of (seed, video, pass, frame). The N frames of lowest priority are visited,
in the order of their priorities: a uniform random sample in a uniform random order, found while the video streams by.
"""

import heapq
from collections.abc import Iterable

from stcn_core.seeds import named_seed


class BurnInChoice:
    """Keeps the choice while frames are offered in any order.

    limit is the number of frames per pass, None for all. Memory is O(limit x passes).
    """

    def __init__(self, seed: int, video_id: str, passes: int, limit: int | None) -> None:
        self._seed, self._video_id, self._limit = seed, video_id, limit
        self._heaps: list[list[tuple[int, int]]] = [[] for _ in range(passes)]  # (-priority, -frame)

    def priority(self, number: int, frame: int) -> int:
        """The priority of a frame in pass `number`; the lowest are visited first."""
        return named_seed(self._seed, self._video_id, "burn-in", number, frame)

    def offer(self, frame: int) -> tuple[bool, list[int]]:
        """Is this frame chosen by any pass, as far as known, and which frames no pass needs any more because of it.

        Each frame must be offered once only.
        """
        kept, dropped = False, []
        for number, heap in enumerate(self._heaps):
            entry = (-self.priority(number, frame), -frame)
            if self._limit is None or len(heap) < self._limit:
                heapq.heappush(heap, entry)
                kept = True
            elif entry > heap[0]:
                dropped.append(-heapq.heapreplace(heap, entry)[1])
                kept = True
        if dropped:
            needed = {-entry[1] for heap in self._heaps for entry in heap} if len(self._heaps) > 1 else set()
            dropped = [f for f in dict.fromkeys(dropped) if f not in needed]  # two passes may drop the same frame
        return kept, dropped

    def order(self) -> Iterable[int]:
        """The frames in visiting order, pass after pass."""
        for heap in self._heaps:
            for _, frame in sorted(heap, reverse=True):
                yield -frame

    def __len__(self) -> int:
        return sum(map(len, self._heaps))
