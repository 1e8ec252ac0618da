"""Colours and textures with natural statistics: variation is mostly of brightness, hue varies little."""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stcn_core.training.fields import FINE, GRAPHIC, NATURAL, SMOOTH, sample_field

Colour = tuple[float, float, float]


def random_colour(rng: np.random.Generator, vivid: float = 0.25) -> Colour:
    """RGB in 0..1: greys, earth and leaf tones, sky, and the share `vivid` of vivid colours."""
    kind = 0.75 + 0.25 * rng.random() if rng.random() < vivid else 0.75 * rng.random()
    value = rng.uniform(0.06, 0.95)
    if kind < 0.35:
        hue, saturation = rng.random(), rng.uniform(0.0, 0.15)
    elif kind < 0.52:
        hue, saturation, value = rng.uniform(0.03, 0.13), rng.uniform(0.15, 0.6), rng.uniform(0.12, 0.85)
    elif kind < 0.67:
        hue, saturation, value = rng.uniform(0.16, 0.38), rng.uniform(0.15, 0.65), rng.uniform(0.1, 0.7)
    elif kind < 0.75:
        hue, saturation, value = rng.uniform(0.5, 0.68), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.98)
    else:
        hue, saturation, value = rng.random(), rng.uniform(0.4, 0.95), rng.uniform(0.25, 1.0)
    return colorsys.hsv_to_rgb(hue, saturation, value)


def similar_colour(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """A colour near another one: brightness varies by `spread`, hue and saturation by less."""
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    return colorsys.hsv_to_rgb(
        (hue + 0.15 * spread * rng.standard_normal()) % 1.0,
        float(np.clip(saturation * math.exp(0.5 * spread * rng.standard_normal()), 0, 1)),
        float(np.clip(value * math.exp(spread * rng.standard_normal()), 0.03, 1)),
    )


@dataclass(frozen=True)
class Material:
    """Recipe of a texture, from which any number of different patches can be cut."""

    colour: Colour
    second: Colour
    detail: int  # index into the bank of fields
    pattern: int
    contrast: float
    pattern_weight: float  # 0: plain, 1: the second colour covers the pattern's upper part
    threshold: float
    scale: float
    sharpness: float
    grain: float  # share of fine detail

    @staticmethod
    def random(
        rng: np.random.Generator, colour: Colour | None = None, graphic: float = 0.15, vivid: float = 0.25
    ) -> "Material":
        """graphic: probability of a man-made pattern (stripes, checks, lettering); vivid: of a strong colour."""
        colour = random_colour(rng, vivid) if colour is None else colour
        second = similar_colour(rng, colour, 0.5) if rng.random() < 0.6 else random_colour(rng, vivid)
        bank = GRAPHIC if rng.random() < graphic else NATURAL
        return Material(
            colour=colour,
            second=second,
            detail=int(rng.choice(NATURAL)),
            pattern=int(rng.choice(bank)),
            contrast=float(np.exp(rng.uniform(math.log(0.02), math.log(0.45)))),
            pattern_weight=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.55 else 0.0,
            threshold=float(rng.normal(0.2, 0.6)),
            scale=float(np.exp(rng.uniform(math.log(0.6), math.log(3.0)))),
            sharpness=float(np.exp(rng.uniform(math.log(1.5), math.log(15.0)))),
            grain=float(rng.uniform(0.0, 0.8)),
        )

    def varied(self, rng: np.random.Generator, spread: float) -> "Material":
        """A look-alike: the same recipe with slightly other colours."""
        return Material(
            similar_colour(rng, self.colour, spread),
            similar_colour(rng, self.second, spread),
            *(self.detail, self.pattern, self.contrast, self.pattern_weight),
            *(self.threshold, self.scale, self.sharpness, self.grain),
        )

    def patch(self, rng: np.random.Generator, height: int, width: int, zoom: float = 1.0) -> Tensor:
        """RGB in 0..1, float32 [3, height, width]. zoom: pixels per texture pixel, so that 640 px looks as 320."""
        scale = self.scale * zoom
        detail = sample_field(rng, self.detail, height, width, scale)
        rgb = torch.tensor(self.colour)[:, None, None].expand(3, height, width)
        if self.pattern_weight > 0:
            pattern = sample_field(rng, self.pattern, height, width, scale * 1.5)
            weight = torch.sigmoid((pattern - self.threshold) * self.sharpness) * self.pattern_weight
            rgb = torch.lerp(rgb, torch.tensor(self.second)[:, None, None], weight[None])
        fine = sample_field(rng, int(rng.choice(FINE)), height, width, max(zoom, 0.5))
        rgb = rgb * (1 + self.contrast * (detail + self.grain * fine))
        slope = _ramp(rng, height, width)
        rgb = rgb * (1 + 0.25 * rng.random() * slope)
        chroma = sample_field(rng, int(rng.choice(SMOOTH)), height, width, scale * 2)
        tilt = torch.tensor(rng.normal(0, 0.015, 3), dtype=torch.float32)[:, None, None]
        return (rgb + tilt * chroma).clamp_(0, 1)


def _ramp(rng: np.random.Generator, height: int, width: int) -> Tensor:
    """Linear ramp within -1..1 in a random direction, [height, width]."""
    angle = rng.uniform(0, 2 * math.pi)
    y = torch.linspace(-1, 1, height)[:, None] * math.sin(angle)
    return (y + torch.linspace(-1, 1, width) * math.cos(angle)) / 1.4143
