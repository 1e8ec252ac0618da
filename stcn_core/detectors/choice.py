"""Which detections are meant: by boxes, by points, or the best. Pure; needs no torch."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from stcn_core.detectors.detections import Detections, exclusive_masks

Points = Sequence[tuple[float, float, int]]
SURE = 0.5


def match_boxes(found: np.ndarray, wanted: np.ndarray, matching: str = "one-to-one") -> list[int | None]:
    """For each of the wanted boxes [M, 4] the number of the found box [N, 4] nearest to it (both x1, y1, x2, y2).

    Distance: length of the difference of the two vectors of four, as in STCN_evaluation. "nearest": as published, each
    box for itself, so that two may get the same. "one-to-one": no found box is given twice and the sum of distances is
    least; where there are too few, some wanted ones get None. Equal distances: the first found box.
    """
    found, wanted = np.asarray(found, float).reshape(-1, 4), np.asarray(wanted, float).reshape(-1, 4)
    if not len(found):
        return [None] * len(wanted)
    distances = np.linalg.norm(wanted[:, None] - found[None], axis=-1)
    if matching == "nearest":
        return [int(number) for number in distances.argmin(1)]
    if matching != "one-to-one":
        raise ValueError(f"matching {matching!r} is not known")
    chosen: list[int | None] = [None] * len(wanted)
    for row, column in zip(*linear_sum_assignment(distances), strict=True):
        chosen[int(row)] = int(column)
    return chosen


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Mask [H, W] -> x1, y1, x2, y2 around all of it, also where it has several parts. Raises ValueError if empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("an empty mask has no box")
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def under_points(detections: Detections, points: Points) -> int | None:
    """The detection whose mask lies under all points of label 1 and none of label 0; None where there is none.

    Of several, the one that is most probable under the former (their mean), then the one with the better score.
    """
    height, width = detections.masks.shape[1:]
    best, number = -1.0, None
    for candidate, mask in enumerate(detections.masks):
        on = [_at(mask, x, y) for x, y, label in points if label == 1 and 0 <= x < width and 0 <= y < height]
        off = [_at(mask, x, y) for x, y, label in points if label == 0 and 0 <= x < width and 0 <= y < height]
        if len(on) == sum(label == 1 for *_, label in points) and min(on) > SURE >= max(off, default=0.0):
            mean = float(np.mean(on))
            if mean > best:
                best, number = mean, candidate
    return number


def best_objects(detections: Detections, most: int | None) -> tuple[list[int], np.ndarray]:
    """(numbers of the `most` best scored ones that are seen, their masks uint8 [n, H, W] without overlaps).

    A pixel goes to the most probable of them. One that is nowhere the most probable is not seen and is left out.
    """
    numbers = list(range(len(detections)))[:most]
    masks = exclusive_masks(detections.masks[numbers])
    seen = [position for position, mask in enumerate(masks) if mask.any()]
    return [numbers[position] for position in seen], masks[seen]


def _at(mask: np.ndarray, x: float, y: float) -> float:
    return float(mask[int(y), int(x)])
