"""The clips of the ablation, each made from folders of frames and true masks, the same every time.

A folder is NAME/frames/*.jpg with NAME/masks/*.png, or DAVIS: JPEGImages[/480p]/NAME with Annotations[/480p]/NAME.
Pictures and true masks are shrunk to the working size, where masks are compared too.

    real        the folder as it is
    spliced     the folder and another one after it: the objects are gone from there on
    occluded    a textured bar, drawn here, crosses the picture; what it covers is not visible
    to-and-fro  the folder to and fro, 3 and 10 times as long: holds every frame several times
    long        a rendered video of minutes (stcn_core/training/long_scene.py)
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from cluster.frames.video import working_size
from stcn_core.prompts import fit_labels, read_label_png, shrink_mask

REAL, SPLICED, OCCLUDED, LONG = "real", "spliced", "occluded", "long"
TO_AND_FRO = {"to-and-fro-3": 3, "to-and-fro-10": 10}
KINDS = (REAL, OCCLUDED, SPLICED, LONG, *TO_AND_FRO)
BAR_SHARE = 0.3  # of the picture's width
CROSSINGS = 2


class ClipError(ValueError):
    """A folder that cannot be measured on. The message says why."""


@dataclass(frozen=True)
class ClipSpec:
    """How a clip is made, small enough to be sent to a worker. folders: the first gives the objects and the clip's
    base; every: truth is compared on every n-th frame."""

    name: str
    kind: str
    folders: tuple[str, ...]
    every: int = 1

    @property
    def base(self) -> str:
        """Clips of one base show the same objects."""
        return Path(self.folders[0]).name


class Folder:
    """Frames and true masks of one folder at the working size, read when asked for; short ones are kept."""

    def __init__(self, path: Path, resolution: int, keep: int = 400) -> None:
        """keep: a folder of at most so many frames stays in memory. Raises ClipError."""
        self.pictures, self.masks = _files(path)
        first = self._open(0)
        self.source = (first.height, first.width)
        self.size = working_size(*self.source, resolution)
        self._kept: dict[int, np.ndarray] | None = {} if len(self.pictures) <= keep else None

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, number: int) -> np.ndarray:
        """uint8 RGB [h, w, 3]."""
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        image = self._open(number).convert("RGB")
        if image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], Image.Resampling.BOX)
        pixels = np.asarray(image)
        if self._kept is not None:
            self._kept[number] = pixels
        return pixels

    def labels(self, number: int) -> np.ndarray:
        """uint8 [h, w]: the objects that the first frame shows. Raises ClipError."""
        labels = self._labels(number)
        labels[~np.isin(labels, self.objects)] = 0
        return labels

    @cached_property
    def objects(self) -> tuple[int, ...]:
        """The ids on the first frame."""
        found = tuple(int(i) for i in np.unique(self._labels(0)) if i)
        if not found:
            raise ClipError(f"{self.masks[0]} shows no object, and the first mask is the prompt")
        return found

    def _labels(self, number: int) -> np.ndarray:
        path = self.masks[number]
        try:
            labels = fit_labels(read_label_png(path.read_bytes(), str(path)), self.source, str(path))
        except ValueError as error:
            raise ClipError(str(error)) from error
        small = np.zeros(self.size, np.uint8)
        for object_id in np.unique(labels[labels > 0]):
            small[shrink_mask((labels == object_id).astype(np.uint8), self.size) > 0] = object_id
        return small

    def _open(self, number: int) -> Image.Image:
        return Image.open(io.BytesIO(self.pictures[number].read_bytes()))


@dataclass(frozen=True)
class Clip:
    """frames: how many; picture(i) uint8 RGB [h, w, 3] and labels(i) uint8 [h, w] of the working size, labels of
    `objects` only. Frame 0 is the prompt."""

    spec: ClipSpec
    frames: int
    size: tuple[int, int]
    objects: tuple[int, ...]
    picture: Callable[[int], np.ndarray]
    labels: Callable[[int], np.ndarray]


def open_clip(spec: ClipSpec, resolution: int) -> Clip:
    """Raises ClipError, OSError."""
    folder = Folder(Path(spec.folders[0]), resolution)
    picture, labels, frames = folder.picture, folder.labels, len(folder)
    if spec.kind in TO_AND_FRO:
        frames = to_and_fro_frames(len(folder), TO_AND_FRO[spec.kind])

        def picture(number: int) -> np.ndarray:
            return folder.picture(to_and_fro(number, len(folder)))

        def labels(number: int) -> np.ndarray:
            return folder.labels(to_and_fro(number, len(folder)))

    elif spec.kind == SPLICED:
        second = Folder(Path(spec.folders[1]), resolution)
        frames += len(second)

        def picture(number: int) -> np.ndarray:
            if number < len(folder):
                return folder.picture(number)
            image = Image.fromarray(second.picture(number - len(folder)))
            return np.asarray(image.resize(folder.size[::-1], Image.Resampling.BILINEAR))

        def labels(number: int) -> np.ndarray:
            return folder.labels(number) if number < len(folder) else np.zeros(folder.size, np.uint8)

    elif spec.kind == OCCLUDED:
        bar = texture(*folder.size, seed=sum(spec.base.encode()))

        def picture(number: int) -> np.ndarray:
            left, right = bar_at(number, len(folder), folder.size[1])
            pixels = folder.picture(number).copy()
            pixels[:, left:right] = bar[:, : right - left]
            return pixels

        def labels(number: int) -> np.ndarray:
            left, right = bar_at(number, len(folder), folder.size[1])
            found = folder.labels(number)
            found[:, left:right] = 0
            return found

    return Clip(spec, frames, folder.size, folder.objects, picture, labels)


def to_and_fro(number: int, count: int) -> int:
    """Which of `count` frames is shown: 0 1 2 1 0 1 2 ... (the turning frames once each)."""
    place = number % max(1, 2 * (count - 1))
    return min(place, 2 * (count - 1) - place)


def to_and_fro_frames(count: int, times: int) -> int:
    """So many frames that the clip is shown `times` times, forwards or backwards."""
    return times * (count - 1) + 1


def bar_at(number: int, count: int, width: int) -> tuple[int, int]:
    """Columns [left, right) that the bar covers: it is outside at first, and crosses CROSSINGS times."""
    long = round(BAR_SHARE * width)
    there = (number / max(1, count - 1) * CROSSINGS) % 1.0
    left = round(there * (width + long)) - long
    return max(0, left), max(0, min(width, left + long))


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Coloured noise of several scales, uint8 [height, width, 3]."""
    draw = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for cell, strength in ((48, 70.0), (16, 45.0), (5, 30.0)):
        coarse = torch.randn(1, 3, height // cell + 2, width // cell + 2, generator=draw)
        total += strength * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return (total[0] + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()


def list_clips(folder: Path, kinds: Sequence[str]) -> tuple[list[ClipSpec], list[str]]:
    """All clips of these kinds (`long` is not among them) from the folders in `folder`, and what was left out."""
    names, left_out = [], []
    for path in _clip_folders(folder):
        try:
            Folder(path, 16).objects  # noqa: B018
            names.append(path)
        except (ClipError, OSError) as error:
            left_out.append(f"{path.name}: {error}")
    if not names:
        raise ClipError(f"{folder} has no folder with frames and a mask for each of them")
    found = []
    for kind in kinds:
        for number, path in enumerate(names):
            after = (str(names[(number + 1) % len(names)]),) if kind == SPLICED else ()
            every = {"to-and-fro-10": 5, "to-and-fro-3": 2}.get(kind, 1)
            found.append(ClipSpec(f"{path.name}.{kind}", kind, (str(path), *after), every))
    return found, left_out


def _clip_folders(folder: Path) -> list[Path]:
    davis = next((p for p in (folder / "JPEGImages" / "480p", folder / "JPEGImages") if p.is_dir()), None)
    places = davis.iterdir() if davis else (p for p in folder.iterdir() if (p / "frames").is_dir())
    return sorted(path for path in places if path.is_dir())


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    if (path / "frames").is_dir():
        pictures, masks = path / "frames", path / "masks"
    else:
        parts = path.parts
        where = len(parts) - 1 - parts[::-1].index("JPEGImages")
        pictures, masks = path, Path(*parts[:where], "Annotations", *parts[where + 1 :])
    frames = sorted(p for p in pictures.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    truth = sorted(masks.glob("*.png"))
    if [p.stem for p in frames] != [p.stem for p in truth]:
        raise ClipError(f"{len(frames)} frames and {len(truth)} masks: every frame needs a mask of the same name")
    if len(frames) < 3:
        raise ClipError(f"{len(frames)} frames are too few")
    return frames, truth
