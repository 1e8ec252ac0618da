"""Means over objects with bootstrap intervals. Objects of clips of one base are drawn together: they are no
independent evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; low and high are NaN where there are fewer than two bases to draw from."""

    mean: float
    low: float
    high: float
    bases: int
    objects: int


def estimate(values: Mapping[str, Sequence[float]], draws: int = DRAWS, seed: int = 0) -> Estimate:
    """values: base -> its objects' values. The mean is over objects; bases are drawn with replacement, and the
    interval is that of percentiles. Raises ValueError where there is no value."""
    groups = [np.asarray(group, np.float64) for group in values.values() if len(group)]
    if not groups:
        raise ValueError("no values to estimate from")
    sums, counts = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    mean = float(sums.sum() / counts.sum())
    if len(groups) < 2:
        return Estimate(mean, np.nan, np.nan, 1, int(counts.sum()))
    picks = np.random.default_rng(seed).integers(len(groups), size=(draws, len(groups)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.percentile(means, (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    return Estimate(mean, float(low), float(high), len(groups), int(counts.sum()))
