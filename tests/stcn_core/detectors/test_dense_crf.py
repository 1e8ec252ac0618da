"""The CRF against brute force: mean field exactly, the lattice's filter within a tolerance.

Stated tolerance, on small pictures with areas and noise as real ones have: filtered values within 0.06 (of 0 to 1) at
every pixel and 0.01 in the mean, the refined mask equal to the exact one on 99.5 % of the pixels. A picture of pure
colour noise is the worst case (no two pixels share a simplex): 90 %.
"""

import numpy as np
import pytest

from stcn_core.detectors.dense_crf import CrfSettings, alike_features, mean_field, refine
from stcn_core.detectors.permutohedral import Permutohedral

SIZE = (36, 48)
SETTINGS = CrfSettings()


def picture(seed: int) -> np.ndarray:
    """A red square on green ground, with noise and a slope of brightness."""
    draw = np.random.default_rng(seed)
    made = np.empty((*SIZE, 3))
    made[:] = [90, 120, 70]
    made[8:28, 10:34] = [170, 60, 50]
    made += draw.normal(0, 8, made.shape) + np.linspace(0, 40, SIZE[1])[None, :, None]
    return made.clip(0, 255).astype(np.uint8)


def kernel(features: np.ndarray) -> np.ndarray:
    return np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)


def exact(mask: np.ndarray, image: np.ndarray, settings: CrfSettings = SETTINGS) -> np.ndarray:
    """Mean field by the formulas as they stand: two labels, energies, both kernels as full matrices."""
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    places = np.stack((rows, columns), -1).reshape(-1, 2)
    kernels = []
    for weight, full in (
        (settings.near_weight, kernel(places / settings.near_xy)),
        (settings.alike_weight, kernel(alike_features(image, settings))),
    ):
        norm = 1 / np.sqrt(full.sum(1))
        kernels.append((weight, norm[:, None] * full * norm[None]))
    inside = mask.reshape(-1)
    unary = -np.log(np.where(np.stack((~inside, inside)), 10 / 11, 1 / 11))  # [background, foreground]
    q = np.exp(-unary)
    q /= q.sum(0)
    for _ in range(settings.iterations):
        q = np.exp(-unary + sum(weight * (q @ full) for weight, full in kernels))
        q /= q.sum(0)
    return q[1].reshape(mask.shape)


@pytest.mark.parametrize("seed", range(3))
def test_refined_masks_are_those_of_brute_force(seed: int):
    mask = np.zeros(SIZE, bool)
    mask[5:25, 14:38] = True  # shifted: half of its border is wrong
    truth, found = exact(mask, picture(seed)), refine(mask, picture(seed))
    assert found.dtype == np.float32 and ((truth > 0.5) == (found > 0.5)).mean() >= 0.995
    assert np.abs(truth - found).mean() < 0.005
    square = np.zeros(SIZE, bool)
    square[8:28, 10:34] = True
    assert ((found > 0.5) == square).mean() > (mask == square).mean() + 0.05  # and it helps


def test_on_pure_noise_it_is_still_near():
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, bool)
    mask[6:24, 14:38] = True
    assert ((exact(mask, image) > 0.5) == (refine(mask, image) > 0.5)).mean() >= 0.9


def test_the_filter_is_near_the_exact_one():
    features = alike_features(picture(1), SETTINGS)
    values = np.random.default_rng(1).random(len(features))
    lattice, full = Permutohedral(features), kernel(features)
    ones = lattice.filter(np.ones(len(features)))
    norm, exact_norm = 1 / np.sqrt(ones), 1 / np.sqrt(full.sum(1))
    difference = np.abs(norm * lattice.filter(norm * values) - exact_norm * (full @ (exact_norm * values)))
    assert difference.max() < 0.06 and difference.mean() < 0.01


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_each_point_lies_in_its_simplex(dimensions: int):
    points = np.random.default_rng(2).normal(0, 3, (200, dimensions))
    lattice = Permutohedral(points)
    assert np.allclose(lattice._weights.sum(1), 1) and lattice._weights.min() > -1e-9
    spread = lattice.filter(np.ones(200))
    assert (spread > 0).all()


def test_one_dimension_is_a_gaussian():
    points = np.linspace(0, 20, 400)[:, None]
    values = np.zeros(400)
    values[200] = 1.0
    found = Permutohedral(points).filter(values)
    expected = kernel(points)[200]
    assert np.abs(found / found.max() - expected).max() < 0.12


def test_with_the_exact_kernels_mean_field_is_the_formula():
    mask = np.zeros((9, 11), bool)
    mask[2:6, 3:8] = True
    image = picture(0)[:9, :11]
    rows, columns = np.mgrid[:9, :11]
    near = kernel(np.stack((rows, columns), -1).reshape(-1, 2) / SETTINGS.near_xy)
    alike = kernel(alike_features(image, SETTINGS))
    filters = [(near.__matmul__, SETTINGS.near_weight), (alike.__matmul__, SETTINGS.alike_weight)]
    assert np.allclose(mean_field(mask, filters, SETTINGS), exact(mask, image), atol=1e-9)
