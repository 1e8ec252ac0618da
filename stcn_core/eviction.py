"""Which slot of the bank a new frame takes: policy only, no tensors.

The bank is filled first under every policy. `fifo`, `random-frame` and `random-token` then always admit; `reservoir`
(Vitter 1985, algorithm R) may turn a frame away, and a frame that is turned away need not be computed.
"""

from typing import Protocol

import numpy as np

from stcn_core.settings import MemoryPolicy


class Eviction(Protocol):
    """inserted counts the frames offered so far (this one not included); returns a slot, or None to turn it away."""

    def slot(self, inserted: int, capacity: int, draw: np.random.Generator) -> int | None: ...


class Fifo:
    """The oldest slot goes. Over a random permutation the bank is a uniform sample with the latest labels."""

    def slot(self, inserted: int, capacity: int, draw: np.random.Generator) -> int:
        return inserted % capacity


class RandomFrame:
    """A slot chosen at random goes; ages are geometric."""

    def slot(self, inserted: int, capacity: int, draw: np.random.Generator) -> int:
        return inserted if inserted < capacity else int(draw.integers(capacity))


class Reservoir:
    """Every frame offered so far is in the bank with equal probability."""

    def slot(self, inserted: int, capacity: int, draw: np.random.Generator) -> int | None:
        if inserted < capacity:
            return inserted
        slot = int(draw.integers(inserted + 1))
        return slot if slot < capacity else None


class Unbounded:
    """Nothing ever goes (STCN): the storage grows."""

    def slot(self, inserted: int, capacity: int, draw: np.random.Generator) -> int:
        return inserted


def eviction_of(policy: MemoryPolicy) -> Eviction:
    """The frame-level policy of that name; `random-token` fills like fifo and is then handled per token."""
    return {
        "fifo": Fifo,
        "random-frame": RandomFrame,
        "reservoir": Reservoir,
        "random-token": Fifo,
        "unbounded": Unbounded,
    }[policy]()


def random_tokens(frames: int, tokens: int, draw: np.random.Generator) -> np.ndarray:
    """stcnbuf's replacement: one frame's worth of element positions [tokens] int64, none twice, over the whole bank."""
    return draw.permutation(frames * tokens)[:tokens]
