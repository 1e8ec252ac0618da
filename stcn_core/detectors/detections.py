"""What every detector gives, and what a detector is. Needs no torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from schemas.prompt import MOST_OBJECTS

MOST = MOST_OBJECTS  # detections of one picture


class DetectorError(ValueError):
    """Weights that do not fit, or a class that a detector does not know. The message says which and what to change."""


@dataclass(frozen=True)
class Detections:
    """N detections in one picture [H, W], best score first.

    masks float16 [N, H, W]: probability of the object per pixel; boxes float32 [N, 4]: x1, y1, x2, y2 in pixels;
    classes: N names; scores float32 [N], 0 to 1.
    """

    masks: np.ndarray
    boxes: np.ndarray
    classes: tuple[str, ...]
    scores: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.classes)
        if self.masks.ndim != 3 or len(self.masks) != count or self.boxes.shape != (count, 4):
            raise ValueError(f"{count} classes, masks {self.masks.shape}, boxes {self.boxes.shape} do not fit together")
        if self.scores.shape != (count,) or (np.diff(self.scores) > 0).any():
            raise ValueError("scores must be one per detection, best first")

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, chosen: Sequence[int]) -> "Detections":
        """These detections only, in order of score."""
        order = sorted(chosen)
        return Detections(
            self.masks[order], self.boxes[order], tuple(self.classes[i] for i in order), self.scores[order]
        )

    @staticmethod
    def none(height: int, width: int) -> "Detections":
        """Nothing found in a picture of that size."""
        empty = np.zeros((0, height, width), np.float16)
        return Detections(empty, np.zeros((0, 4), np.float32), (), np.zeros(0, np.float32))


class Detector(Protocol):
    """A network with its weights on its device. Deterministic: equal pictures give equal detections."""

    class_names: tuple[str, ...]

    def detect(
        self, picture: np.ndarray, *, classes: Collection[str] = (), min_score: float = 0.5, limit: int = MOST
    ) -> Detections:
        """picture uint8 RGB [H, W, 3] -> what is in it, with a score of at least min_score, `limit` at most.

        classes: only these (none given: all). Raises DetectorError for a class that is not one of class_names.
        """


def check_classes(asked: Collection[str], known: Sequence[str], detector: str) -> None:
    """Raises DetectorError for a class that the detector does not know."""
    unknown = [name for name in asked if name not in known]
    if unknown:
        shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
        raise DetectorError(f"{detector} knows no class {unknown[0]!r}; its classes are {shown}")


def exclusive_masks(probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """float [N, H, W] -> uint8 [N, H, W] of 0 and 1: a pixel belongs to the detection that is most probable there.

    Where that is not above the threshold it belongs to none; equal probabilities go to the earlier detection.
    """
    masks = np.zeros(probabilities.shape, np.uint8)
    if len(probabilities):
        best = probabilities.argmax(0)
        sure = np.take_along_axis(probabilities, best[None], 0)[0] > threshold
        for number, mask in enumerate(masks):
            mask[:] = sure & (best == number)
    return masks
