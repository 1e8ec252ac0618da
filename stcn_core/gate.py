"""What keeps a wrong early mask from spreading through the burn-in: named policies, all off by default.

A memory that holds one frame labels distant frames badly, and what it labels is read back. The names below may be
joined; beside them there is `confidence_gate` (admission.py). Those that judge a frame do so object by object: an
object that a frame's slot is not trusted with is unknown there, and a frame that is trusted with none is not memorised.
"""

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stcn_core.burn_in import outward
from stcn_core.label_sums import label_overlaps
from stcn_core.memory import MemoryBank
from stcn_core.propagation import EncodedFrames, Propagation
from stcn_core.seeds import named_seed
from stcn_core.settings import OfflineSettings

KEPT = 0.5  # restart: share of the bank that the next pass starts with
STRIDE = 4  # of the label maps that a rehearsal keeps: one in 16 pixels


@dataclass(frozen=True)
class Stage:
    """A stretch of the burn-in. frames: visited in that order; None: those in the bank then, labelled again.

    rehearsal: masks are only noted, and the bank is empty again afterwards. restart: it begins with the surest of the
    frames in the bank.
    """

    frames: tuple[int, ...] | None
    rehearsal: bool = False
    restart: bool = False


def stages(order: Sequence[int], settings: OfflineSettings, prompted: Collection[int], name: str) -> list[Stage]:
    """The burn-in of the frames in `order`, which whoever chose them made, pass after pass, under the settings' gates.
    prompted: frames with a mask; name: the video's id."""
    gates, passes = settings.gates, settings.burn_in_passes
    size = max(1, -(-len(order) // passes))
    parts = [tuple(order[start : start + size]) for start in range(0, len(order), size)]
    found = []
    if "agreement" in gates and parts:
        draw = _draw(settings, name, "rehearsal")
        # Of a long video every pass visits other frames: what is not rehearsed would not be trusted.
        visited = tuple(dict.fromkeys(frame for part in parts for frame in part))
        if settings.burn_in_order == "outward":
            other = outward(visited, prompted, draw)
        else:
            other = tuple(int(frame) for frame in draw.permutation(visited))
        found.append(Stage(other, rehearsal=True))
    found += [Stage(part, restart=number > 0 and "restart" in gates) for number, part in enumerate(parts)]
    return [*found, Stage(None)] if "relabel" in gates else found


def overlaps(labels: Tensor, other: Tensor, objects: int) -> list[float]:
    """J of objects 1 to `objects` in two label maps of one shape; 1 where neither shows the object."""
    both, either = label_overlaps(labels.flatten().long(), other.flatten().long(), objects + 1)
    return [i / e if e else 1.0 for i, e in zip(both[1:].tolist(), either[1:].tolist(), strict=True)]


def certainty(probabilities: Tensor) -> float:
    """Of aggregated probabilities [1 + K, h, w]: the objects' mean probability inside their masks, averaged over the
    objects. One that is not visible counts 0: whether it is gone or lost cannot be told."""
    best, labels = probabilities.max(0)
    inside = [best[labels == k] for k in range(1, len(probabilities))]
    return sum(float(values.mean()) if len(values) else 0.0 for values in inside) / max(1, len(inside))


def surest(certain: Mapping[int, float], frames: Sequence[int], share: float = KEPT) -> list[int]:
    """That share of the frames, at least one, with the highest certainty; the lowest number among equals."""
    ranked = sorted(frames, key=lambda frame: (-certain.get(frame, 0.0), frame))
    return ranked[: max(1, math.ceil(share * len(frames)))]


class Witness:
    """A frame with given masks: what a predicted frame, as the only memory, should give back.

    full: hard masks [K, h, w] of the working size; objects: positions of those that this frame is asked about.
    """

    def __init__(self, encoded: EncodedFrames, full: np.ndarray, objects: Collection[int]) -> None:
        self.encoded, self.objects = encoded, tuple(objects)
        self._true = torch.from_numpy(full[list(self.objects)])  # the given masks overlap nowhere, or by a few pixels

    def hears(self, propagation: Propagation, settings: OfflineSettings, key: Tensor, values: Tensor) -> list[float]:
        """J of what comes back, per object asked about. key [Ck, h, w] and values [K, Cv, h, w] of the predicted
        frame. Other objects share the softmax, as in any frame."""
        count, channels = values.shape[:2]
        memory = MemoryBank(
            settings, propagation.grid, count, len(key), channels, pinned=1, bank=1, device=propagation.device
        )
        memory.pin_guess(0, key, values, [True] * count)
        back = propagation.segment(self.encoded, memory, range(count))[0]
        labels = propagation.unpad(back).argmax(0).cpu()
        return [
            overlaps((labels == k + 1).byte(), true, 1)[0] for k, true in zip(self.objects, self._true, strict=True)
        ]


class Gate:
    """One video's judge of predicted frames, and what it has to remember for that."""

    def __init__(self, propagation: Propagation, settings: OfflineSettings, objects: int) -> None:
        self.propagation, self.settings, self.objects = propagation, settings, objects
        self.certain: dict[int, float] = {}
        self._rehearsed: dict[int, bytes] = {}  # label maps, compressed: there may be one per frame of a long video
        self._witnesses: list[Witness] = []

    def add_given(self, encoded: EncodedFrames, full: np.ndarray, given: Collection[int]) -> None:
        """A frame with given masks, full [K, h, w]; given: the positions of the objects whose masks they are. The first
        frame that shows an object stands for it: later ones, and empty masks, are not asked."""
        asked = {k for witness in self._witnesses for k in witness.objects}
        new = [k for k in given if k not in asked and full[k].any()]
        if "two-way" in self.settings.gates and new:
            self._witnesses.append(Witness(encoded, full, new))

    def note(self, frame: int, probabilities: Tensor) -> None:
        """A rehearsal's masks [1 + K, H, W], padded."""
        self._rehearsed[frame] = zlib.compress(self._small(probabilities).numpy().tobytes(), 1)

    def trusted(self, frame: int, key: Tensor, values: Tensor, probabilities: Tensor) -> list[bool]:
        """Per object: may the memory keep what this frame says of it? probabilities [1 + K, H, W], padded."""
        gates, least = self.settings.gates, self.settings.gate_overlap
        trusted = [True] * self.objects
        if "restart" in gates:
            self.certain[frame] = certainty(self.propagation.unpad(probabilities))
        if "agreement" in gates:
            before = self._rehearsed.get(frame)
            if before is None:  # the bank's policy turned it away then: nothing speaks for it
                return [False] * self.objects
            labels = torch.frombuffer(bytearray(zlib.decompress(before)), dtype=torch.int16)
            agreed = overlaps(self._small(probabilities), labels, self.objects)
            trusted = [each >= least for each in agreed]
        for witness in self._witnesses:
            back = witness.hears(self.propagation, self.settings, key, values)
            for k, overlap in zip(witness.objects, back, strict=True):
                trusted[k] = trusted[k] and overlap >= least
        return trusted

    def _small(self, probabilities: Tensor) -> Tensor:
        return self.propagation.unpad(probabilities).argmax(0)[::STRIDE, ::STRIDE].to(torch.int16).cpu().contiguous()


def _draw(settings: OfflineSettings, name: str, purpose: str) -> np.random.Generator:
    return np.random.default_rng(named_seed(settings.seed, name, purpose))
