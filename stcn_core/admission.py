"""Which frames of a causal run are memorised, and which frames a burn-in should see: policy only, no storage.

`every-nth` is STCN's fixed rate. `adaptive` is EamStcn's motion-aware rule (its evaluator; sections "adaptive save" and
"cool-down"): a test of the CHANGE of motion, not of motion, so that steady movement never triggers it. With

    I_t   percent of pixels whose normalised colours changed by more than 4, summed over the channels, since t - 1
    M_t   percent of pixels whose objects' probabilities changed by more than 0.99, summed over the objects
    dI = |I_t - I_(t-1)|, dM = |M_t - M_(t-1)|   from the second difference on (t >= 2), before that 0

a frame is memorised when `motion_changed` says so or its number is a multiple of the additional rate, unless another
one was memorised less than COOL_DOWN frames before. Prompted frames are pinned anyway; they do not count for it.
A confidence gate (the lesson of QDMN) turns away frames whose masks are doubtful, in causal runs and in burn-ins.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from torch import Tensor

from stcn_core.labels import label_frame
from stcn_core.settings import OfflineSettings

Admission = Literal["every-nth", "adaptive"]
ADMISSIONS: tuple[str, ...] = get_args(Admission)
MASK_CHANGED = 0.99
COOL_DOWN = 4  # frames


@dataclass(frozen=True)
class FrameChange:
    """How much a frame differs from the one before it: image and mask in percent of the padded frame's pixels."""

    image: float
    mask: float


class AdmissionRule(Protocol):
    """Asked once for every frame of a causal run, in order."""

    def wants(self, change: FrameChange, objects: int, prompted: bool) -> bool:
        """Whether this frame is to be memorised. objects: how many have begun; the first frame's change is 0."""


class EveryNth:
    """STCN: every n-th frame fed, counted from the first one, or (restart) anew from each prompted frame."""

    def __init__(self, every: int, restart: bool) -> None:
        self._every, self._restart = every, restart
        self._since = 0

    def wants(self, change: FrameChange, objects: int, prompted: bool) -> bool:
        if prompted and self._restart:
            self._since = 0
        wanted = self._since % self._every == 0
        self._since += 1
        return wanted


class Adaptive:
    """EamStcn's rule. additional_every: these frames are memorised, too; 0 for none."""

    def __init__(self, additional_every: int) -> None:
        self._additional = additional_every
        self._frame = -1
        self._wait = 1  # frames until one may be memorised
        self._before: FrameChange | None = None

    def wants(self, change: FrameChange, objects: int, prompted: bool) -> bool:
        self._frame += 1
        if self._frame == 0:
            return False  # nothing to compare with; it is the first prompt, which is pinned
        self._wait = max(0, self._wait - 1)
        before, self._before = self._before, change
        image = abs(change.image - before.image) if before else 0.0
        mask = abs(change.mask - before.mask) if before else 0.0
        additional = self._additional > 0 and self._frame % self._additional == 0
        if prompted or self._wait or not (additional or motion_changed(image, mask, objects)):
            return False
        self._wait = COOL_DOWN
        return True


def admission_of(settings: OfflineSettings) -> AdmissionRule:
    """The rule that the settings name."""
    if settings.admission == "adaptive":
        return Adaptive(settings.additional_every)
    return EveryNth(settings.memory_every, settings.memory_restart)


def motion_changed(image: float, mask: float, objects: int) -> bool:
    """EamStcn's trigger on dI and dM, in percentage points of the frame."""
    return (
        mask > 0.3
        or (mask < 0.1 and image > 0.5)
        or (objects >= 3 and mask > 0.1)
        or (mask > 0.25 and image > 0.25)
        or (mask > 0.15 and image > 0.6)
    )


def mask_change(objects: Tensor, before: Tensor) -> float:
    """M_t of two frames' probabilities [K, H, W], padded, without the background, in percent."""
    changed = (objects - before).abs().sum(0) > MASK_CHANGED
    return 100 * int(changed.sum()) / changed.numel()


def confidence(probabilities: Tensor) -> float:
    """Of aggregated probabilities [1 + K, h, w]: the lowest mean probability that a visible object has inside its mask;
    1 where none is visible (whether it is gone or lost cannot be told)."""
    labels, scores = label_frame(probabilities, tuple(probabilities.shape[-2:]))
    shown = np.bincount(labels.ravel(), minlength=len(probabilities))[1:] > 0
    return float(min(scores[shown], default=1.0))
