"""What every format takes and gives: its settings, and the files that it makes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

import numpy as np

from schemas.convert.losses import Losses
from schemas.convert.video import ConvertError, OutVideo

UNLABELLED = "object"  # category of objects without a label
MEANS_NONE = f'labels "{UNLABELLED}" (they read as none)'


@dataclass(frozen=True)
class ExportSettings:
    """only_frames: video id -> stems of the images that are wanted (YouTube-VOS's meta.json); None: all frames.

    split and dataset are names that some formats ask for; None: what the format usually has. categories: label ->
    category id of a data set; None: numbered from 1.
    """

    only_frames: Mapping[str, Collection[str]] | None = None
    split: str | None = None
    dataset: str | None = None
    categories: Mapping[str, int] | None = None


@dataclass(frozen=True)
class ImportSettings:
    """read_labels: (bytes of a PNG, its name for messages, size [H, W] or None for its own) -> uint8 [H, W] of object
    ids; it raises ValueError for what is no mask, or not of that size.

    frames: number (an image's name holds its index), order, or None for number where all names have one. images: video
    id -> its source's image files in order, None where they are not known. first_frame and stride: of formats that do
    not say which frames their masks are of, None where it is for the file to say. files: pattern of the names of the
    files to read.
    """

    read_labels: Callable[[bytes, str, tuple[int, int] | None], np.ndarray]
    frames: str | None = None
    images: Callable[[str], Sequence[str] | None] = field(default=lambda _video_id: None)
    first_frame: int | None = None
    stride: int | None = None
    files: str | None = None


@dataclass(frozen=True)
class OutFile:
    """A file to be made. small: it may be made in memory. write may be called on another thread, once."""

    name: str
    write: Callable[[BinaryIO], None]
    small: bool = False


Writer = Callable[[Sequence[OutVideo], ExportSettings, Losses, BinaryIO], None]


def one_file(
    name: str, write: Writer
) -> tuple[
    Callable[[Sequence[OutVideo]], list[str]],
    Callable[[Sequence[OutVideo], ExportSettings, Losses], Iterator[OutFile]],
]:
    """`places` and `files` of a format that keeps all videos in one file: the names that the export writes, and the
    file itself. Without a video there is none."""

    def places(videos: Sequence[OutVideo]) -> list[str]:
        return [name] if videos else []

    def files(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses) -> Iterator[OutFile]:
        if videos:
            yield OutFile(name, partial(write, videos, settings, losses))

    return places, files


def categories_of(videos: Sequence[OutVideo], settings: ExportSettings, visible: bool = False) -> dict[str, int]:
    """Label -> category id: those of settings.categories, or else from 1 in order of labels.

    Objects without a label are of the category `object`. visible: only of objects that are seen on some frame. Raises
    ConvertError for a label that settings.categories lacks.
    """
    labels = {track.label or UNLABELLED for video in videos for track in video.tracks if track.n_visible or not visible}
    if settings.categories is None:
        return {label: number for number, label in enumerate(sorted(labels), 1)}
    missing = sorted(labels - set(settings.categories))
    if missing:
        what = "which objects without a label have" if missing[0] == UNLABELLED else "which is the label of an object"
        raise ConvertError(f"--categories has no category {missing[0]!r}, {what}: add it there")
    return {label: settings.categories[label] for label in sorted(labels)}


def category_records(categories: Mapping[str, int]) -> list[dict]:
    """As the COCO family writes them."""
    return [{"id": number, "name": label, "supercategory": UNLABELLED} for label, number in categories.items()]


def named_unlabelled(video: OutVideo) -> int:
    """Number of objects whose label reads as none (see `label_of`)."""
    return sum(track.label == UNLABELLED for track in video.tracks)


def unseen(video: OutVideo) -> int:
    """Number of objects that are nowhere visible: formats that list masks alone do not have them."""
    return sum(not track.n_visible for track in video.tracks)


def label_of(category: str | None) -> str | None:
    """The label that a category's name stands for."""
    return None if category in (None, "", UNLABELLED) else category
