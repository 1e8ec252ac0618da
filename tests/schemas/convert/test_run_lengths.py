"""Masks in the forms that files hold them, checked against pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco

from schemas.convert.run_lengths import empty_counts, found_counts, plain_rle, text_rle
from schemas.convert.video import ConvertError

SIZE = (23, 31)


def random_mask(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random(SIZE) < generator.random()).astype(np.uint8)


def test_compressed_and_plain_run_lengths_are_pycocotools_own():
    for seed in range(20):
        mask = random_mask(seed) if seed else np.zeros(SIZE, np.uint8)
        counts = coco.encode(np.asfortranarray(mask))["counts"]
        text, plain = text_rle(counts, *SIZE), plain_rle(counts, *SIZE)
        np.testing.assert_array_equal(coco.decode(text), mask)
        np.testing.assert_array_equal(coco.decode(coco.frPyObjects(plain, *SIZE)), mask)
        for value in (text, text["counts"], counts, plain, plain | {"counts": np.asarray(plain["counts"])}):
            assert found_counts(value, *SIZE, "it") == counts
    assert empty_counts(*SIZE) == coco.encode(np.zeros(SIZE, np.uint8, order="F"))["counts"]


def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = [[3.0, 2.0, 20.5, 3.0, 14.0, 15.0], [22, 16, 29, 16, 29, 21, 22, 21]]
    ours = coco.decode({"size": list(SIZE), "counts": found_counts(polygons, *SIZE, "it")})
    theirs = coco.decode(coco.merge(coco.frPyObjects(polygons, *SIZE)))
    assert ours.sum() > 100
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "value",
    [
        {"size": [23, 30], "counts": "x"}, {"size": [23, 31]}, {"counts": "x"}, "", "zzz", b"\xff\xfe", [1, 2],
        [-1, 714], [0.5, 712.5], [[1, 2, 3, 4]], [[1, 2, float("nan"), 4, 5, 6]], None, 7,
        {"size": "ab", "counts": "x"}, "ö", {"size": [23, 31], "counts": {}},
    ],
)  # fmt: skip
def test_what_is_no_mask_of_that_size_is_refused(value):
    with pytest.raises(ConvertError, match="the mask of a dog is"):
        found_counts(value, *SIZE, "the mask of a dog")
