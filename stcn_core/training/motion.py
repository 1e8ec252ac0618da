"""Smooth random functions of time, from which everything that moves in a rendered scene is built."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Wave:
    """`offset + sum of amplitude * sin(2 pi t / period + phase)`, t in seconds: smooth, bounded, random access."""

    offset: float = 0.0
    terms: tuple[tuple[float, float, float], ...] = ()  # (amplitude, period in seconds, phase)

    @staticmethod
    def random(
        rng: np.random.Generator,
        amplitude: float,
        periods: tuple[float, float] = (2.0, 14.0),
        offset: float = 0.0,
        terms: int = 3,
    ) -> "Wave":
        """A wave whose terms' amplitudes fall with their frequency, as the motion of bodies does."""
        spans = np.exp(rng.uniform(math.log(periods[0]), math.log(periods[1]), terms))
        weights = rng.uniform(0.3, 1.0, terms) * spans / spans.max()
        weights = amplitude * weights / max(weights.sum(), 1e-9)
        phases = rng.uniform(0, 2 * math.pi, terms)
        return Wave(
            float(offset),
            tuple((float(a), float(p), float(f)) for a, p, f in zip(weights, spans, phases, strict=True)),
        )

    def at(self, t: float) -> float:
        return self.offset + sum(a * math.sin(2 * math.pi * t / p + f) for a, p, f in self.terms)

    def starting_at(self, value: float) -> "Wave":
        """The same wave, shifted so that it has this value at t = 0."""
        return Wave(self.offset + value - self.at(0.0), self.terms)


@dataclass(frozen=True)
class Absence:
    """A figure walks out of the picture and comes back: a horizontal shift, 0 outside [start, end] seconds."""

    start: float
    end: float
    distance: float
    ramp: float = 1.2

    def at(self, t: float) -> float:
        rise = min(max((t - self.start) / self.ramp, 0.0), 1.0)
        fall = min(max((self.end - t) / self.ramp, 0.0), 1.0)
        x = min(rise, fall)
        return self.distance * x * x * (3 - 2 * x)


def affine(angle: float, scale_x: float, scale_y: float, x: float, y: float) -> np.ndarray:
    """3x3 matrix: scale first, then rotate, then translate."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c * scale_x, -s * scale_y, x], [s * scale_x, c * scale_y, y], [0.0, 0.0, 1.0]])
