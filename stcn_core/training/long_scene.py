"""Scenes for videos of minutes: light, colours and sizes drift away from what the first frame shows.

Built on `random_scene`, with what is slow added; made for measuring memories, not for training. Kinds:

    drift        the light, the objects' colours and their sizes drift
    look-alikes  the same, and two figures cut from the first object's pixels go their own ways, unprompted
    returns      the same, and the objects leave the picture several times and come back
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from stcn_core.training.figure import Figure, Part
from stcn_core.training.motion import Absence, Wave
from stcn_core.training.renderer import render_instant
from stcn_core.training.scene import Optics, Scene, SceneOptions, random_scene

KINDS = ("drift", "look-alikes", "returns")
LONG = 3  # first number of a scene's seed; training's and validation's are others
FPS = 15.0
LEAST_AREA = 0.01  # of the first frame, of each object
OBJECTS = 2
COPIES = 2
LIGHT, TINT, SIZE = 0.5, 0.12, 0.3  # amplitudes, as logarithms
AWAY = (0.06, 0.1)  # an absence's length, as a share of the video's
TRIES = 50


@dataclass(frozen=True)
class Absences:
    """Several of them, one after the other."""

    members: tuple[Absence, ...]

    def at(self, t: float) -> float:
        return sum(member.at(t) for member in self.members)


def long_scene(seed: int, kind: str, frames: int, size: tuple[int, int]) -> Scene:
    """The scene of a seed; frame i is the instant i / FPS. size is (height, width). Its first frame shows every object.

    Raises ValueError where the kind is not known.
    """
    if kind not in KINDS:
        raise ValueError(f"a long scene is one of {', '.join(KINDS)}, not {kind}")
    for attempt in range(TRIES):
        numbers = (LONG, KINDS.index(kind), seed, attempt)
        options = SceneOptions(objects=OBJECTS, size=size, smallest=0.25, largest=0.6, calm=True)
        scene = _drifting(random_scene(numbers, options), np.random.default_rng(numbers), kind, frames / FPS)
        _, labels = render_instant(scene, 0.0)
        if all((labels == label).mean() >= LEAST_AREA for label in range(1, OBJECTS + 1)):
            return scene
    raise ValueError(f"no scene of {TRIES} tries shows {OBJECTS} objects on its first frame: try another seed")


def _drifting(scene: Scene, rng: np.random.Generator, kind: str, seconds: float) -> Scene:
    figures = [_changing(figure, rng, seconds) if figure.label else figure for figure in scene.figures]
    if kind == "look-alikes":
        figures = [*_copies(figures, rng, scene.width / scene.height), *figures]
    if kind == "returns":
        figures = [_leaving(figure, rng, scene, seconds) if figure.label else figure for figure in figures]
    optics = replace(
        scene.optics,
        gain=_plus(scene.optics.gain, LIGHT, rng, seconds),
        tint=tuple(_plus(wave, TINT, rng, seconds) for wave in scene.optics.tint),
        quality=None,  # the file that the frames go into has its own
    )
    return replace(scene, figures=tuple(figures), optics=_cheap(optics))


def _cheap(optics: Optics) -> Optics:
    """Without what costs the most to draw."""
    return replace(optics, shutter=0.0, blur=Wave(-1.0))


def _plus(wave: Wave, amplitude: float, rng: np.random.Generator, seconds: float) -> Wave:
    """The wave and a drift that begins at its own value and takes the whole video to swing out and (partly) back."""
    period = seconds * rng.uniform(1.2, 2.5)
    slow = (amplitude * rng.uniform(0.7, 1.3), period, float(rng.choice((0.0, math.pi))))
    return Wave(wave.offset, (*wave.terms, slow))


def _changing(figure: Figure, rng: np.random.Generator, seconds: float) -> Figure:
    """Towards other colours by the video's end, and growing or shrinking."""
    gain = torch.from_numpy(np.exp(rng.normal(0, 0.35, 3)).astype(np.float32))[:, None, None]
    lift = torch.from_numpy(rng.normal(0, 0.1, 3).astype(np.float32))[:, None, None]
    parts = tuple(
        Part(part.plan, part.rgba, ((part.rgba[:3] if part.other is None else part.other) * gain + lift).clamp(0, 1))
        for part in figure.parts
    )
    towards = Wave(0.0, ((1.2, seconds * 4, 0.0),))  # a quarter of its period: from 0 to more than 1
    return replace(figure, parts=parts, view=towards, log_scale=_plus(figure.log_scale, SIZE, rng, seconds))


def _copies(figures: list[Figure], rng: np.random.Generator, aspect: float) -> list[Figure]:
    """Figures with the first object's pixels, behind all others."""
    first = next(figure for figure in figures if figure.label == 1)
    return [
        replace(
            first,
            label=0,
            x=Wave.random(rng, 0.4 * aspect, offset=rng.uniform(-0.7, 0.7) * aspect),
            y=Wave.random(rng, 0.2, offset=rng.uniform(-0.5, 0.5)),
            log_scale=Wave(first.log_scale.offset + rng.normal(0, 0.15), first.log_scale.terms),
        )
        for _ in range(COPIES)
    ]


def _leaving(figure: Figure, rng: np.random.Generator, scene: Scene, seconds: float) -> Figure:
    """Three times, each in its own stretch of the video after the first tenth."""
    distance = math.copysign(scene.width / scene.height * 2.5 + 1, rng.normal())
    stretch = 0.9 * seconds / 3
    members = []
    for number in range(3):
        length = rng.uniform(*AWAY) * seconds
        start = 0.1 * seconds + number * stretch + rng.uniform(0, stretch - length)
        members.append(Absence(start, start + length, distance))
    return replace(figure, absence=Absences(tuple(members)))
