"""Sharpening a mask by the picture: a fully connected CRF with two labels (Krähenbühl and Koltun 2011), by mean field.

The Gaussian over positions is computed as it stands (separably, to 6 deviations); the one over positions and colours
by a permutohedral lattice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stcn_core.detectors.permutohedral import Permutohedral

Filter = Callable[[np.ndarray], np.ndarray]
TRUNCATE = 6.0  # standard deviations


@dataclass(frozen=True)
class CrfSettings:
    """As STCN_evaluation set them: deviations in pixels and grey levels, Potts weights, mean-field steps.

    sure: the probability that the mask is right at a pixel before the picture is looked at.
    """

    near_xy: float = 3.0
    near_weight: float = 3.0
    alike_xy: float = 40.0
    alike_rgb: float = 13.0
    alike_weight: float = 10.0
    iterations: int = 10
    sure: float = 10 / 11


def refine(mask: np.ndarray, picture: np.ndarray, settings: CrfSettings | None = None) -> np.ndarray:
    """mask bool [H, W], picture uint8 RGB [H, W, 3] -> probability of the foreground float32 [H, W]."""
    settings = settings or CrfSettings()
    lattice = Permutohedral(alike_features(picture, settings))
    size = mask.shape

    def near(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values.reshape(size), settings.near_xy, mode="constant", truncate=TRUNCATE)

    filters = [(near, settings.near_weight), (lattice.filter, settings.alike_weight)]
    return mean_field(mask, filters, settings).astype(np.float32)


def mean_field(mask: np.ndarray, filters: list[tuple[Filter, float]], settings: CrfSettings) -> np.ndarray:
    """Probability of the foreground float64 [H, W]. filters: (values [H * W] -> sum over a kernel, Potts weight).

    Each kernel is normalised on both sides by the square root of its sums; its own scale does not matter.
    """
    inside = np.asarray(mask, bool).reshape(-1)
    # Log odds of the foreground; with two labels, these are all there is.
    prior = np.where(inside, 1.0, -1.0) * np.log(settings.sure / (1 - settings.sure))
    ones = np.ones(inside.size)
    kernels = [(run, weight, 1 / np.sqrt(run(ones).reshape(-1) + 1e-20)) for run, weight in filters]
    foreground = 1 / (1 + np.exp(-prior))
    for _ in range(settings.iterations):
        odds = prior.copy()
        for run, weight, norm in kernels:
            # What foreground says less what background says; the two sum up to 1.
            odds += weight * norm * run(norm * (2 * foreground - 1)).reshape(-1)
        foreground = 1 / (1 + np.exp(-odds))
    return foreground.reshape(mask.shape)


def alike_features(picture: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """uint8 [H, W, 3] -> float64 [H * W, 5]: row, column, red, green, blue in standard deviations."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    places = np.stack((rows, columns), -1) / settings.alike_xy
    return np.concatenate((places, picture / settings.alike_rgb), -1).reshape(-1, 5)
