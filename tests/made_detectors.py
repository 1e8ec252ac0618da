"""Detectors small enough for tests: real classes with random weights in small layouts, one that sees colours."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from stcn_core.detectors.detections import Detections, check_classes
from stcn_core.detectors.mask_rcnn import build_v1, build_v2
from stcn_core.detectors.pointrend import build as build_pointrend
from stcn_core.detectors.rcnn_parts import RcnnLayout
from stcn_core.detectors.weights import save_weights

CLASSES = ("person", "dog")
TINY = RcnnLayout("basic", (1, 1, 1, 1), fpn=16, fc=32, conv=16, min_size=96, max_size=160, classes=CLASSES)
COLOURS = {"red": 0, "green": 1, "blue": 2}


def tiny_weights(folder: Path, name: str, seed: int = 0) -> Path:
    """Random weights of a detector in a small layout, as a file."""
    path = folder / f"{name}.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name.startswith("lost"):
            network = VisionTransformer(
                img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0
            )  # fmt: skip
            save_weights(network.state_dict(), {"heads": 3}, path)
            return path
        builders = {"mask-rcnn": build_v1, "mask-rcnn-v2": build_v2}
        if name == "pointrend":
            network = build_pointrend(TINY, len(CLASSES))
        else:
            network = builders[name](TINY, len(CLASSES) + 1)
        save_weights(network.state_dict(), TINY.to_json(), path)
    return path


class ColourDetector:
    """Finds squares of pure red, green and blue: what is in a picture is known, so what is made of it can be checked.

    Its score is 0.9 for red, 0.8 for green, 0.7 for blue; `looked` counts the pictures that it was given.
    """

    class_names = tuple(COLOURS)

    def __init__(self, *_: object) -> None:
        self.looked = 0

    def detect(
        self, picture: np.ndarray, *, classes: Collection[str] = (), min_score: float = 0.5, limit: int = 50
    ) -> Detections:
        check_classes(classes, self.class_names, "colours")
        self.looked += 1
        height, width = picture.shape[:2]
        masks, boxes, names, scores = [], [], [], []
        for name, channel in COLOURS.items():
            others = np.delete(picture.astype(int), channel, 2).max(2)
            mask = (picture[..., channel] > 150) & (others < 100)
            score = 0.9 - 0.1 * channel
            if mask.sum() > 20 and score >= min_score and (not classes or name in classes):
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                masks.append(mask * 0.95)
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                names.append(name)
                scores.append(score)
        found = Detections(
            np.array(masks, np.float16).reshape(-1, height, width),
            np.array(boxes, np.float32).reshape(-1, 4),
            tuple(names),
            np.array(scores, np.float32),
        )
        return found.take(range(min(limit, len(found))))


def colour_picture(*squares: tuple[str, int, int, int], size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Grey uint8 [H, W, 3] with squares (colour, x, y, side); later ones lie in front."""
    picture = np.full((*size, 3), 60, np.uint8)
    for name, x, y, side in squares:
        picture[y : y + side, x : x + side] = 0
        picture[y : y + side, x : x + side, COLOURS[name]] = 255
    return picture
