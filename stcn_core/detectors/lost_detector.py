"""LOST as a detector: the one object that a picture's DINO features show, as patches or sharpened by a dense CRF."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.detectors.dense_crf import refine
from stcn_core.detectors.detections import MOST, Detections, check_classes
from stcn_core.detectors.dino import Dino
from stcn_core.detectors.lost import discover

CLASS = "object"  # it has no classes, and no score: 1 where there is an object
LARGEST_SIDE = 480  # the shorter side that LOST works at: attention and affinity grow with the fourth power of it


class Lost:
    """Weights: a DINO ViT. Its mask is made of whole patches; `lost-crf` gives outlines."""

    name = "lost"
    class_names = (CLASS,)

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        """Raises DetectorError."""
        self._dino = Dino(weights, device)

    def detect(
        self, picture: np.ndarray, *, classes: Collection[str] = (), min_score: float = 0.5, limit: int = MOST
    ) -> Detections:
        """See `stcn_core.detectors.Detector`. At most one detection, of class "object", with score 1."""
        check_classes(classes, self.class_names, self.name)
        height, width = picture.shape[:2]
        small = _shrunk(picture)
        features, grid = self._dino.keys(small)
        found = discover(features, grid)
        if found is None or limit < 1 or min_score > 1:
            return Detections.none(height, width)
        patch = self._dino.patch
        mask = found.mask.repeat(patch, 0).repeat(patch, 1)[: small.shape[0], : small.shape[1]]
        probability = self._outline(mask, small)
        if probability.shape != (height, width):
            grown = F.interpolate(torch.from_numpy(probability)[None, None], (height, width), mode="bilinear")
            probability = grown[0, 0].numpy()
        sure = probability > 0.5
        if not sure.any():
            return Detections.none(height, width)
        rows, columns = np.flatnonzero(sure.any(1)), np.flatnonzero(sure.any(0))
        box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
        return Detections(probability[None].astype(np.float16), box, (CLASS,), np.ones(1, np.float32))

    def _outline(self, mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
        return mask.astype(np.float32)


class LostCrf(Lost):
    """LOST's mask, then the dense CRF with STCN_evaluation's settings."""

    name = "lost-crf"

    def _outline(self, mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
        return refine(mask, picture)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """The picture with a shorter side of at most LARGEST_SIDE; never enlarged."""
    height, width = picture.shape[:2]
    scale = LARGEST_SIDE / min(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    image: Tensor = torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)[None].float()
    image = F.interpolate(image, size, mode="bilinear", antialias=True)[0]
    return image.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
