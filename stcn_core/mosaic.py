"""random-token: the frames that the bank's elements come from, once it is full and they overwrite each other.

A slot then belongs to no one frame. Who may read which element, and of which object it says anything, is decided
element by element.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stcn_core.bank_layout import EMPTY


class Mosaic:
    """frames int64 [slots, T]: every element's frame, EMPTY where nothing is (T with the slots' padding).

    partly_known: frame -> validity per object, of the frames that say nothing about some object.
    """

    def __init__(self, tokens: int, device: torch.device) -> None:
        self.frames = torch.zeros(0, tokens, dtype=torch.int64, device=device)
        self.partly_known: dict[int, tuple[bool, ...]] = {}

    def grow(self, more: int) -> None:
        """Appends empty slots."""
        self.frames = torch.cat((self.frames, self.frames.new_full((more, self.frames.shape[1]), EMPTY)))

    def note(self, frame: int, valid: tuple[bool, ...]) -> None:
        """What the elements of a frame in the bank say something about."""
        self.partly_known.pop(frame, None)
        if not all(valid):
            self.partly_known[frame] = valid

    def unknown(self, k: int) -> tuple[int, ...]:
        """Frames whose elements say nothing about object k."""
        return tuple(frame for frame, valid in self.partly_known.items() if not valid[k])

    def elements_of(self, frames: Sequence[int]) -> Tensor:
        """[slots, T] bool: the elements that come from these frames."""
        return torch.isin(self.frames, torch.tensor(frames, device=self.frames.device))

    def hidden(
        self, frame: int | None, slots: Sequence[int], unknown: Sequence[int], whole: Sequence[int]
    ) -> Tensor | None:
        """[slots * T] bool: elements that are not read by `frame` (None: it may read its own), or None: none is hidden.

        unknown: frames that say nothing of the object; whole: slots that are no mosaic, which others judge.
        """
        hidden = self._bank_elements((*unknown, frame) if frame is not None else unknown, whole)
        if frame is not None and not set(slots) & {*whole}:
            if not ((self.frames != EMPTY) & ~hidden)[list(slots)].any():
                hidden = self._bank_elements(unknown, whole)  # its own elements are all that is known
        return None if hidden is None else hidden.flatten()

    def _bank_elements(self, frames: Sequence[int], whole: Sequence[int]) -> Tensor | None:
        if not frames:
            return None
        found = self.elements_of(frames)
        found[list(whole)] = False
        return found

    def validity(self, slots: Sequence[int], objects: int) -> list[tuple[bool, ...]]:
        """Per slot and object: does any of its elements say something about the object?

        Frames of which no element is left are forgotten.
        """
        mine = self.frames[list(slots)]
        if self.partly_known:
            left = set(mine.unique().tolist())
            self.partly_known = {frame: valid for frame, valid in self.partly_known.items() if frame in left}
        found = []
        for k in range(objects):
            silent = torch.tensor([EMPTY, *self.unknown(k)], device=mine.device)
            says = (~torch.isin(mine, silent)).any(1).tolist() if len(silent) > 1 else [True] * len(slots)
            found.append(says)
        return list(zip(*found, strict=True))
