"""Which slots of a memory bank lie where, and what each holds: what a bank is beside its tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

EMPTY = -1
MOSAIC = -2


@dataclass
class Slot:
    """What one slot holds. frame is EMPTY where nothing is, MOSAIC where elements differ. valid: per object, whether
    anything is known of it there; absent: whether it is known not to be there (empty: of none)."""

    frame: int = EMPTY
    pinned: bool = False
    valid: tuple[bool, ...] = ()
    absent: tuple[bool, ...] = ()
    given: bool = False  # its masks were given: they weigh more than predicted ones


@dataclass(frozen=True)
class BankLayout:
    """Which slots lie where: what a bank is beside its tensors.

    pinned, recent and bank are the slots' indices by part, in the parts' own order; slots all of them by index.
    partly_known: under random-token, the frames where some object is not valid.
    """

    pinned: tuple[int, ...]
    recent: tuple[int, ...]
    bank: tuple[int, ...]
    slots: tuple[Slot, ...]
    partly_known: dict[int, tuple[bool, ...]]

    def held(self) -> list[int]:
        """The indices of the slots that hold something."""
        return [index for index, slot in enumerate(self.slots) if slot.frame != EMPTY]


def slot_runs(slots: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Element ranges of consecutive slots of `size` elements."""
    runs = []
    for _, members in groupby(enumerate(slots), lambda pair: pair[1] - pair[0]):
        indices = [slot for _, slot in members]
        runs.append((indices[0] * size, (indices[-1] + 1) * size))
    return runs
