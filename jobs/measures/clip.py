"""The video that is measured on: rendered, or given. Its objects' masks and its prompts."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rlemasklib import RLEMask

from cluster.frames.decoder import Decoder
from cluster.frames.video import working_size
from jobs.views.video_file import VideoFile
from schemas.prompt import Prompt
from stcn_core.training.renderer import render_clip

FPS = 25.0
SEED = 2  # of the rendered scene: its object covers about 5 % of the picture
DRIFT = 2  # pixels that the rendered pictures move each time they are shown again


@dataclass(frozen=True)
class Clip:
    """A video file with its first pictures uint8 [n, h, w, 3] at the working size and one object's mask uint8
    [n, h, w] on each. frames: how many the file has; source is the file's own (H, W)."""

    path: Path
    resolution: int
    frames: int
    source: tuple[int, int]
    pictures: np.ndarray
    shape: np.ndarray
    rendered: bool

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the pictures."""
        return self.pictures.shape[1:3]

    def picture(self, number: int) -> np.ndarray:
        """One of the pictures; they come again after the last."""
        return self.pictures[number % len(self.pictures)]

    def labels(self, number: int, objects: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """Label map uint8 [h, w]: the object's mask, moved to the right for each further object, which lies in
        front."""
        mask = self.shape[number % len(self.shape)]
        if size is not None and size != mask.shape:
            rows, columns = (np.arange(new) * old // new for new, old in zip(size, mask.shape, strict=True))
            mask = mask[rows][:, columns]
        labels = np.zeros(mask.shape, np.uint8)
        for k in range(objects):
            labels[np.roll(mask, k * mask.shape[1] // objects, 1) != 0] = k + 1
        return labels

    def masks(self, number: int, objects: int) -> torch.Tensor:
        """Float [objects, h, w] of 0 and 1."""
        labels = self.labels(number, objects)
        return torch.stack([torch.from_numpy(labels == k + 1) for k in range(objects)]).float()

    def prompts(self, objects: int) -> tuple[Prompt, ...]:
        """A given mask per object on frame 0, at the source's size."""
        labels = self.labels(0, objects, self.source)
        prompts = []
        for k in range(objects):
            counts = RLEMask.from_array((labels == k + 1).astype(np.uint8)).to_dict()["counts"]
            prompts.append(Prompt(frame=0, object_id=k + 1, rle=(*self.source, counts)))
        return tuple(prompts)

    @property
    def covered(self) -> float:
        """Share of the picture that the object covers."""
        return float((self.shape != 0).mean())


def rendered_clip(path: Path, resolution: int, pictures: int, frames: int) -> Clip:
    """Renders `pictures` of a 16:9 scene with one object, at half the size, and writes a video of `frames`, in which
    they come again and again, a little further to the right each time."""
    size = (resolution, 2 * round(resolution * 8 / 9))
    drawn = list(render_clip(SEED, pictures, (-(-resolution // 2), size[1] // 2), 1, fps=15))

    def full(small: np.ndarray) -> np.ndarray:
        return small.repeat(2, 0).repeat(2, 1)[:resolution]

    clip = Clip(
        path,
        resolution,
        frames,
        size,
        np.stack([full(picture) for picture, _ in drawn]),
        np.stack([full((labels == 1).astype(np.uint8)) for _, labels in drawn]),
        True,
    )
    if not clip.shape[0].any():
        raise RuntimeError(f"the rendered scene of seed {SEED} does not show its object on frame 0")
    with VideoFile(path, size, FPS) as video:
        for number in range(frames):
            shift = number // pictures * DRIFT
            video.add(np.roll(clip.picture(number), shift, 1), number / FPS)
    return clip


def given_clip(path: Path, resolution: int, pictures: int, decoder: Decoder) -> Clip:
    """The video at `path` as it is; its object is an ellipse in the middle. Raises VideoError, ValueError."""
    info = decoder.probe(path)
    size = working_size(info.height, info.width, resolution)
    first = [frame for _, frame in islice(iter(decoder.frames(path, info, size)), pictures)]
    if not first:
        raise ValueError(f"{path}: no frame decodes")
    rows, columns = (np.linspace(-1, 1, side) for side in size)
    ellipse = ((rows[:, None] / 0.5) ** 2 + (columns[None] / 0.25) ** 2 < 1).astype(np.uint8)
    shape = np.repeat(ellipse[None], len(first), 0)
    frames = info.frames_declared or len(first)
    return Clip(path, resolution, frames, (info.height, info.width), np.stack(first), shape, False)


def long_video(path: Path, frames: int, size: tuple[int, int] = (96, 128)) -> Path:
    """A genuine file of that many frames, each one another picture: a texture that moves by, and the frame's number as
    a row of dots."""
    with VideoFile(path, size, FPS) as video:
        for number, picture in enumerate(_moving(frames, size)):
            video.add(picture, number / FPS)
    return path


def _moving(frames: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    texture = np.random.default_rng(SEED).integers(60, 200, (size[0] // 8, size[1] // 8, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    for number in range(frames):
        picture = np.roll(texture, (number % size[0], number // size[0]), (0, 1))
        for bit in range(20):
            picture[:4, 4 * bit : 4 * bit + 4] = 255 if number >> bit & 1 else 0
        yield picture
