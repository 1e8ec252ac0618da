"""Run-length codes against pycocotools, and which masks are written."""

import numpy as np
import pytest
from pycocotools import mask as coco

from stcn_core.masks import encode_mask, frame_masks


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """A mask of smooth shapes, as networks make them."""
    draw = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width]
    total = np.zeros((height, width))
    for _ in range(4):
        y, x, r = draw.uniform(0, height), draw.uniform(0, width), draw.uniform(1, max(2, height / 3))
        total += (ys - y) ** 2 + (xs - x) ** 2 < r * r
    return (total % 2 == 1).astype(np.uint8)


def special_masks() -> dict[str, np.ndarray]:
    masks = {}
    for height, width in ((1, 1), (1, 37), (37, 1), (2, 2), (7, 13), (480, 854), (359, 641)):
        masks[f"full-{height}x{width}"] = np.ones((height, width), np.uint8)
        first, last = np.zeros((2, height, width), np.uint8)
        first[0, 0] = last[-1, -1] = 1
        masks[f"first-{height}x{width}"], masks[f"last-{height}x{width}"] = first, last
        masks[f"noise-{height}x{width}"] = np.random.default_rng(height).integers(0, 2, (height, width), dtype=np.uint8)
        masks[f"blobs-{height}x{width}"] = blobs(height, width, width)
    checks = np.indices((17, 29)).sum(0) % 2
    return {name: mask for name, mask in {**masks, "checks": checks.astype(np.uint8)}.items() if mask.any()}


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("name", special_masks())
def test_bytes_equal_pycocotools(name: str) -> None:
    mask = special_masks()[name]
    expected = coco.encode(np.asfortranarray(mask))
    for given in (mask, mask.astype(bool), np.asfortranarray(mask), np.repeat(mask, 2, 1)[:, ::2]):
        result = encode_mask(given, 7, 0.25, True)
        assert result.counts == expected["counts"]
        assert [result.height, result.width] == expected["size"]
        assert np.array_equal(result.decode(), mask)
        assert np.array_equal(coco.decode({"size": [result.height, result.width], "counts": result.counts}), mask)
        assert result.area == coco.area(expected) == mask.sum()
        assert result.box == tuple(coco.toBbox(expected).astype(int))
        assert (result.object_id, result.score, result.is_prompt) == (7, 0.25, True)
        assert all(type(value) is int for value in (result.area, *result.box, result.height, result.width))


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (480, 854)])
def test_an_empty_mask_is_no_row(size: tuple[int, int]) -> None:
    assert encode_mask(np.zeros(size, bool), 1, 0.5, False) is None


def test_frame_masks_in_the_order_of_ids() -> None:
    labels = np.array([[1, 1, 2, 2], [3, 3, 0, 0]], np.uint8)
    given = {9: np.array([[0, 1, 1, 0], [0, 0, 0, 0]], np.uint8), 30: np.zeros((2, 4), np.uint8)}
    masks = frame_masks(labels, np.array([0.5, 0.6, 0.7, 0.8]), (4, 9, 20, 30), given)
    assert [(mask.object_id, mask.is_prompt, mask.score) for mask in masks] == [
        (4, False, 0.5),
        (9, True, 1.0),
        (20, False, 0.7),
    ]
    assert np.array_equal(masks[0].decode(), [[1, 0, 0, 0], [0, 0, 0, 0]])  # yields to the given one
    assert np.array_equal(masks[1].decode(), given[9])


def test_overlapping_given_masks_are_both_kept() -> None:
    given = {1: np.ones((3, 3), np.uint8), 2: np.eye(3, dtype=np.uint8)}
    masks = frame_masks(np.zeros((3, 3), np.uint8), np.zeros(2), (1, 2), given)
    assert [mask.area for mask in masks] == [9, 3]
