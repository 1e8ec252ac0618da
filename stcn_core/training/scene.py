"""A scene: background, figures, camera and light, each a function of time; drawn at random from a seed."""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from stcn_core.training.background import random_background
from stcn_core.training.body_plans import PartPlan
from stcn_core.training.figure import Figure, dress, random_plan
from stcn_core.training.motion import Absence, Wave, affine
from stcn_core.training.textures import Material

WORLD = 1.7  # the background reaches this many half frames from the middle; beyond it is mirrored


@dataclass(frozen=True)
class Camera:
    """Pan, zoom and roll; world coordinates are half frame heights."""

    x: Wave
    y: Wave
    log_zoom: Wave
    roll: Wave

    def focus(self, t: float) -> tuple[float, float]:
        return self.x.at(t), self.y.at(t)

    def to_screen(self, t: float) -> np.ndarray:
        """World to screen coordinates (half heights from the frame's middle), 3x3."""
        zoom = math.exp(self.log_zoom.at(t))
        return affine(self.roll.at(t), zoom, zoom, 0, 0) @ affine(0, 1, 1, -self.x.at(t), -self.y.at(t))


@dataclass(frozen=True)
class Optics:
    """What lens, sensor and codec do to the picture. Lengths in pixels of the frame."""

    gain: Wave  # log brightness
    tint: tuple[Wave, Wave, Wave]  # log gain per channel
    gamma: float
    haze: float
    blur: Wave  # standard deviation; negative is sharp
    shutter: float  # seconds of motion blur
    noise: float
    quality: int | None  # of JPEG, None: lossless


@dataclass(frozen=True)
class Scene:
    """Everything needed to draw any instant. backgrounds: float32 [4, H, W] each; the second follows a hard cut."""

    seed: tuple[int, ...]
    height: int
    width: int
    backgrounds: tuple[Tensor, ...]
    cut: float  # seconds; infinity without a cut
    figures: tuple[Figure, ...]  # from back to front
    camera: Camera
    optics: Optics

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(sorted(figure.label for figure in self.figures if figure.label))


@dataclass(frozen=True)
class SceneOptions:
    """What is asked of a scene; everything else is drawn at random.

    objects: 1 to 3. size: (height, width) in pixels. absent: (start, end) in seconds for the second object
    (the first, when there is one only), which leaves the picture and comes back. smallest, largest: an object's
    length as a share of the frame's shorter side. calm: no cuts, no heavy blur, objects that stay in the picture.
    """

    objects: int
    size: tuple[int, int]
    absent: tuple[float, float] | None = None
    smallest: float = 0.14
    largest: float = 0.9
    calm: bool = False


def random_scene(seed: tuple[int, ...], options: SceneOptions) -> Scene:
    """The scene of a seed: always the same for the same seed and options."""
    if not 1 <= options.objects <= 3:
        raise ValueError(f"a scene has 1 to 3 objects, not {options.objects}")
    rng = np.random.default_rng(list(seed))
    height, width = options.size
    zoom = min(height, width) / 240
    rows, columns = int(height * WORLD), int(width * WORLD)
    backgrounds, materials = [], []
    cut = math.inf
    if not options.calm and rng.random() < 0.08:
        cut = float(rng.uniform(0.5, 6.0))
    for _ in range(1 if math.isinf(cut) else 2):
        background, used = random_background(rng, rows, columns, zoom)
        backgrounds.append(background)
        materials += used
    camera = _random_camera(rng)
    figures = _random_figures(rng, options, materials, zoom)
    optics = _random_optics(rng, options, zoom)
    return Scene(tuple(seed), height, width, tuple(backgrounds), cut, tuple(figures), camera, optics)


def _random_camera(rng: np.random.Generator) -> Camera:
    if rng.random() < 0.25:
        still = 0.02 * rng.random()
        return Camera(Wave.random(rng, still), Wave.random(rng, still), Wave(), Wave())
    pan = rng.uniform(0.05, 1.0)
    periods = (3.0, 25.0)
    shake = Wave.random(rng, 0.02 * rng.random(), (0.3, 1.0))
    x = Wave.random(rng, pan, periods)
    return Camera(
        x=replace(x, terms=x.terms + shake.terms),
        y=Wave.random(rng, pan * 0.4, periods),
        log_zoom=Wave.random(rng, rng.uniform(0, 0.35), periods),
        roll=Wave.random(rng, rng.uniform(0, 0.12), periods),
    )


def _random_figures(
    rng: np.random.Generator, options: SceneOptions, ground: list[Material], zoom: float
) -> list[Figure]:
    height, width = options.size
    aspect, shorter = width / height, min(height, width) / height
    figures: list[Figure] = []
    plans: list[tuple[list[PartPlan], list[Material], float]] = []
    log_range = (math.log(options.smallest), math.log(options.largest))
    distractors = int(rng.choice((0, 1, 2, 3), p=(0.35, 0.35, 0.2, 0.1)))
    for index in range(options.objects + distractors):
        label = index + 1 if index < options.objects else 0
        radius = shorter * math.exp(log_range[0] + (log_range[1] - log_range[0]) * rng.random() ** 0.8)
        if plans and rng.random() < 0.3:  # a look-alike of an earlier figure, drawn from the same recipe
            plan, materials, like = plans[int(rng.integers(len(plans)))]
            spread = float(rng.choice((0.0, 0.08, 0.25)))
            materials = [material.varied(rng, spread) for material in materials]
            radius = like * math.exp(rng.normal(0, 0.25))
        else:
            plan = random_plan(rng)
            hidden = rng.random() < 0.2  # made of what the background is made of
            graphic = float(rng.choice((0.05, 0.3)))
            materials = [
                ground[int(rng.integers(len(ground)))].varied(rng, 0.1)
                if hidden
                else Material.random(rng, graphic=graphic)
                for _ in range(5)
            ]
            if rng.random() < 0.25:
                materials = materials[:1]
        plans.append((plan, materials, radius))
        absence = None
        leaver = min(2, options.objects)
        if options.absent is not None and label == leaver:
            absence = Absence(*options.absent, distance=math.copysign(aspect * 2.5 + 1, rng.normal()))
        figures.append(_place(rng, plan, materials, label, radius, aspect, zoom * 120, absence, options))
    order = rng.permutation(len(figures))
    figures = [figures[i] for i in order]
    for _ in range(int(rng.choice((0, 1, 2), p=(0.65, 0.2, 0.15)))):
        figures.append(_occluder(rng, aspect, zoom * 120))
    return figures


def _place(
    rng: np.random.Generator,
    plan: list[PartPlan],
    materials: list[Material],
    label: int,
    radius: float,
    aspect: float,
    half_height: float,
    absence: Absence | None,
    options: SceneOptions,
) -> Figure:
    """Gives a figure its sprites and its path. radius is half the figure's length in half frame heights."""
    grow = Wave.random(rng, rng.uniform(0, 0.5), (3, 20))
    parts = dress(rng, plan, materials, radius * 1.2 * half_height)
    roam = rng.uniform(0.05, 0.5) if options.calm else rng.uniform(0.05, 1.1)
    inside = max(0.15, 1 - 0.6 * radius) * 0.85
    upright = rng.random() < 0.75
    spin = Wave.random(rng, rng.uniform(0, 0.25) if upright else rng.uniform(0, 1.5), (2, 15))
    turning = rng.random() < 0.5
    speed = rng.uniform(1, 6)
    return Figure(
        parts=tuple(parts),
        label=label,
        radius=radius,
        x=Wave.random(rng, roam * aspect).starting_at(rng.uniform(-1, 1) * inside * aspect),
        y=Wave.random(rng, roam * 0.5).starting_at(rng.uniform(-1, 1) * inside),
        log_scale=grow.starting_at(0.0),
        angle=spin if upright else replace(spin, offset=rng.uniform(-math.pi, math.pi)),
        turn=Wave.random(rng, rng.uniform(0.3, 2.5), (4, 20), float(rng.choice((0.0, math.pi))))
        if turning
        else Wave(float(rng.choice((0.0, math.pi)))),
        view=Wave.random(rng, 1.2, (4, 20), rng.uniform(-0.5, 0.5)),
        ripple=(rng.uniform(0.01, 0.07) if rng.random() < 0.6 else 0.0, rng.uniform(1.5, 4), speed, speed),
        follow=float(rng.choice((0.0, 0.7, 1.0), p=(0.2, 0.3, 0.5))) if not options.calm else 1.0,
        absence=absence,
        shadow=rng.uniform(0.15, 0.6) if rng.random() < 0.5 else 0.0,
    )


def _occluder(rng: np.random.Generator, aspect: float, half_height: float) -> Figure:
    """A post, trunk, bush or passer-by in front of everything, standing in the world."""
    shape = str(rng.choice(("box", "taper", "lumps", "tuft", "super")))
    thin = rng.uniform(0.02, 0.12)
    half = (thin, 1.6) if shape in ("box", "taper") else (rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.5))
    plan = [PartPlan(shape, half)]
    still = Wave()
    return Figure(
        parts=tuple(dress(rng, plan, [Material.random(rng, graphic=0.3)], half_height)),
        label=0,
        radius=1.0,
        x=Wave.random(rng, 0.5 * rng.random() ** 2, offset=rng.uniform(-1, 1) * aspect),
        y=Wave(rng.uniform(-0.5, 1.0)),
        log_scale=still,
        angle=Wave(rng.normal(0, 0.1)),
        turn=still,
        view=still,
        ripple=(0.0, 0.0, 0.0, 0.0),
        follow=0.0,
    )


def _random_optics(rng: np.random.Generator, options: SceneOptions, zoom: float) -> Optics:
    blurred = rng.random() < (0.1 if options.calm else 0.3)
    drift = rng.uniform(0, 0.2)
    tint = tuple(Wave.random(rng, rng.uniform(0, 0.08), (3, 30), rng.normal(0, 0.05)) for _ in range(3))
    return Optics(
        gain=Wave.random(rng, drift, (2, 30), rng.normal(0, 0.1)),
        tint=tint,
        gamma=float(np.exp(rng.normal(0, 0.2))),
        haze=float(rng.uniform(0, 0.3)) if rng.random() < 0.3 else 0.0,
        blur=Wave.random(rng, 0.6 * zoom, (1, 10), rng.uniform(-0.3, 0.9) * zoom) if blurred else Wave(-1.0),
        shutter=float(rng.choice((0.0, 1 / 120, 1 / 50, 1 / 25), p=(0.3, 0.3, 0.2, 0.2))),
        noise=float(np.exp(rng.uniform(math.log(0.002), math.log(0.03)))),
        quality=None if rng.random() < 0.25 else int(rng.integers(30, 96)),
    )
