"""Body plans: which parts a figure has, where they join and how they swing. Figure units: about -1..1, y down."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stcn_core.training.motion import Wave


@dataclass(frozen=True)
class PartPlan:
    """One part. `joint` is where it hangs, in its parent's own frame; `pivot` is that point in the part (-1..1)."""

    shape: str
    half: tuple[float, float]
    joint: tuple[float, float] = (0.0, 0.0)
    pivot: tuple[float, float] = (0.0, 0.0)
    parent: int = -1  # index of an earlier part, -1 for the figure itself
    swing: Wave = Wave()
    material: int = 0  # index into the figure's materials
    depth: int = 0  # drawn in order of rising depth


def _gait(rng: np.random.Generator, amplitude: float, phase: float, period: float, rest: float = 0.0) -> Wave:
    return Wave(rest, ((amplitude * rng.uniform(0.6, 1.2), period, phase),))


def biped(rng: np.random.Generator) -> list[PartPlan]:
    """A walking person: shirt 0, trousers 1, skin 2, hair 3; sometimes a skirt or something carried (4)."""
    period, stride = rng.uniform(0.6, 2.0), rng.uniform(0.1, 0.7)
    wide = rng.uniform(0.14, 0.26)
    torso = "trapezoid" if rng.random() < 0.2 else str(rng.choice(("super", "box", "super")))
    parts = [PartPlan(torso, (wide, 0.32), (0, -0.3), swing=Wave.random(rng, 0.2, (1, 6)))]
    parts.append(PartPlan("ellipse", (0.11, 0.15), (0, -0.3), (0, 0.9), 0, Wave.random(rng, 0.3), 2, 1))
    parts.append(PartPlan("blob", (0.13, 0.1), (0, -0.24), (0, 0.3), 1, Wave(), 3, 2))
    for side, phase in ((-1, 0.0), (1, math.pi)):
        depth = side
        leg = len(parts)
        hip = (side * wide * 0.5, 0.28)
        parts.append(PartPlan("taper", (0.11, 0.24), hip, (0, -0.9), 0, _gait(rng, stride, phase, period), 1, depth))
        knee = _gait(rng, stride * 0.7, phase + 1.0, period, rng.uniform(-0.4, 0.1))
        parts.append(PartPlan("taper", (0.08, 0.24), (0, 0.44), (0, -0.9), leg, knee, 1, depth))
        foot = PartPlan("super", (0.11, 0.05), (0.03, 0.42), (-0.3, 0), leg + 1, Wave(), 3, depth)
        parts.append(foot)
        arm = len(parts)
        shoulder = (side * wide * 0.9, -0.26)
        rest = rng.uniform(-1.2, 0.3) * side
        swing = _gait(rng, stride, phase + math.pi, period, rest)
        parts.append(PartPlan("taper", (0.07, 0.19), shoulder, (0, -0.9), 0, swing, 0, 3 * side))
        elbow = _gait(rng, stride * 0.5, phase, period, rng.uniform(-1.0, 0.2))
        bare = 2 if rng.random() < 0.6 else 0
        parts.append(PartPlan("taper", (0.05, 0.19), (0, 0.34), (0, -0.9), arm, elbow, bare, 3 * side))
    if rng.random() < 0.3:
        parts.append(PartPlan("trapezoid", (0.3, 0.28), (0, 0.22), (0, -0.8), 0, Wave.random(rng, 0.2), 1, 2))
    if rng.random() < 0.4:
        shape = str(rng.choice(("super", "taper", "ring", "polygon", "blob")))
        half = (rng.uniform(0.05, 0.25), rng.uniform(0.1, 0.3))
        place = (rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.3))
        parts.append(PartPlan(shape, half, place, (0, -0.5), 0, Wave.random(rng, 0.5), 4, 4))
    return parts


def quadruped(rng: np.random.Generator) -> list[PartPlan]:
    """A four-legged animal: coat 0, head and legs of the same or another material, tail."""
    period, stride = rng.uniform(0.4, 2.0), rng.uniform(0.1, 0.8)
    long, tall = rng.uniform(0.45, 0.65), rng.uniform(0.2, 0.36)
    thick = rng.uniform(0.05, 0.14)
    leg_length = rng.uniform(0.12, 0.26)
    other = 1 if rng.random() < 0.3 else 0
    parts = [PartPlan(str(rng.choice(("super", "blob", "ellipse"))), (long, tall), (0, -0.1))]
    neck = Wave.random(rng, 0.35, offset=rng.uniform(-0.6, 0.4))
    parts.append(PartPlan("taper", (tall * 0.6, 0.22), (long * 0.8, -tall * 0.5), (0, 0.7), 0, neck, 0, 1))
    parts.append(PartPlan("blob", (0.24, 0.17), (0.05, -0.25), (-0.4, 0.1), 1, Wave.random(rng, 0.3), other, 2))
    for x, depth, phase in ((-0.75, -1, 0.0), (-0.65, 1, 3.0), (0.7, -1, 3.6), (0.6, 1, 0.5)):
        upper = len(parts)
        hip = (x * long, tall * 0.6)
        swing = _gait(rng, stride, phase, period)
        parts.append(PartPlan("taper", (thick * 1.3, leg_length), hip, (0, -0.8), 0, swing, other, depth))
        knee = _gait(rng, stride * 0.7, phase + 1.2, period)
        below = (0, leg_length * 1.6)
        parts.append(PartPlan("taper", (thick, leg_length), below, (0, -0.85), upper, knee, other, depth))
    if rng.random() < 0.7:
        tail = Wave.random(rng, 0.6, (0.5, 3), rng.uniform(0.3, 1.6))
        root = (-long * 0.9, -tall * 0.4)
        parts.append(PartPlan("taper", (0.05, rng.uniform(0.15, 0.35)), root, (0, -0.95), 0, tail, 0, -1))
    return parts


def vehicle(rng: np.random.Generator) -> list[PartPlan]:
    """A hull, a cabin with windows (2) and wheels (3) that turn."""
    long, tall = rng.uniform(0.6, 0.9), rng.uniform(0.15, 0.4)
    hull = str(rng.choice(("super", "box", "trapezoid")))
    parts = [PartPlan(hull, (long, tall), (0, 0.1))]
    where = (rng.uniform(-0.3, 0.3), -tall * 0.8)
    parts.append(PartPlan("trapezoid", (long * rng.uniform(0.3, 0.7), tall), where, (0, 0.7), 0, Wave(), 1, -1))
    for x in np.linspace(-0.5, 0.5, int(rng.integers(1, 4))):
        parts.append(PartPlan("super", (0.1, tall * 0.45), (x * long * 0.6, -0.2), (0, 0.3), 1, Wave(), 2, 1))
    size = rng.uniform(0.12, 0.3)
    for x in np.linspace(-0.7, 0.7, int(rng.integers(2, 4))):
        shape = "ring" if rng.random() < 0.5 else "ellipse"
        turn = Wave(0.0, ((6.0, rng.uniform(4, 12), 0.0),))
        parts.append(PartPlan(shape, (size, size), (x * long, tall), (0, 0), 0, turn, 3, 2))
    return parts


def cycle(rng: np.random.Generator) -> list[PartPlan]:
    """Two spoked wheels, thin bars and a bent rider: thin parts and holes."""
    turn = Wave(0.0, ((8.0, rng.uniform(4, 12), 0.0),))
    wheel = rng.uniform(0.22, 0.3)
    parts = [PartPlan("taper", (0.025, 0.4), (0, 0.45), (0, 0), swing=Wave(1.4), material=3)]
    parts.append(PartPlan("ring", (wheel, wheel), (0, 0.45), (0, 0), 0, turn, 4, -1))
    parts.append(PartPlan("ring", (wheel, wheel), (0, -0.45), (0, 0), 0, turn, 4, -1))
    parts.append(PartPlan("taper", (0.025, 0.3), (0.05, 0.2), (0, 0.9), 0, Wave(-1.0), 3, 0))
    lean = Wave.random(rng, 0.3, offset=rng.uniform(-1.2, -0.4))
    parts.append(PartPlan("super", (0.16, 0.3), (0.3, 0.0), (0, 0.9), 0, lean, 0, 2))
    parts.append(PartPlan("ellipse", (0.13, 0.15), (0, -0.6), (0, 0.8), 4, Wave.random(rng, 0.3), 2, 3))
    legs = _gait(rng, 0.5, 0.0, 1.0, rng.uniform(1.6, 2.4))
    parts.append(PartPlan("taper", (0.09, 0.22), (0, -0.05), (0, -0.9), 4, legs, 1, 3))
    parts.append(PartPlan("taper", (0.07, 0.22), (0, 0.4), (0, -0.9), 6, _gait(rng, 0.4, 1.0, 1.0, -1.0), 1, 3))
    arms = Wave.random(rng, 0.2, offset=rng.uniform(0.8, 1.6))
    parts.append(PartPlan("taper", (0.05, 0.26), (0.05, -0.45), (0, -0.9), 4, arms, 0, 4))
    return parts


def chain(rng: np.random.Generator) -> list[PartPlan]:
    """Wagons, each hinged to the one before it; materials alternate."""
    count = int(rng.integers(2, 6))
    half = (0.9 / count, rng.uniform(0.12, 0.3))
    shape = str(rng.choice(("box", "super", "ellipse")))
    parts = [PartPlan(shape, half, (-0.9 + half[0], 0), (-1, 0), swing=Wave.random(rng, 0.4))]
    for i in range(1, count):
        bend = Wave.random(rng, 0.35)
        parts.append(PartPlan(shape, half, (half[0] * 2.05, 0), (-1, 0), i - 1, bend, i % 3, i))
    return parts


def sail(rng: np.random.Generator) -> list[PartPlan]:
    """A large plain or striped sheet, a small hanging body, thin lines between them."""
    shape = str(rng.choice(("triangle", "crescent", "trapezoid", "polygon")))
    drop = rng.uniform(0.5, 0.8)
    parts = [PartPlan(shape, (rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.7)), (0, -0.4), (0, 0.4))]
    swing = Wave.random(rng, 0.3)
    lean = Wave(rng.uniform(-0.3, 0.3))
    parts.append(PartPlan("taper", (0.03, drop / 2), (0, -0.1), (0, -1), 0, swing, 3, -1))
    parts.append(PartPlan("taper", (0.08, 0.2), (0, drop * 0.9), (0, -0.5), 1, lean, 1, 1))
    parts.append(PartPlan("ellipse", (0.07, 0.08), (0, -0.12), (0, 0.8), 2, Wave(), 2, 1))
    return parts


def blobs(rng: np.random.Generator) -> list[PartPlan]:
    """One to three deforming bodies of different materials."""
    size = rng.uniform(0.5, 0.9)
    kinds = ("blob", "blob", "lumps", "super", "ellipse", "polygon")
    parts = [PartPlan(str(rng.choice(kinds)), (size, size * rng.uniform(0.35, 1.0)))]
    for i in range(int(rng.integers(0, 3))):
        half = tuple(rng.uniform(0.15, 0.5, 2).tolist())
        angle = rng.uniform(0, 2 * math.pi)
        joint = (size * 0.7 * math.cos(angle), size * 0.5 * math.sin(angle))
        pivot = (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5))
        swing = Wave.random(rng, 0.5, (1, 8))
        parts.append(PartPlan(str(rng.choice(kinds)), half, joint, pivot, 0, swing, i + 1, i - 1))
    return parts


def assembly(rng: np.random.Generator) -> list[PartPlan]:
    """Three to six arbitrary parts joined into a tree: chairs, tools, cranes, plants."""
    kinds = ("taper", "box", "super", "ring", "polygon", "triangle", "blob", "tuft", "crescent", "taper")
    parts: list[PartPlan] = []
    for i in range(int(rng.integers(3, 7))):
        shape = str(rng.choice(kinds))
        half = (rng.uniform(0.1, 0.5), rng.uniform(0.15, 0.55))
        half = (rng.uniform(0.03, 0.12), half[1]) if shape == "taper" else half
        parent = -1 if i == 0 else int(rng.integers(0, i))
        base = (0.4, 0.4) if parent < 0 else parts[parent].half
        joint = (base[0] * rng.uniform(-0.9, 0.9), base[1] * rng.uniform(-0.9, 0.9))
        swing = Wave.random(rng, 0.4 * rng.random(), (1, 8), rng.uniform(-math.pi, math.pi) if i else 0.0)
        parts.append(PartPlan(shape, half, joint, (0, -0.8 if i else 0), parent, swing, i % 4, i))
    return parts


BODY_PLANS: dict[str, Callable[[np.random.Generator], list[PartPlan]]] = {
    "biped": biped,
    "quadruped": quadruped,
    "vehicle": vehicle,
    "cycle": cycle,
    "chain": chain,
    "sail": sail,
    "blobs": blobs,
    "assembly": assembly,
}
WEIGHTS = {
    "biped": 0.26,
    "quadruped": 0.16,
    "vehicle": 0.08,
    "cycle": 0.06,
    "chain": 0.06,
    "sail": 0.06,
    "blobs": 0.18,
    "assembly": 0.14,
}
