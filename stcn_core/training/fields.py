"""Scalar fields that textures are mixed from: noise of natural spectra, cells, leaves, stripes, strokes.

A fixed bank, the same for every seed: fields are periodic, have zero mean and unit deviation, and are made when
first asked for. What a clip draws from them (which, where, how large, turned how) is the clip's own seed's affair.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 320  # pixels of one period
BANK_SEED = 20261121

# (kind, parameter); repeated kinds get different random numbers
RECIPES: tuple[tuple[str, float], ...] = (
    *(("power", exponent) for exponent in (0.7, 1.0, 1.0, 1.3, 1.3, 1.6, 1.6, 2.0, 2.0)),
    *(("fibre", stretch) for stretch in (4.0, 8.0, 12.0, 3.0)),
    *(("band", cycles) for cycles in (10.0, 20.0, 35.0, 60.0)),
    *(("ridge", exponent) for exponent in (1.4, 1.8)),
    *(("blotch", exponent) for exponent in (1.3, 1.7, 2.0)),
    *(("cells", count) for count in (40.0, 120.0, 300.0)),
    *(("leaves", largest) for largest in (60.0, 40.0, 25.0, 80.0)),
)
GRAPHIC_RECIPES: tuple[tuple[str, float], ...] = (
    *(("stripes", cycles) for cycles in (6.0, 14.0)),
    *(("checks", cycles) for cycles in (8.0, 16.0)),
    *(("bricks", cycles) for cycles in (10.0, 18.0)),
    *(("dots", cycles) for cycles in (8.0, 16.0)),
    *(("strokes", size) for size in (24.0, 40.0)),
)
SMOOTH = tuple(i for i, (kind, value) in enumerate(RECIPES) if kind == "power" and value >= 1.6)
FINE = tuple(i for i, (kind, value) in enumerate(RECIPES) if kind == "power" and value <= 1.0)
SHARP = tuple(i for i, (kind, _) in enumerate(RECIPES) if kind in ("leaves", "cells"))
NATURAL = tuple(range(len(RECIPES)))
GRAPHIC = tuple(range(len(RECIPES), len(RECIPES) + len(GRAPHIC_RECIPES)))


@functools.cache
def field(index: int) -> Tensor:
    """Field of the bank, float32 [SIDE, SIDE], zero mean, unit deviation, within -3..3, periodic."""
    kind, value = (RECIPES + GRAPHIC_RECIPES)[index]
    rng = np.random.default_rng([BANK_SEED, index])
    raw = _MAKERS[kind](rng, value)
    raw = (raw - raw.mean()) / max(float(raw.std()), 1e-6)
    return torch.from_numpy(np.clip(raw, -3, 3).astype(np.float32))


def sample_field(rng: np.random.Generator, index: int, height: int, width: int, scale: float = 1.0) -> Tensor:
    """A random window of a field, turned and mirrored at random, magnified `scale` times: [height, width]."""
    source = field(index)
    if rng.random() < 0.5:
        source = source.T
    if rng.random() < 0.5:
        source = source.flip(0)
    if rng.random() < 0.5:
        source = source.flip(1)
    rows, columns = max(2, math.ceil(height / scale)), max(2, math.ceil(width / scale))
    top, left = int(rng.integers(SIDE)), int(rng.integers(SIDE))
    y = (torch.arange(rows) + top) % SIDE
    x = (torch.arange(columns) + left) % SIDE
    window = source[y][:, x]
    if (rows, columns) == (height, width):
        return window
    return F.interpolate(window[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    f = np.fft.fftfreq(SIDE) * SIDE
    return np.meshgrid(f, f, indexing="ij")


def _shaped(rng: np.random.Generator, gain: np.ndarray) -> np.ndarray:
    gain = gain.copy()
    gain[0, 0] = 0
    return np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * gain).real


def _power(rng: np.random.Generator, exponent: float) -> np.ndarray:
    fy, fx = _frequencies()
    return _shaped(rng, np.maximum(np.hypot(fy, fx), 1.0) ** -exponent)


def _fibre(rng: np.random.Generator, stretch: float) -> np.ndarray:
    fy, fx = _frequencies()
    return _shaped(rng, np.maximum(np.hypot(fy * stretch, fx), 3.0) ** -1.2)


def _band(rng: np.random.Generator, cycles: float) -> np.ndarray:
    fy, fx = _frequencies()
    return _shaped(rng, np.exp(-((np.log(np.maximum(np.hypot(fy, fx), 0.5) / cycles) / 0.35) ** 2)))


def _ridge(rng: np.random.Generator, exponent: float) -> np.ndarray:
    return -np.sqrt(np.abs(_unit(_power(rng, exponent))))


def _blotch(rng: np.random.Generator, exponent: float) -> np.ndarray:
    return np.tanh(8 * _unit(_power(rng, exponent))) + 0.15 * _unit(_power(rng, 1.0))


def _cells(rng: np.random.Generator, count: float) -> np.ndarray:
    """Voronoi cells: a value per cell, dark joints (stones, scales, cracked earth)."""
    points = rng.uniform(0, SIDE, (int(count), 2)).astype(np.float32)
    shifts = np.array([(a, b) for a in (-SIDE, 0, SIDE) for b in (-SIDE, 0, SIDE)], np.float32)
    tiled = torch.from_numpy((points[None] + shifts[:, None]).reshape(-1, 2))
    axis = torch.arange(SIDE, dtype=torch.float32)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    values, owner = [], []
    for part in pixels.split(16384):
        near = torch.cdist(part, tiled).topk(2, dim=1, largest=False)
        values.append(near.values[:, 1] - near.values[:, 0])
        owner.append(near.indices[:, 0] % len(points))
    gap = torch.cat(values).numpy().reshape(SIDE, SIDE)
    cell = rng.standard_normal(len(points))[torch.cat(owner).numpy().reshape(SIDE, SIDE)]
    return cell * 0.6 - 1.5 * np.exp(-gap / 1.5)


def _leaves(rng: np.random.Generator, largest: float) -> np.ndarray:
    """Dead leaves: discs and boxes of power-law sizes that cover each other, the statistics of natural scenes."""
    out = np.zeros((SIDE, SIDE))
    axis = np.arange(-largest, largest + 1)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    for _ in range(500):
        radius = min(largest, 4 * rng.random() ** -0.6)
        turn = rng.uniform(0, np.pi)
        u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) * rng.uniform(1, 3)
        inside = np.hypot(u, v) < radius if rng.random() < 0.6 else np.maximum(abs(u), abs(v)) < radius
        rows, columns = np.nonzero(inside)
        top, left = rng.integers(SIDE, size=2)
        out[(rows + top) % SIDE, (columns + left) % SIDE] = rng.standard_normal() + 0.3 * v[inside] / radius
    return out + 0.25 * _unit(_power(rng, 1.2))


def _grid(rng: np.random.Generator, cycles: float) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(SIDE) / SIDE
    y, x = np.meshgrid(axis, axis, indexing="ij")
    warp = 0.02 * rng.random()
    return (y + warp * _unit(_power(rng, 2.2))) * cycles, (x + warp * _unit(_power(rng, 2.2))) * cycles


def _stripes(rng: np.random.Generator, cycles: float) -> np.ndarray:
    y, _ = _grid(rng, cycles)
    return np.tanh(6 * np.sin(2 * np.pi * y))


def _checks(rng: np.random.Generator, cycles: float) -> np.ndarray:
    y, x = _grid(rng, cycles)
    return np.sign(np.sin(2 * np.pi * y)) + np.sign(np.sin(2 * np.pi * x))


def _bricks(rng: np.random.Generator, cycles: float) -> np.ndarray:
    y, x = _grid(rng, cycles)
    row = np.floor(y)
    u, v = (x / 2 + 0.5 * (row % 2)) % 1, y % 1
    joint = (np.minimum(u, 1 - u) * 2 < 0.08) | (np.minimum(v, 1 - v) < 0.08)
    shade = np.sin(127.1 * row + 311.7 * np.floor(x / 2 + 0.5 * (row % 2)))
    return np.where(joint, -1.5, 0.5 * shade)


def _dots(rng: np.random.Generator, cycles: float) -> np.ndarray:
    y, x = _grid(rng, cycles)
    return np.tanh(12 * (0.3 - np.hypot(y % 1 - 0.5, x % 1 - 0.5)))


def _strokes(rng: np.random.Generator, size: float) -> np.ndarray:
    """Rows of upright and level bars of equal height: lettering, window frames, signs."""
    out = np.zeros((SIDE, SIDE))
    step = int(size)
    for top in range(0, SIDE - step, step + step // 2):
        if rng.random() < 0.3:
            continue
        left = int(rng.integers(0, step))
        while left < SIDE - step:
            thick = max(2, step // 6)
            for _ in range(3):
                if rng.random() < 0.5:
                    at = left + int(rng.integers(0, max(1, step // 2 - thick)))
                    out[top : top + step, at : at + thick] = 1
                else:
                    at = top + int(rng.integers(0, step - thick))
                    out[at : at + thick, left : left + step // 2] = 1
            left += step * 2 // 3 if rng.random() < 0.85 else step * 3 // 2
    return out


def _unit(x: np.ndarray) -> np.ndarray:
    return x / max(float(x.std()), 1e-9)


_MAKERS = {
    "power": _power,
    "fibre": _fibre,
    "band": _band,
    "ridge": _ridge,
    "blotch": _blotch,
    "cells": _cells,
    "leaves": _leaves,
    "stripes": _stripes,
    "checks": _checks,
    "bricks": _bricks,
    "dots": _dots,
    "strokes": _strokes,
}
