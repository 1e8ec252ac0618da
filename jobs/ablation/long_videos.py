"""The rendered long videos, drawn once into a cache: CACHE/NAME/frames/*.jpg and masks/*.png."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.ablation.clips import LONG, ClipSpec
from stcn_core.training.long_scene import FPS, KINDS, long_scene
from stcn_core.training.renderer import render_instant

EVERY = 10  # truth is compared on every tenth frame
QUALITY = 92
ASPECT = 4 / 3


def long_specs(cache: Path, count: int, frames: int, resolution: int) -> list[ClipSpec]:
    """count videos, the kinds in turn."""
    found = []
    for number in range(count):
        name = f"{KINDS[number % len(KINDS)]}_{number // len(KINDS)}_{frames}_{resolution}"
        found.append(ClipSpec(f"{name}.{LONG}", LONG, (str(cache / name),), EVERY))
    return found


def render_missing(spec: ClipSpec, out_of_time: Callable[[], bool]) -> Iterator[int]:
    """Draws the frames that are not there yet; yields how many are done. Stops where time is up: a later call goes on.

    The video is whole when its last frame is there. Raises OSError.
    """
    folder = Path(spec.folders[0])
    kind, seed, frames, resolution = folder.name.split("_")
    frames = int(frames)
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(frames) if not _picture(folder, i).exists()]
    if not missing:
        return
    scene = long_scene(int(seed), kind, frames, (int(resolution), round(int(resolution) * ASPECT)))
    for number in missing:
        if out_of_time():
            return
        picture, labels = render_instant(scene, number / FPS)
        _save(labels, folder / "masks" / f"{number:05d}.png")
        _save(picture, _picture(folder, number), quality=QUALITY, subsampling=0)
        yield number + 1


def is_whole(spec: ClipSpec) -> bool:
    """Whether all frames are there."""
    folder = Path(spec.folders[0])
    frames = int(folder.name.split("_")[2])
    return all(_picture(folder, number).exists() for number in range(frames))


def _picture(folder: Path, number: int) -> Path:
    return folder / "frames" / f"{number:05d}.jpg"


def _save(pixels: np.ndarray, path: Path, **options: int) -> None:
    """In one step, so that a kill leaves no half picture."""
    temporary = path.with_name(f".{os.getpid()}{path.suffix}")
    Image.fromarray(pixels).save(temporary, **options)
    os.replace(temporary, path)
