"""LOST (Siméoni et al. 2021): one object from the features of a self-supervised transformer. Pure; needs no torch."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

CANDIDATES = 100  # the paper's k


@dataclass(frozen=True)
class Discovery:
    """mask bool [h, w] on the patch grid; seed: the patch that it grew from; box: first and last row and column + 1
    as (x0, y0, x1, y1) in patches."""

    mask: np.ndarray
    seed: int
    box: tuple[int, int, int, int]


def discover(features: np.ndarray, grid: tuple[int, int], candidates: int = CANDIDATES) -> Discovery | None:
    """features float [h * w, C], row by row -> the object, or None where the seed is not part of what it selects.

    Two patches are alike where their features' dot product is above 0. The seed is the patch alike to the fewest
    others (ties: the first). Of the `candidates` patches alike to the fewest, those alike to the seed are summed up;
    what is alike to that sum is foreground, and the object is the seed's 4-connected part of it.
    """
    height, width = grid
    if features.shape[0] != height * width:
        raise ValueError(f"{features.shape[0]} features for a grid of {height} x {width} patches")
    features = np.asarray(features, np.float32)
    affinity = features @ features.T
    degree = (affinity > 0).sum(1) - (np.diagonal(affinity) > 0)
    fewest = np.argsort(degree, kind="stable")
    seed = int(fewest[0])
    kept = fewest[:candidates]
    kept = kept[(affinity[seed, kept] > 0) | (kept == seed)]
    foreground = (affinity[kept].sum(0) > 0).reshape(height, width)
    parts, _ = ndimage.label(foreground)  # its usual structure is 4-connected
    part = parts.reshape(-1)[seed]
    if part == 0:
        return None
    mask = parts == part
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Discovery(mask, seed, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
