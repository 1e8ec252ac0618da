"""Backgrounds: several textured regions with sharp borders, clutter in front of them, and light that falls on all."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.training.fields import SHARP, SMOOTH, sample_field
from stcn_core.training.figure import dress, random_plan, still_figure
from stcn_core.training.motion import affine
from stcn_core.training.shapes import coverage
from stcn_core.training.textures import Material, random_colour

CLUTTER = ("lumps", "polygon", "box", "super", "blob", "tuft", "taper", "lumps", "triangle", "ring", "ellipse")


def random_background(rng: np.random.Generator, height: int, width: int, zoom: float) -> tuple[Tensor, list[Material]]:
    """float32 [4, height, width] (RGB 0..1 and the light's factor) and the materials that it is made of."""
    count = int(rng.integers(2, 6))
    vivid = 0.3 if rng.random() < 0.2 else 0.05
    shared = random_colour(rng, vivid)
    materials = [Material.random(rng, shared if rng.random() < 0.3 else None, 0.2, vivid) for _ in range(count)]
    style = rng.random()
    if style < 0.5:
        canvas = _bands(rng, materials, height, width, zoom)
    elif style < 0.85:
        canvas = _regions(rng, materials, height, width, zoom)
    else:
        canvas = _ground(rng, materials, height, width, zoom)
    _clutter(rng, canvas, materials, zoom)
    if rng.random() < 0.35:
        _bystanders(rng, canvas, zoom)
    if rng.random() < 0.3:
        _posts(rng, canvas, materials, zoom)
    return torch.cat((canvas, _light(rng, height, width)[None])), materials


def _ground(rng: np.random.Generator, materials: list[Material], height: int, width: int, zoom: float) -> Tensor:
    """One material, or a mosaic: patches with sharp borders of several related ones (foliage, stones, crowds)."""
    base = materials[int(rng.integers(len(materials)))]
    canvas = base.patch(rng, height, width, zoom)
    if rng.random() < 0.45:
        return canvas
    spread = rng.uniform(0.1, 0.6)
    tiles = sample_field(rng, int(rng.choice(SHARP)), height, width, zoom * rng.uniform(0.5, 2.5))
    for level in np.linspace(-0.8, 1.0, int(rng.integers(2, 5))):
        other = materials[int(rng.integers(len(materials)))].varied(rng, spread)
        mask = ((tiles - float(level)) * 6 + 0.5).clamp_(0, 1)
        canvas = torch.lerp(canvas, other.patch(rng, height, width, zoom), mask[None])
    return canvas


def _bystanders(rng: np.random.Generator, canvas: Tensor, zoom: float) -> None:
    """Figures that stand still far away, often several of a kind in a row. In place."""
    _, height, width = canvas.shape
    radius = 120 * zoom * math.exp(rng.uniform(math.log(0.06), math.log(0.35)))
    level = rng.uniform(0.2, 0.8) * height
    for _ in range(int(rng.integers(1, 5))):
        materials = [Material.random(rng) for _ in range(5)]
        parts = tuple(dress(rng, random_plan(rng), materials, radius))
        for _ in range(int(rng.integers(1, 3))):
            place = affine(rng.normal(0, 0.1), radius, radius, rng.uniform(0, width), level + rng.normal(0, radius / 2))
            layer = still_figure(parts).draw(rng.uniform(0, 5), place, height, width)
            if layer is not None:
                rows = slice(layer.top, layer.top + layer.alpha.shape[0])
                columns = slice(layer.left, layer.left + layer.alpha.shape[1])
                canvas[:, rows, columns] = canvas[:, rows, columns] * (1 - layer.alpha) + layer.rgb


def _bands(rng: np.random.Generator, materials: list[Material], height: int, width: int, zoom: float) -> Tensor:
    """Sky, hills, walls, ground: bands one above the other with wavy or straight borders."""
    canvas = _ground(rng, materials[:1], height, width, zoom)
    level = rng.uniform(0.15, 0.6)
    y = torch.linspace(0, 1, height)[:, None]
    x = torch.linspace(0, 1, width)
    for material in materials[1:]:
        border = level + rng.normal(0, 0.08) * (x - 0.5)
        if rng.random() < 0.7:
            profile = sample_field(rng, int(rng.choice(SMOOTH)), 2, width, zoom * rng.uniform(1, 3))[0]
            border = border + rng.uniform(0, 0.06) * profile
        mask = ((y - border) * height * 0.7 + 0.5).clamp_(0, 1)
        canvas = torch.lerp(canvas, _ground(rng, [material], height, width, zoom), mask[None])
        level += rng.uniform(0.08, 0.35)
        if level > 0.95:
            break
    return canvas


def _regions(rng: np.random.Generator, materials: list[Material], height: int, width: int, zoom: float) -> Tensor:
    """Islands of smooth noise: fields, paths, rock faces, patches of light ground."""
    canvas = materials[0].patch(rng, height, width, zoom)
    for material in materials[1:]:
        island = sample_field(rng, int(rng.choice(SMOOTH)), height, width, zoom * rng.uniform(1.5, 3.0))
        mask = torch.sigmoid((island - rng.uniform(0.0, 1.0)) * rng.uniform(8, 40))
        canvas = torch.lerp(canvas, material.patch(rng, height, width, zoom), mask[None])
    return canvas


def _clutter(rng: np.random.Generator, canvas: Tensor, materials: list[Material], zoom: float) -> None:
    """Stamps shapes of power-law sizes on the canvas, some of them repeated in groups. In place."""
    _, height, width = canvas.shape
    budget = int(rng.choice((4, 12, 25, 45, 80)))
    while budget > 0:
        kind = str(rng.choice(CLUTTER))
        new = rng.random() < 0.6
        material = Material.random(rng) if new else materials[int(rng.integers(len(materials)))].varied(rng, 0.3)
        side = int(min(max(10 * zoom * rng.random() ** -0.6, 8), height * 0.6))
        rows, columns = max(4, int(side * rng.uniform(0.4, 1.6))), max(4, int(side * rng.uniform(0.4, 1.6)))
        alpha = F.interpolate(
            coverage(rng, kind, max(min(side, 160), 16), 0.04)[None, None],
            (rows, columns),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        rgb = material.patch(rng, rows, columns, zoom)
        level = int(rng.integers(height))
        repeats = int(rng.integers(2, 9)) if rng.random() < 0.3 else 1
        for _ in range(min(repeats, budget)):
            top = (level + int(rng.integers(-8, 9)) if repeats > 1 else int(rng.integers(height))) - rows // 2
            _stamp(canvas, rgb, alpha, top, int(rng.integers(width)) - columns // 2)
            budget -= 1


def _posts(rng: np.random.Generator, canvas: Tensor, materials: list[Material], zoom: float) -> None:
    """Upright posts, trunks, rails. In place."""
    _, height, width = canvas.shape
    material = Material.random(rng, graphic=0.4)
    for _ in range(int(rng.integers(1, 8))):
        thick = int(max(2, 4 * zoom * math.exp(rng.uniform(-0.5, 1.5))))
        if rng.random() < 0.8:
            rows, columns = int(height * rng.uniform(0.2, 1.0)), thick
        else:
            rows, columns = thick, int(width * rng.uniform(0.3, 1.0))
        rgb = material.patch(rng, rows, columns, zoom)
        if columns == thick:  # a rounded trunk is darker towards its sides
            rgb = rgb * (1 - 0.4 * torch.linspace(-1, 1, columns) ** 2)
        top, left = int(rng.integers(-rows // 3, height)), int(rng.integers(width))
        _stamp(canvas, rgb, torch.ones(rows, columns), top, left)


def _stamp(canvas: Tensor, rgb: Tensor, alpha: Tensor, top: int, left: int) -> None:
    _, height, width = canvas.shape
    rows, columns = alpha.shape
    y0, y1, x0, x1 = max(top, 0), min(top + rows, height), max(left, 0), min(left + columns, width)
    if y0 >= y1 or x0 >= x1:
        return
    inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    view = canvas[:, y0:y1, x0:x1]
    view.copy_(torch.lerp(view, rgb[:, *inner], alpha[inner][None]))


def _light(rng: np.random.Generator, height: int, width: int) -> Tensor:
    """Factor around 1, [height, width]: even, a slow gradient, or dappled shade with soft borders."""
    kind = rng.random()
    if kind < 0.4:
        return torch.ones(height, width)
    slow = sample_field(rng, int(rng.choice(SMOOTH)), height // 8, width // 8, 2.0)
    slow = F.interpolate(slow[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    if kind < 0.8:
        return (1 + rng.uniform(0.05, 0.2) * slow).clamp_(0.4, 1.6)
    return 1.1 - rng.uniform(0.2, 0.55) * torch.sigmoid(slow * rng.uniform(2, 8))
