"""Figures: what moves in a scene. Sprites on a body plan, drawn at any time into a layer of the frame."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.training.body_plans import BODY_PLANS, WEIGHTS, PartPlan
from stcn_core.training.motion import Absence, Wave, affine
from stcn_core.training.shapes import MARGIN, coverage
from stcn_core.training.textures import Material

LARGEST_SPRITE = 224  # pixels; a larger part is magnified


@dataclass(frozen=True)
class Part:
    """A plan with its pixels: rgba float32 [4, S, S]; `other` [3, S, S] is how it looks from its other side."""

    plan: PartPlan
    rgba: Tensor
    other: Tensor | None


@dataclass(frozen=True)
class Layer:
    """A rectangle of the frame: premultiplied rgb [3, h, w] and coverage [h, w] at (top, left)."""

    top: int
    left: int
    rgb: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Figure:
    """Parts, path and looks. label 0 is a distractor or an occluder, others are objects.

    Positions are in half frame heights; `follow` 1 keeps its place in the picture when the camera moves (the
    camera tracks it), 0 stands in the world. Every wave is a function of seconds.
    """

    parts: tuple[Part, ...]
    label: int
    radius: float
    x: Wave
    y: Wave
    log_scale: Wave
    angle: Wave
    turn: Wave  # radians about the upright axis: narrows, then mirrors the figure
    view: Wave  # 0..1 after clamping: blends to the parts' other side
    ripple: tuple[float, float, float, float]  # amplitude, wave number, radians per second, phase
    follow: float
    absence: Absence | None = None
    shadow: float = 0.0

    def matrix(self, t: float, focus: tuple[float, float]) -> np.ndarray:
        """Figure units to world coordinates. focus: the camera's place, which a followed figure moves with."""
        x = self.x.at(t) + self.follow * focus[0] + (self.absence.at(t) if self.absence else 0.0)
        y = self.y.at(t) + self.follow * focus[1]
        size = self.radius * math.exp(self.log_scale.at(t))
        across = math.cos(self.turn.at(t))
        across = math.copysign(max(abs(across), 0.4), across)
        return affine(self.angle.at(t), size * across, size, x, y)

    def draw(self, t: float, to_pixels: np.ndarray, height: int, width: int) -> Layer | None:
        """The figure at time t, or None when no part touches the frame. to_pixels: figure units to pixels, 3x3."""
        frames: list[np.ndarray] = []  # each part's own frame, origin at its pivot
        placed = []
        for part in self.parts:
            plan = part.plan
            parent = to_pixels if plan.parent < 0 else frames[plan.parent]
            frame = parent @ affine(plan.swing.at(t), 1, 1, *plan.joint)
            frames.append(frame)
            shift = (-plan.pivot[0] * plan.half[0], -plan.pivot[1] * plan.half[1])
            sprite = frame @ affine(0, plan.half[0] * MARGIN, plan.half[1] * MARGIN, *shift)
            box = _bounds(sprite, height, width)
            if box is not None:
                placed.append((plan.depth, len(frames), part, sprite, box))
        if not placed:
            return None
        placed.sort(key=lambda item: item[:2])
        top, left = min(p[4][0] for p in placed), min(p[4][1] for p in placed)
        bottom, right = max(p[4][2] for p in placed), max(p[4][3] for p in placed)
        rgb, alpha = torch.zeros(3, bottom - top, right - left), torch.zeros(bottom - top, right - left)
        view = min(max(self.view.at(t), 0.0), 1.0)
        for _, _, part, sprite, (y0, x0, y1, x1) in placed:
            pixels = part.rgba
            if part.other is not None and view > 0.01:
                pixels = torch.cat((torch.lerp(part.rgba[:3], part.other, view), part.rgba[3:]))
            sampled = self._sample(pixels, sprite, y0, x0, y1, x1, t)
            part_alpha = sampled[3]
            rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            keep = 1 - part_alpha
            rgb[:, rows, columns] = rgb[:, rows, columns] * keep + sampled[:3] * part_alpha
            alpha[rows, columns] = alpha[rows, columns] * keep + part_alpha
        return Layer(top, left, rgb, alpha)

    def _sample(self, pixels: Tensor, sprite: np.ndarray, y0: int, x0: int, y1: int, x1: int, t: float) -> Tensor:
        inverse = np.linalg.inv(sprite)
        x = torch.arange(x0, x1) + 0.5
        y = (torch.arange(y0, y1) + 0.5)[:, None]
        u = float(inverse[0, 0]) * x + (float(inverse[0, 1]) * y + float(inverse[0, 2]))  # [h, w]
        v = float(inverse[1, 0]) * x + (float(inverse[1, 1]) * y + float(inverse[1, 2]))
        amplitude, number, speed, phase = self.ripple
        if amplitude > 0:
            shifted = u + amplitude * torch.sin(number * v + (speed * t + phase))
            v = v + amplitude * torch.sin(number * u + (1.3 * speed * t + phase))
            u = shifted
        grid = torch.stack((u, v), -1)[None]  # [1, h, w, 2]
        return F.grid_sample(pixels[None], grid, align_corners=False)[0]


def _bounds(matrix: np.ndarray, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Frame rectangle (top, left, bottom, right) that holds the image of the square -1..1, with room to ripple."""
    reach_x = (abs(matrix[0, 0]) + abs(matrix[0, 1])) * 1.05 + 1
    reach_y = (abs(matrix[1, 0]) + abs(matrix[1, 1])) * 1.05 + 1
    left, right = max(0, int(matrix[0, 2] - reach_x)), min(width, int(matrix[0, 2] + reach_x) + 1)
    top, bottom = max(0, int(matrix[1, 2] - reach_y)), min(height, int(matrix[1, 2] + reach_y) + 1)
    return (top, left, bottom, right) if top < bottom and left < right else None


def random_plan(rng: np.random.Generator) -> list[PartPlan]:
    """A body plan drawn by its weight."""
    names = list(WEIGHTS)
    return BODY_PLANS[str(rng.choice(names, p=list(WEIGHTS.values())))](rng)


def dress(rng: np.random.Generator, plan: list[PartPlan], materials: list[Material], pixels: float) -> list[Part]:
    """Makes the sprites. pixels: the figure's radius on the screen at its largest, which fixes the sprites' size."""
    rough = float(rng.uniform(0, 0.05)) if rng.random() < 0.5 else 0.0
    turns = rng.random() < 0.3
    shading, light = rng.uniform(0.0, 0.45), rng.uniform(0, 2 * math.pi)
    parts = []
    for item in plan:
        side = int(min(max(2.4 * max(item.half) * pixels, 12), LARGEST_SPRITE))
        alpha = coverage(rng, item.shape, side, rough)
        material = materials[item.material % len(materials)]
        zoom = max(pixels / 110, 0.35)
        rgb = material.patch(rng, side, side, zoom)
        if rng.random() < 0.3:  # a second region within the part: a belt, a face, a patch of another colour
            region = coverage(rng, str(rng.choice(("blob", "polygon", "box", "lumps"))), side)
            shift = (int(rng.integers(-side // 2, side // 2 + 1)), int(rng.integers(-side // 2, side // 2 + 1)))
            region = torch.roll(region, shift, (0, 1))
            second = materials[int(rng.integers(len(materials)))].patch(rng, side, side, zoom)
            rgb = torch.lerp(rgb, second, region[None])
        rgb = rgb * _shade(side, shading, light)
        other = None
        if turns:
            other = material.varied(rng, 0.2).patch(rng, side, side, zoom) * _shade(side, shading, -light)
            other = other.clamp_(0, 1)
        parts.append(Part(item, torch.cat((rgb.clamp_(0, 1), alpha[None])), other))
    return parts


def _shade(side: int, strength: float, angle: float) -> Tensor:
    """Brightness of a gently rounded body lit from one side, [side, side]."""
    axis = torch.linspace(-1, 1, side)
    y, x = axis[:, None], axis[None, :]
    facing = (x * math.cos(angle) + y * math.sin(angle)) * 0.7
    return (1 + strength * (facing - 0.5 * (x * x + y * y) + 0.3)).clamp_(0.2, 1.8)


def still_figure(parts: tuple[Part, ...]) -> Figure:
    """A figure that only moves its parts, at the origin: for crowds in a background."""
    still = Wave()
    return Figure(parts, 0, 1.0, still, still, still, still, still, still, (0.0, 0.0, 0.0, 0.0), 0.0)
