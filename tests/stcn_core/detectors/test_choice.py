"""Matching to boxes, points, the best objects without overlaps."""

import numpy as np
import pytest

from stcn_core.detectors.choice import best_objects, mask_box, match_boxes, under_points
from stcn_core.detectors.detections import Detections, exclusive_masks


def detections(*masks: tuple[slice, slice, float], size: tuple[int, int] = (20, 30)) -> Detections:
    """Each (rows, columns, probability), scores falling."""
    made = np.zeros((len(masks), *size), np.float16)
    for mask, (rows, columns, probability) in zip(made, masks, strict=True):
        mask[rows, columns] = probability
    scores = np.linspace(0.9, 0.5, len(masks)).astype(np.float32)
    return Detections(made, np.zeros((len(masks), 4), np.float32), tuple("abc"[: len(masks)]), scores)


def test_nearest_may_give_one_detection_twice_one_to_one_never():
    found = np.array([[0, 0, 10, 10], [100, 100, 120, 120], [2, 2, 30, 30]])
    wanted = np.array([[0, 0, 11, 11], [1, 1, 10, 10]])
    assert match_boxes(found, wanted, "nearest") == [0, 0]
    assert match_boxes(found, wanted) == [2, 0] or match_boxes(found, wanted) == [0, 2]
    distance = lambda a, b: float(np.linalg.norm(found[a] - wanted[b]))  # noqa: E731
    best = min((distance(a, 0) + distance(b, 1), a, b) for a in range(3) for b in range(3) if a != b)
    assert match_boxes(found, wanted) == [best[1], best[2]]


def test_the_distance_is_that_of_the_vectors_of_four():
    # Overlap would choose the first: the vectors choose the second.
    found = np.array([[0, 0, 100, 100], [30, 30, 49, 49]])
    assert match_boxes(found, np.array([[10, 10, 40, 40]]), "nearest") == [1]


def test_too_few_or_none():
    assert match_boxes(np.zeros((0, 4)), np.ones((2, 4))) == [None, None]
    assert match_boxes(np.array([[0, 0, 1, 1]]), np.array([[9, 9, 9, 9], [0, 0, 1, 1]])) == [None, 0]
    with pytest.raises(ValueError, match="'best' is not known"):
        match_boxes(np.ones((1, 4)), np.ones((1, 4)), "best")


def test_a_masks_box_holds_all_of_its_parts():
    mask = np.zeros((20, 30), bool)
    mask[2:4, 5:9] = mask[10:12, 20:25] = True
    assert mask_box(mask) == (5, 2, 25, 12)
    with pytest.raises(ValueError, match="no box"):
        mask_box(np.zeros((3, 3)))


def test_points_choose_what_lies_under_them_and_not_under_the_others():
    seen = detections(
        (slice(0, 20), slice(0, 30), 0.7), (slice(5, 10), slice(5, 10), 0.95), (slice(5, 10), slice(15, 20), 0.9)
    )
    assert under_points(seen, [(7.5, 7.0, 1)]) == 1  # the more probable one there
    assert under_points(seen, [(7, 7, 1), (17, 7, 1)]) == 0  # only the large one lies under both
    assert under_points(seen, [(17, 7, 1), (1, 1, 0)]) == 2
    assert under_points(seen, [(1, 1, 1), (17, 7, 0)]) is None
    assert under_points(seen, [(50, 7, 1)]) is None  # outside the picture
    assert under_points(detections(), [(1, 1, 1)]) is None


def test_overlaps_go_to_the_more_probable():
    seen = detections(
        (slice(0, 10), slice(0, 10), 0.6), (slice(5, 15), slice(5, 15), 0.8), (slice(6, 8), slice(6, 8), 0.7)
    )
    numbers, masks = best_objects(seen, None)
    assert numbers == [0, 1]  # the third is nowhere the most probable
    assert masks[0][7, 7] == 0 and masks[1][7, 7] == 1 and masks[0][2, 2] == 1
    assert not (masks.sum(0) > 1).any() and masks.dtype == np.uint8
    assert best_objects(seen, 1)[0] == [0]
    assert exclusive_masks(np.full((1, 2, 2), 0.5)).sum() == 0  # not above the threshold


def test_detections_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        Detections(np.zeros((2, 3, 3)), np.zeros((1, 4)), ("a",), np.zeros(1))
    with pytest.raises(ValueError, match="best first"):
        Detections(np.zeros((2, 3, 3)), np.zeros((2, 4)), ("a", "b"), np.array([0.1, 0.2]))
