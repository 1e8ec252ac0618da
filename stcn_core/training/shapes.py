"""Outlines of parts: soft coverage maps on the square -1..1, with plain, rough or furry edges."""

import math

import numpy as np
import torch
from torch import Tensor

from stcn_core.training.fields import field, sample_field

MARGIN = 1.12  # a sprite covers -MARGIN..MARGIN, so that rough edges are not cut off
ROUGH = (0, 1, 3)  # indices of power-law fields


def coverage(rng: np.random.Generator, kind: str, side: int, roughness: float = 0.0) -> Tensor:
    """Coverage 0..1 of a shape, float32 [side, side]; the edge is about one and a half pixels wide.

    roughness: how far a noise field moves the edge, in units of the shape's half extent.
    Raises KeyError for an unknown kind.
    """
    axis = (torch.arange(side) + 0.5) * (2 * MARGIN / side) - MARGIN
    y, x = axis[:, None], axis[None, :]
    inside = SHAPES[kind](rng, x, y)  # positive inside, about the distance to the edge
    if roughness > 0:
        noise = sample_field(rng, int(rng.choice(ROUGH)), side, side, side / 96 * rng.uniform(0.7, 2.0))
        inside = inside + roughness * noise
    pixel = 2 * MARGIN / side
    return (0.5 + inside / (1.5 * pixel)).clamp_(0, 1).expand(side, side).contiguous()


def _ellipse(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    return 1 - torch.sqrt(x * x + y * y)


def _super(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    power = rng.uniform(2.5, 6)
    return 1 - (x.abs() ** power + y.abs() ** power) ** (1 / power)


def _box(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    return 1 - torch.maximum(x.abs(), y.abs())


def _blob(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    angle, radius = torch.atan2(y, x), torch.sqrt(x * x + y * y)
    edge = torch.full_like(angle, 0.78)
    for wave in range(2, int(rng.integers(4, 9))):
        edge = edge + rng.normal(0, 0.22 / wave) * torch.cos(wave * angle + rng.uniform(0, 2 * math.pi))
    return edge - radius


def _polygon(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    """Convex, 3 to 7 sides."""
    sides = int(rng.integers(3, 8))
    angles = 2 * math.pi * (np.arange(sides) + rng.uniform(-0.3, 0.3, sides)) / sides + rng.uniform(0, 6.28)
    inside = torch.full((y.shape[0], x.shape[1]), 9.0)
    for angle in angles:
        inside = torch.minimum(inside, rng.uniform(0.5, 0.95) - x * math.cos(angle) - y * math.sin(angle))
    return inside


def _taper(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    """A limb: y runs from one rounded end to the other, one end thinner."""
    half = 0.95 - (y + 1) * rng.uniform(0.0, 0.3)
    ends = 1 - y.abs()
    return torch.minimum(half - x.abs(), ends * 3)


def _trapezoid(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    top = rng.uniform(0.2, 0.8)
    half = top + (1 - top) * (y + 1) / 2
    return torch.minimum(half - x.abs(), 1 - y.abs())


def _triangle(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    lean = rng.uniform(-0.7, 0.7)
    half = (y + 1) / 2
    return torch.minimum(half - (x - lean * (1 - half)).abs(), 1 - y)


def _ring(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    """A wheel: rim, hub and sometimes spokes."""
    radius = torch.sqrt(x * x + y * y)
    rim = rng.uniform(0.06, 0.2)
    inside = torch.maximum(rim - (radius - (1 - rim)).abs(), 0.15 - radius)
    if rng.random() < 0.6:
        angle = torch.atan2(y, x)
        spokes = 0.04 - (radius * torch.sin(angle * int(rng.integers(2, 5)))).abs() * 0.4
        inside = torch.maximum(inside, torch.minimum(spokes, 1 - radius))
    return inside


def _crescent(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    outer = 1 - torch.sqrt(x * x + y * y)
    bite = torch.sqrt(x * x + (y - rng.uniform(0.5, 0.9)) ** 2) - rng.uniform(0.7, 1.0)
    return torch.minimum(outer, bite)


def _tuft(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    """Blades that grow upwards: grass, hair, branches."""
    blades = torch.full((y.shape[0], x.shape[1]), -1.0)
    for _ in range(int(rng.integers(4, 11))):
        root, lean, thick = rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.5), rng.uniform(0.05, 0.14)
        height = (1 - y) / 2
        blades = torch.maximum(blades, thick * (1 - height) + 0.01 - (x - root - lean * height**2).abs())
    return torch.minimum(blades, 1 - y.abs())


def _lumps(rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    """An island of a smooth noise field: bushes, rocks, clouds."""
    radius = torch.sqrt(x * x + y * y)
    side = max(y.shape[0], 2)
    noise = sample_field(rng, int(rng.choice((5, 7))), side, side, side / field(0).shape[0] * 2.0)
    return 0.75 - radius + 0.18 * noise


SHAPES = {
    "ellipse": _ellipse,
    "super": _super,
    "box": _box,
    "blob": _blob,
    "polygon": _polygon,
    "taper": _taper,
    "trapezoid": _trapezoid,
    "triangle": _triangle,
    "ring": _ring,
    "crescent": _crescent,
    "tuft": _tuft,
    "lumps": _lumps,
}
