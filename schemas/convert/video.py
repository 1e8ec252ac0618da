"""What the formats ask of a video: its frames, its objects, its masks. Out of an output, or into one."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.reader import MaskRow

# What a format loses that keeps frames by their images' names alone, where these are not named after the index.
POSITIONS = "positions of frames (--videos gives them to the import)"
LARGEST_ID = (1 << 31) - 1  # object ids and frame indices are int32


class ConvertError(ValueError):
    """What cannot be written in a format, or read from a file. The message names it and the remedy."""


@dataclass(frozen=True)
class Track:
    """One object of a video. n_visible, first_frame, area_mean, score_mean: as in `tracks`."""

    object_id: int
    label: str | None = None
    prompt_frames: tuple[int, ...] = ()
    n_visible: int = 0
    first_frame: int | None = None
    area_mean: float | None = None
    score_mean: float | None = None


@dataclass(frozen=True)
class OutVideo:
    """A finished video of an output, on its way into a format.

    frames: indices of the annotated frames in the source; names: file names of their images, None where the source is
    no image folder (or not to be had). unlisted: why the names of an image folder are not to be had, None where they
    are known or there are none. source_frames: frames of the source, None: not known. Each call of `rows` and `track`
    reads the masks anew: rows yields (frame, rows in order of object ids) of frames with a mask, in order.
    """

    video_id: str
    height: int
    width: int
    frames: range
    names: Sequence[str] | None
    source_names: Sequence[str] | None
    source_frames: int | None
    fps: float | None
    duration_s: float | None
    tracks: tuple[Track, ...]
    rows: Callable[[], Iterator[tuple[int, list[MaskRow]]]] = field(repr=False)
    track: Callable[[int], Iterator[MaskRow]] = field(repr=False)
    unlisted: str | None = None

    def image_name(self, position: int) -> str:
        """File name of the image of the position-th annotated frame; after its index where there is no image."""
        return self.names[position] if self.names is not None else default_name(self.frames[position])

    def image_names(self) -> Iterator[str]:
        """Of all annotated frames."""
        return (self.image_name(position) for position in range(len(self.frames)))

    def every_frame(self) -> Iterator[tuple[int, list[MaskRow]]]:
        """(position, rows) of every annotated frame, also those on which nothing is visible."""
        rows = self.rows()
        frame, found = next(rows, (None, []))
        for position, index in enumerate(self.frames):
            if frame == index:
                yield position, found
                frame, found = next(rows, (None, []))
            else:
                yield position, []
        if frame is not None:
            raise ConvertError(f"{self.video_id} has a mask of frame {frame}, which was not annotated: see jobs.verify")


class FoundMask(NamedTuple):
    """A mask that was read from a file. frame is an index in the source; score None: the format has none."""

    frame: int
    object_id: int
    height: int
    width: int
    counts: bytes
    score: float | None = None
    is_prompt: bool = False


@dataclass(frozen=True)
class FoundVideo:
    """A video in a file of some format, on its way into an output.

    frames: indices of the frames that the file has masks for (or says to be without), in order. image_names: their
    image files where these are not named after the index; source_names: those of all the source's frames. masks: reads
    the file, each object's in order of frames. assumed_stride: that of `frames` where the file does not say it.
    """

    video_id: str
    height: int
    width: int
    frames: Sequence[int]
    image_names: Sequence[str] | None
    labels: dict[int, str | None]
    source: str
    masks: Callable[[], Iterator[FoundMask]] = field(repr=False)
    source_frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    source_names: Sequence[str] | None = None
    assumed_stride: int | None = None


def default_name(frame: int) -> str:
    """Name of a frame's image where it has none of its own, as DAVIS and YouTube-VOS name theirs."""
    return f"{frame:05d}.jpg"


def stem_of(name: str) -> str:
    """`00012` for `00012.jpg`."""
    head, dot, _ = name.rpartition(".")
    return head if dot and head else name


def numbered(names: Sequence[str]) -> list[int] | None:
    """The frame indices in the names of images; None unless each holds exactly one number, and no two the same."""
    found = [re.findall(r"[0-9]+", stem_of(name)) for name in names]
    if any(len(numbers) != 1 or len(numbers[0]) > 9 for numbers in found):
        return None
    indices = [int(numbers[0]) for numbers in found]
    return indices if len(set(indices)) == len(indices) else None


def placed(
    names: Sequence[str], by: str | None, images: Sequence[str] | None, where: str
) -> tuple[list[int], list[str] | None, list[int]]:
    """Which frames images are: (rising frame indices, names to remember or None, places in `names`).

    by: number (the number in the name), order (of the numbers, or of names without), None: number where each name has
    one. images: the source's files in order; where they are known, a name's index is its place among them. names to
    remember are those that do not follow from the index. Raises ConvertError; where: for messages.
    """
    numbers = numbered(names)
    if images is not None:
        place_of = {stem_of(image): index for index, image in enumerate(images)}
        unknown = next((name for name in names if stem_of(name) not in place_of), None)
        if unknown is not None:
            raise ConvertError(f"{where}: the source has no image {stem_of(unknown)}: check --videos")
        indices = [place_of[stem_of(name)] for name in names]
    elif numbers is not None and by != "order":
        indices = numbers
    elif by == "number":
        raise ConvertError(f"{where}: the names of its images do not hold one number each: use --frames order")
    else:
        ranks = sorted(range(len(names)), key=lambda place: (numbers[place] if numbers else 0, names[place]))
        indices = [0] * len(names)
        for rank, place in enumerate(ranks):
            indices[place] = rank
    if len(set(indices)) < len(indices):
        raise ConvertError(f"{where} has two masks of one frame: their names differ in the suffix alone; remove one")
    order = sorted(range(len(names)), key=indices.__getitem__)
    usual = all(default_name(indices[place]) == names[place] for place in order)
    return [indices[place] for place in order], None if usual else [names[place] for place in order], order


def positions_lost(names: Sequence[str], frames: Sequence[int]) -> int:
    """How many frames' indices an import cannot have back from the names of their images alone: all of them, or none.

    names: those of `frames`, in order.
    """
    try:
        found, _, order = placed(names, None, None, "")
    except ConvertError:
        return len(names)  # two that differ in the suffix alone
    return 0 if found == list(frames) and order == list(range(len(names))) else len(names)


def grid_of(frames: Sequence[int]) -> tuple[int, int, int]:
    """(first, stride, count) of the smallest even grid that holds all frames."""
    if not frames:
        return 0, 1, 0
    stride = math.gcd(*(two - one for one, two in zip(frames, frames[1:], strict=False))) or 1
    return frames[0], stride, (frames[-1] - frames[0]) // stride + 1
