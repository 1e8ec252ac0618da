"""Gaussian filtering over points in a space of few dimensions, in time linear in their number.

The permutohedral lattice (Adams, Baek, Davis 2010): values are spread over the corners of the simplex that each point
lies in, blurred along the lattice's axes, and gathered again. An approximation of sum_j exp(-|f_i - f_j|^2 / 2) v_j up
to one factor common to all points; the tests say how near.
"""

import numpy as np


class Permutohedral:
    """A lattice for points float [N, d], whose distances are in standard deviations."""

    def __init__(self, points: np.ndarray) -> None:
        count, d = points.shape
        elevated = _elevate(np.asarray(points, np.float64))
        nearest, rank = _enclosing(elevated)
        self._weights = _barycentric(elevated, nearest, rank)  # [N, d + 1]
        # The corners' keys: coordinates 0 to d - 1 (all d + 1 sum up to 0), for each of the d + 1 corners.
        corners = np.empty((d + 1, count, d), np.int64)
        for corner in range(d + 1):
            canonical = np.where(np.arange(d + 1) <= d - corner, corner, corner - (d + 1))
            corners[corner] = nearest[:, :d] + canonical[rank[:, :d]]
        low = corners.min((0, 1)) - (d + 1)
        spans = corners.max((0, 1)) - low + d + 2  # a margin, so that a neighbour's code is never another key's
        if np.prod(spans.astype(float)) > 2**62:
            raise ValueError(f"points are spread too far for the lattice: {spans.tolist()} cells per axis")
        steps = np.append(np.cumprod(spans[:0:-1])[::-1], 1)
        codes, self._corners = np.unique((corners - low) @ steps, return_inverse=True)
        self._corners = self._corners.reshape(d + 1, count)
        self._size = len(codes)
        self._neighbours = []
        for axis in range(d + 1):
            offset = np.ones(d, np.int64)
            if axis < d:
                offset[axis] = -d
            self._neighbours.append(
                (self._find(codes, codes + offset @ steps), self._find(codes, codes - offset @ steps))
            )

    def filter(self, values: np.ndarray) -> np.ndarray:
        """values [N] -> float64 [N]."""
        spread = np.zeros(self._size + 1)  # the last cell stands for neighbours that are not there
        for corner, weights in zip(self._corners, self._weights.T, strict=True):
            spread[:-1] += np.bincount(corner, weights * values, self._size)
        for before, after in self._neighbours:
            spread[:-1] = spread[:-1] + 0.5 * (spread[before] + spread[after])
        return sum(weights * spread[corner] for corner, weights in zip(self._corners, self._weights.T, strict=True))

    def _find(self, codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        places = np.searchsorted(codes, wanted)
        places[places == len(codes)] = 0
        return np.where(codes[places] == wanted, places, self._size)


def _elevate(points: np.ndarray) -> np.ndarray:
    """[N, d] -> [N, d + 1] on the plane whose coordinates sum up to 0, where the blur has a deviation of 1."""
    d = points.shape[1]
    axes = np.arange(1, d + 1)
    scaled = points * (np.sqrt(2 / 3) * (d + 1) / np.sqrt(axes * (axes + 1)))
    after = np.cumsum(scaled[:, ::-1], 1)[:, ::-1]  # sums from each axis to the last
    elevated = np.zeros((len(points), d + 1))
    elevated[:, 0] = after[:, 0]
    elevated[:, 1:] = -axes * scaled
    elevated[:, 1:-1] += after[:, 1:]
    return elevated


def _enclosing(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the lattice's point of remainder 0 nearest to each, the rank of each coordinate's difference to it)."""
    side = elevated.shape[1]
    nearest = (np.round(elevated / side) * side).astype(np.int64)
    order = np.argsort(-(elevated - nearest), axis=1, kind="stable")
    rank = np.empty_like(nearest)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(side), order.shape), 1)
    rank += nearest.sum(1, keepdims=True) // side
    low, high = rank < 0, rank >= side
    nearest[low] += side
    rank[low] += side
    nearest[high] -= side
    rank[high] -= side
    return nearest, rank


def _barycentric(elevated: np.ndarray, nearest: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """[N, d + 1]: how much of each point belongs to each corner of its simplex; rows sum up to 1."""
    count, side = elevated.shape
    difference = (elevated - nearest) / side
    weights = np.zeros((count, side + 1))
    rows = np.arange(count)[:, None]
    # Ranks of a row are all different: no cell is written twice in one step.
    weights[rows, side - 1 - rank] += difference
    weights[rows, side - rank] -= difference
    weights[:, 0] += 1 + weights[:, side]
    return weights[:, :side]
