"""Where a segment's pictures come from: by seeking where that gives the right ones, otherwise from one shared pass."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice

import numpy as np

from cluster.frames.decoder import Frames

Picture = tuple[int, np.ndarray]


def picture_digest(picture: np.ndarray) -> str:
    """32 hex digits over uint8 [h, w, 3]."""
    return hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).hexdigest()


def sought(frames: Frames, warm: int, expected: str | None) -> tuple[list[Picture], Iterator[Picture]] | None:
    """(the first `warm` pictures, those after them), or None where the first picture is not the expected one.

    A stream may call frames random access points that are none (H.264 with intra refresh): decoding from there gives
    garbage for a while, without an error. So the burn-in, which reads everything in order, keeps a digest of the
    picture at which each segment begins to read.
    """
    stream = iter(frames)
    head = next(stream, None)
    if head is None or (expected is not None and picture_digest(head[1]) != expected):
        stream.close()
        return None
    whole = chain((head,), stream)
    return list(islice(whole, warm)), whole


class SharedPass:
    """One pass through a file that cannot be sought, for all the segments that an actor does of it, in order.

    keep: how many pictures before a segment may be asked for. alive is called for every picture that is passed over.
    """

    def __init__(self, frames: Frames, keep: int, alive: Callable[[], None]) -> None:
        self.frames, self.position = frames, 0
        self._stream, self._tail, self._alive = iter(frames), deque(maxlen=keep), alive

    def stretch(self, first: int, last: int | None, warm: int) -> tuple[list[Picture], Iterator[Picture]]:
        """(the `warm` pictures before position first, those from there to before last). first: `position` or later."""
        for _ in self._until(first):
            self._alive()
        return list(self._tail)[len(self._tail) - warm :], self._until(last)

    def close(self) -> None:
        """Lets the decoder go."""
        self._stream.close()

    def _until(self, position: int | None) -> Iterator[Picture]:
        while position is None or self.position < position:
            item = next(self._stream, None)
            if item is None:
                return
            self._tail.append(item)
            self.position += 1
            yield item
