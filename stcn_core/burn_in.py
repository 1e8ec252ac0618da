"""Which frames the burn-in visits, and in which order: a pure choice that needs no frame count.

Each frame's priority in a pass is a hash of (seed, video, pass, frame). The N frames of lowest priority are visited,
in the order of their priorities: a uniform random sample in a uniform random order, found while the video streams by.
Another order is made of the same sample. Frames may be given weights; the sample then is one without replacement in
their proportion (Efraimidis and Spirakis 2006), and the order is as random as without.
"""

import heapq
import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from stcn_core.image_change import image_change
from stcn_core.seeds import named_seed
from stcn_core.settings import OfflineSettings

WINDOW = 4  # outward: each frame is drawn from so many
TRIGGER = 0.5  # percentage points of dI at which EamStcn's rule may trigger; here a weight of 2


class BurnInChoice:
    """Keeps the choice while frames are offered in any order.

    limit is the number of frames per pass, None for all. Memory is O(limit x passes).
    """

    def __init__(self, seed: int, video_id: str, passes: int, limit: int | None) -> None:
        self._seed, self._video_id, self._limit = seed, video_id, limit
        self._heaps: list[list[tuple[float, int]]] = [[] for _ in range(passes)]  # (-priority / weight, -frame)

    def priority(self, number: int, frame: int) -> int:
        """The priority of a frame in pass `number`; the lowest are visited first."""
        return named_seed(self._seed, self._video_id, "burn-in", number, frame)

    def offer(self, frame: int, weight: float | None = None) -> tuple[bool, list[int]]:
        """Is this frame chosen by any pass, as far as known, and which frames no pass needs any more because of it.

        Each frame must be offered once only, and all with a weight above 0, or none.
        """
        kept, dropped = False, []
        for number, heap in enumerate(self._heaps):
            key = self.priority(number, frame)
            if weight is not None:
                key = -math.log1p(-(key + 0.5) / 2**64) / weight  # rises with the priority
            entry = (-key, -frame)
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

    def order(self, prompted: Collection[int] = ()) -> Iterable[int]:
        """The frames in visiting order, pass after pass. prompted: frames with a mask, for orders that ask for them."""
        for number, heap in enumerate(self._heaps):
            yield from sorted((-frame for _, frame in heap), key=lambda frame: (self.priority(number, frame), frame))

    def __len__(self) -> int:
        return sum(map(len, self._heaps))


class OutwardChoice(BurnInChoice):
    """The same frames; the first pass visits them from the prompted ones outwards, see `outward`."""

    def order(self, prompted: Collection[int]) -> Iterable[int]:
        """The frames in visiting order, pass after pass."""
        found = list(super().order(prompted))
        first = len(self._heaps[0])
        draw = np.random.default_rng(named_seed(self._seed, self._video_id, "outward"))
        return iter([*outward(found[:first], prompted, draw), *found[first:]])


def sampled_choice(settings: OfflineSettings, video_id: str) -> BurnInChoice:
    """The choice under one of SAMPLED_ORDERS."""
    kind = OutwardChoice if settings.burn_in_order == "outward" else BurnInChoice
    return kind(settings.seed, video_id, settings.burn_in_passes, settings.visited_frames)


class MotionWeights:
    """Weights of frames for `offer` by the image part of EamStcn's rule: 1 + dI / 0.5, with dI as in admission.py.

    A frame at which the movement changes is as likely as several others; a still video is sampled uniformly.
    """

    def __init__(self) -> None:
        self._picture: np.ndarray | None = None
        self._change: float | None = None

    def weigh(self, picture: np.ndarray) -> float:
        """The weight of the next frame, uint8 [h, w, 3], of a video in order."""
        before, self._picture = self._picture, picture
        if before is None:
            return 1.0
        last, self._change = self._change, image_change(picture, before)
        return 1.0 if last is None else 1 + abs(self._change - last) / TRIGGER


def stcnbuf_order(
    frames: Sequence[int], first: Sequence[int], passes: int, every: int, seed: int, permute: bool = True
) -> list[int]:
    """The frames that stcnbuf's burn-in memorises, in its order, after numpy.random.seed(seed).

    frames: all of the video in order; first: its --init-frame list, every one of them among the frames. Each pass is a
    permutation of its own (or in order); the first frames are taken out once and put to the front. Of every batch of
    `every` frames (--mem-every) the last one is memorised; the others have no effect and are left out here.
    """
    draw = np.random.RandomState(seed)
    stream: list[int] = []
    for _ in range(passes):
        stream += (frames[int(i)] for i in draw.permutation(len(frames))) if permute else frames
    for frame in first:
        stream.remove(frame)
    stream = [*first, *stream]
    return [stream[min(start + every, len(stream)) - 1] for start in range(0, len(stream), every)]


class StcnbufChoice(BurnInChoice):
    """Every frame, in stcnbuf's order; see `stcnbuf_order`. Frames in `first` that were not offered are left out."""

    def __init__(self, seed: int, passes: int, every: int, first: Sequence[int], permute: bool) -> None:
        super().__init__(seed, "", 1, None)
        self._arguments = passes, every, seed % 2**32, permute
        self._first = list(first)
        self._frames: list[int] = []
        self._found: list[int] | None = None

    def offer(self, frame: int, weight: float | None = None) -> tuple[bool, list[int]]:
        """Every frame is chosen."""
        self._frames.append(frame)
        return True, []

    def order(self, prompted: Collection[int] = ()) -> Iterable[int]:
        """The frames that are memorised, in that order."""
        if self._found is None:
            there = set(self._frames)
            first = [frame for frame in self._first if frame in there]
            self._found = stcnbuf_order(sorted(self._frames), first, *self._arguments)
        return iter(self._found)

    def __len__(self) -> int:
        return len(list(self.order()))


def outward(frames: Sequence[int], prompted: Collection[int], draw: np.random.Generator) -> tuple[int, ...]:
    """A random order that grows from the prompted frames: each frame is drawn from the WINDOW nearest to a prompt that
    are left. A wider window soon visits frames far from any that is known, and loses what outward is for."""
    there = np.asarray(sorted(prompted))
    frames = np.asarray(frames)
    after = np.searchsorted(there, frames).clip(max=len(there) - 1)
    distance = np.minimum(np.abs(frames - there[after]), np.abs(frames - there[(after - 1).clip(min=0)]))
    near = frames[np.lexsort((frames, distance))].tolist()
    order: list[int] = []
    reached: list[int] = []
    for visit in range(len(near)):
        taken = len(order) + len(reached)
        reached += near[taken : visit + WINDOW]
        order.append(reached.pop(int(draw.integers(len(reached)))))
    return tuple(order)
