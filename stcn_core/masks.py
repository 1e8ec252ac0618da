"""The masks that are written: RLE, area, box, score; given masks before predicted ones. Needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rlemasklib import RLEMask


@dataclass(frozen=True)
class MaskScores:
    """What is known of a predicted mask beside its mean probability; None: not known (a given mask, a stand-in).

    margin          mean over the mask of the largest less the second largest aggregated probability, 0 to 1
    edge_margin     the same over the mask's pixels near its edge to another object or to the background
    soft_iou        expected overlap: sum of p inside over (sum of p everywhere + sum of 1 - p inside), 0 to 1
    match_entropy   mean over the mask of the memory read's entropy, 0 (one element) to 1 (all k alike)
    match_distance  mean over the mask of |k - q|^2 / sqrt(C) to the best match in memory, from 0
    second_opinion  overlap (intersection over union) with the mask that another part of the memory gives
    """

    margin: float | None = None
    edge_margin: float | None = None
    soft_iou: float | None = None
    match_entropy: float | None = None
    match_distance: float | None = None
    second_opinion: float | None = None

    @property
    def doubt(self) -> float | None:
        """0 to 1, from the expected overlap alone: 0.5 at 0.8, 0.9 at 0.62 (why no more of them: docs/scores.md)."""
        if self.soft_iou is None:
            return None
        return 1 / (1 + math.exp(DOUBT_SLOPE * (self.soft_iou - DOUBTFUL_OVERLAP)))


# Tuned on every other of 13 real clips: where the chances of J below and above 0.5 are alike. The slope ranks nothing;
# it spreads the usual overlaps over 0 to 1.
DOUBTFUL_OVERLAP = 0.8
DOUBT_SLOPE = 12.0
UNKNOWN = MaskScores()


@dataclass(frozen=True)
class ObjectMask:
    """One object's mask on one frame.

    counts is COCO's compressed run-length code (column-major) of a mask [height, width]; box is x, y, w, h in
    pixels; score is the mean foreground probability inside the mask, 1 for a given mask.
    """

    object_id: int
    counts: bytes
    height: int
    width: int
    area: int
    box: tuple[int, int, int, int]
    score: float
    is_prompt: bool
    more: MaskScores = UNKNOWN

    def decode(self) -> np.ndarray:
        """uint8 [height, width] of 0 and 1."""
        return decode_counts(self.height, self.width, self.counts)


def decode_counts(height: int, width: int, counts: bytes) -> np.ndarray:
    """COCO's compressed run-length code -> uint8 [height, width] of 0 and 1. Raises ValueError."""
    return RLEMask.from_dict({"size": [height, width], "counts": counts}).to_array(order="C")


def encode_mask(
    mask: np.ndarray, object_id: int, score: float, is_prompt: bool, more: MaskScores = UNKNOWN
) -> ObjectMask | None:
    """mask: bool or uint8 [H, W]. None where it is empty: no row means not visible."""
    rle = RLEMask.from_array(np.ascontiguousarray(mask, dtype=np.uint8))
    area = int(rle.area())
    if area == 0:
        return None
    box = tuple(int(value) for value in rle.bbox())
    record = rle.to_dict()
    return ObjectMask(object_id, record["counts"], *record["size"], area, box, float(score), is_prompt, more)


def frame_masks(
    labels: np.ndarray,
    scores: np.ndarray,
    object_ids: Sequence[int],
    given: dict[int, np.ndarray],
    more: Sequence[MaskScores] | None = None,
) -> list[ObjectMask]:
    """The masks of one frame in the order of object ids.

    Given masks are written unchanged; predicted ones yield to them. object_ids[i] has the label i + 1, the score
    scores[i] and the further scores more[i].
    """
    taken = None
    if given:
        taken = np.logical_or.reduce([mask.astype(bool) for mask in given.values()])
    masks = []
    for position, object_id in enumerate(object_ids):
        if object_id in given:
            continue
        mask = labels == position + 1
        mask = mask & ~taken if taken is not None else mask
        masks.append(encode_mask(mask, object_id, scores[position], False, more[position] if more else UNKNOWN))
    masks += [encode_mask(mask, object_id, 1.0, True) for object_id, mask in given.items()]
    return sorted((mask for mask in masks if mask is not None), key=lambda mask: mask.object_id)
