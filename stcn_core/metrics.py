"""J, F and J&F of the DAVIS benchmarks (Perazzi et al. 2016, Pont-Tuset et al. 2017), frame by frame.

Values equal the semi-supervised protocol of davis2017-evaluation, except that decay is right for videos of more than
256 frames (there, bin edges are kept in 8 bits) and that memory does not grow with the masks: one number per object,
frame and measure is kept.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal
RECALL_THRESHOLD = 0.5
DECAY_BINS = 4
# Which frames of an object count, besides the first and last frame's rule. every: all of them. seen: from the first
# one on that truth or prediction shows it on (vos-benchmark). after-first: those after its first true mask, which was
# its prompt (YouTube-VOS).
Counted = Literal["every", "seen", "after-first"]


@dataclass(frozen=True)
class Statistics:
    """Over the frames of one object: mean, recall (share of frames above 0.5), decay (first quarter minus last).

    NaN where no frame counts.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class ObjectScores:
    """One object's J and F; frames is how many were counted."""

    object_id: int
    frames: int
    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        """J&F: the mean of J's and F's means."""
        return (self.j.mean + self.f.mean) / 2


def jaccard(predicted: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two masks [H, W] (nonzero is inside); 1 where both are empty."""
    predicted, true = _pair(predicted, true)
    union = int(np.count_nonzero(predicted | true))
    return int(np.count_nonzero(predicted & true)) / union if union else 1.0


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Mask [H, W] -> bool [H, W]: pixels that differ from their right, lower or lower-right neighbour.

    In the last row and column only the neighbour that exists counts; the lower right corner is never set.
    """
    mask = np.asarray(mask).astype(bool, copy=False)
    edge = np.zeros(mask.shape, bool)
    edge[:-1, :-1] = (
        (mask[:-1, :-1] != mask[:-1, 1:]) | (mask[:-1, :-1] != mask[1:, :-1]) | (mask[:-1, :-1] != mask[1:, 1:])
    )
    edge[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return edge


def boundary_radius(height: int, width: int) -> int:
    """Tolerance in pixels: 0.8 % of the diagonal, rounded up (8 at 480x854, 18 at 1080x1920)."""
    return math.ceil(BOUNDARY_TOLERANCE * math.hypot(height, width))


def boundary_f(predicted: np.ndarray, true: np.ndarray, radius: int | None = None) -> float:
    """F of two masks' [H, W] boundaries: a boundary pixel is right within `radius` pixels (a disk) of the other's.

    1 where neither has a boundary, 0 where exactly one has.
    """
    predicted, true = _pair(predicted, true)
    radius = boundary_radius(*predicted.shape) if radius is None else radius
    edges, true_edges = np.argwhere(boundary_map(predicted)), np.argwhere(boundary_map(true))
    if not len(edges) or not len(true_edges):
        return float(len(edges) == len(true_edges))
    precision = _share_near(edges, true_edges, radius)
    recall = _share_near(true_edges, edges, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def statistics(values: Iterable[float]) -> Statistics:
    """Mean, recall and decay of one measure over frames in order."""
    values = np.asarray(list(values), np.float64)
    if not len(values):
        return Statistics(math.nan, math.nan, math.nan)
    # As the benchmark has it: bins share their edges; int64 where it takes 8 bits.
    edges = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(np.int64) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[-2] : edges[-1] + 1]
    recall = float(np.mean(values > RECALL_THRESHOLD))
    return Statistics(float(values.mean()), recall, float(first.mean() - last.mean()))


class VideoMetrics:
    """Collects J and F of one video, frame by frame.

    Objects are those of the true masks; a predicted object that no true mask has is ignored, a missing one is empty.
    An object that first appears in a later true mask counts from the first frame on: before, it should be empty.
    """

    def __init__(self) -> None:
        self._j: dict[int, list[float]] = {}
        self._f: dict[int, list[float]] = {}
        self._true_ids: set[int] = set()
        self._seen: dict[int, list[int]] = {}  # by object: the first two frames that show it, truly or predicted
        self._first_true: dict[int, int] = {}
        self.frames = 0

    def add(self, predicted: Mapping[int, np.ndarray], true: Mapping[int, np.ndarray]) -> None:
        """The next frame: object id -> mask [H, W], nonzero inside; an absent object may be left out.

        Raises ValueError where sizes differ.
        """
        for object_id in set(predicted) | set(true):
            if object_id not in self._j:
                # Absent so far, truly and in the prediction: empty masks agree.
                self._j[object_id] = [1.0] * self.frames
                self._f[object_id] = [1.0] * self.frames
        self._true_ids |= set(true)
        self._note(predicted, true)
        for object_id in self._j:
            ours, theirs = predicted.get(object_id), true.get(object_id)
            if ours is None and theirs is None:
                j = f = 1.0
            else:
                ours = np.zeros_like(theirs) if ours is None else ours
                theirs = np.zeros_like(ours) if theirs is None else theirs
                j, f = jaccard(ours, theirs), boundary_f(ours, theirs)
            self._j[object_id].append(j)
            self._f[object_id].append(f)
        self.frames += 1

    def scores(
        self, all_frames: bool = False, counted: Counted = "every", objects: Iterable[int] | None = None
    ) -> list[ObjectScores]:
        """Per object of the truth, or of `objects`, by id. First and last frame count only with all_frames (DAVIS
        drops them); of what is left, those that `counted` says."""
        first, end = (0, self.frames) if all_frames else (1, self.frames - 1)
        found = []
        for object_id in sorted(self._true_ids if objects is None else set(objects)):
            start = max(first, self._start(object_id, first, counted))
            # An object that nothing ever shows is absent everywhere, as it should be.
            j, f = (measure.get(object_id, [1.0] * self.frames)[start:end] for measure in (self._j, self._f))
            found.append(ObjectScores(object_id, len(j), statistics(j), statistics(f)))
        return found

    def per_frame(self, object_id: int) -> tuple[list[float], list[float]]:
        """J and F of every frame added, of one object. Raises KeyError."""
        return list(self._j[object_id]), list(self._f[object_id])

    def _note(self, predicted: Mapping[int, np.ndarray], true: Mapping[int, np.ndarray]) -> None:
        for masks in (true, predicted):
            for object_id, mask in masks.items():
                seen = self._seen.setdefault(object_id, [])
                shown = (len(seen) < 2 or masks is true and object_id not in self._first_true) and np.any(mask)
                if shown and masks is true:
                    self._first_true.setdefault(object_id, self.frames)
                if shown and len(seen) < 2 and self.frames not in seen:
                    seen.append(self.frames)

    def _start(self, object_id: int, first: int, counted: Counted) -> int:
        """The first frame that counts; `frames` where none does. first (0 or 1): those before are dropped."""
        if counted == "every":
            return first
        if counted == "after-first":
            return self._first_true.get(object_id, self.frames) + 1
        return next((frame for frame in self._seen.get(object_id, ()) if frame >= first), self.frames)


def _pair(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.ndim != 2 or predicted.shape != true.shape:
        raise ValueError(f"masks of different sizes: predicted {predicted.shape}, true {true.shape}")
    return predicted.astype(bool, copy=False), true.astype(bool, copy=False)


def _share_near(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    """Share of points [N, 2] (row, column) with one of `others` [M, 2] within `radius`, as dilating by a disk finds.

    Only the rows of a window around each point are asked, by running counts: exact, without dilating an image.
    """
    top, left = np.minimum(points.min(0), others.min(0)) - radius
    bottom, right = np.maximum(points.max(0), others.max(0)) + radius + 1
    # counts[y, x]: pixels of others in row y left of column x, in the window's coordinates.
    counts = np.zeros((bottom - top, right - left + 1), np.int32)
    counts[others[:, 0] - top, others[:, 1] - left + 1] = 1
    np.cumsum(counts, axis=1, out=counts)
    rows, columns = points[:, 0] - top, points[:, 1] - left
    near = np.zeros(len(points), bool)
    for shift in range(-radius, radius + 1):
        reach = math.isqrt(radius * radius - shift * shift)
        near |= counts[rows + shift, columns + reach + 1] > counts[rows + shift, columns - reach]
    return float(np.count_nonzero(near)) / len(points)
