"""A folder of true masks: where a video's PNGs lie and which frames they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from cluster.frames.image_folder import natural_key
from cluster.source_images import source_images
from cluster.stores.remote import entry_name, full_url, list_folder
from cluster.stores.storage_errors import explained
from cluster.stores.video_folder import number_in
from schemas.convert.names import safe_name, video_id_of
from schemas.convert.video import numbered, stem_of
from schemas.urls import public_url
from stcn_core.prompts import PromptError, fit_labels, read_label_png

PLACES = ("{}", "{}/masks", "Annotations/480p/{}", "Annotations/Full-Resolution/{}", "Annotations/{}")
TRUTH_FRAMES = ("order", "number")


class TruthError(ValueError):
    """True masks that cannot be used. The message names the file and the remedy."""


@dataclass(frozen=True)
class Truth:
    """True masks of one video: (frame, path) in frame order, and how the frames were told.

    example: a file's URL, for messages. doubt: why the numbers in the names, which told the frames, may be none of
    frames; None where there is no reason to think so.
    """

    files: tuple[tuple[int, str], ...]
    by: str
    example: str
    doubt: str | None = None


def find_truth(
    fs: Any, root: str, video: Mapping[str, Any], by: str | None = None, options: Mapping[str, Any] | None = None
) -> Truth | None:
    """The true masks of a video (its row of `videos`) in folder `root`; None where there are none.

    by: see TRUTH_FRAMES; None: as `place_truth` finds. options: fsspec's, of the video where it is a folder of images.
    Raises TruthError, OSError.
    """
    names = truth_files(fs, root, video["video_id"])
    if not names:
        return None
    asked = by is not None or len(names) == _count(video)
    images, unlisted = (None, None) if asked else source_images(video, options)
    return place_truth(names, video, by, public_url(full_url(fs, names[0])), images, unlisted)


def truth_files(fs: Any, root: str, video_id: str) -> list[str]:
    """Paths of the video's true masks in natural order; empty where there are none.

    The folder is named like the video, or as jobs.export names it (ids that are no plain name).
    """
    folders = [safe_name(video_id)]
    if not {"", ".", ".."} & set(video_id.split("/")):
        folders.append(video_id)
    for place, folder in product(PLACES, dict.fromkeys(folders)):
        try:
            entries = list_folder(fs, f"{root.rstrip('/')}/{place.format(folder)}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        names = [entry["name"] for entry in entries if entry_name(entry).lower().endswith(".png")]
        if names:
            return sorted(names, key=lambda name: natural_key(name.rpartition("/")[2]))
    return []


def place_truth(
    names: Sequence[str],
    video: Mapping[str, Any],
    by: str | None,
    example: str,
    images: Sequence[str] | None = None,
    unlisted: str | None = None,
) -> Truth:
    """Which frame each true mask belongs to. Raises TruthError; `example` is the first file, for messages.

    images, unlisted: of a folder of images, as `source_images` gives them. Where not every image has a true mask, a
    mask is of the image of its name: YouTube-VOS's images are called 00000, 00005, ..., which are no frames' indices.
    """
    # Decoding may stop early, at the range's end or at damage; some containers declare no count, or a wrong one.
    count, doubt = _count(video), None
    places = _named_images(names, images) if by is None and images and len(names) != count else []
    if places and None not in places:
        by, frames = "image name", places
    elif by == "order" or (by is None and len(names) in (video["frames_decoded"], video["frames_declared"])):
        by, frames = "order", list(range(len(names)))
    else:
        frames = _numbers(names, count, example, unlisted)
        if by is None:
            doubt = _doubt(frames, images, places, unlisted, example)
        by = "number"
    placed = sorted(zip(frames, names, strict=True))
    twice = next((b for a, b in zip(placed, placed[1:], strict=False) if a[0] == b[0]), None)
    if twice:
        raise TruthError(f"{example.rpartition('/')[0]} has two masks of frame {twice[0]}: remove one")
    if count is not None and placed[-1][0] >= count:
        other = TRUTH_FRAMES[by == "order"]
        raise TruthError(
            f"{example.rpartition('/')[0]} has a mask of frame {placed[-1][0]}, but {video['video_id']} has {count} "
            f"frames. The frame was told by {by}: use --truth-frames {other}, or correct the truth"
            + (f" ({doubt})" if doubt else "")
        )
    return Truth(tuple(placed), by, example, doubt)


def _count(video: Mapping[str, Any]) -> int | None:
    """Frames of the video, as far as is known."""
    return max({video["frames_decoded"], video["frames_declared"]} - {None}, default=None)


def _stem(path: str) -> str:
    return stem_of(path.rpartition("/")[2])


def _named_images(names: Sequence[str], images: Sequence[str]) -> list[int | None]:
    """The place of the image that each true mask is named like, also as jobs.export would name it."""
    index = {stem_of(image): place for place, image in enumerate(images)}
    if len(index) < len(images):
        return []  # 1.jpg and 1.png: which of them is it?
    return [index.get(_stem(name), index.get(video_id_of(_stem(name)))) for name in names]


def _numbers(names: Sequence[str], count: int | None, example: str, unlisted: str | None) -> list[int]:
    """The numbers in the names. Raises TruthError."""
    numbers = [number_in(_stem(name)) for name in names]
    if None in numbers:
        example = f"{example.rpartition('/')[0]}/{names[numbers.index(None)].rpartition('/')[2]}"
        raise TruthError(
            f"{example}: which frame is it? There are {len(names)} true masks for {count} frames, and its name "
            f"does not hold one number{f' ({unlisted})' if unlisted else ''}. Name it like its frame, or use "
            "--truth-frames order"
        )
    return numbers


def _doubt(
    frames: Sequence[int],
    images: Sequence[str] | None,
    places: Sequence[int | None],
    unlisted: str | None,
    example: str,
) -> str | None:
    """Why the numbers in the names of true masks may not be frames. Raises TruthError where they are not."""
    if images is None and unlisted is None:
        return None  # a video file
    if images is not None and numbered(images) == list(range(len(images))):
        return None  # the same by name and by number
    folder = example.rpartition("/")[0]
    if any(place is not None for place in places):
        raise TruthError(
            f"{folder} has {places.count(None)} of {len(places)} true masks that are named like none of the video's "
            "images: remove them, or use --truth-frames number if all are named after the frame's index from 0"
        )
    if sorted(frames) == list(range(len(frames))):
        return None
    return unlisted or f"{folder} has no mask that is named like one of the video's images"


def doubtful(doubts: Mapping[str, str]) -> str:
    """What to say where frames were told by numbers that may be none of frames; doubts: video id -> why."""
    video_id, reason = next(iter(doubts.items()))
    return (
        f"the frames of the true masks of {len(doubts)} videos were told by the numbers in their names, which is right "
        f"only if these count the frames from 0, such as those of {video_id}: {reason}"
    )


def read_labels(fs: Any, path: str, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W]. Raises TruthError."""
    url = full_url(fs, path)
    with explained(url, "read"):
        data = fs.cat_file(path)
    try:
        labels = read_label_png(data, public_url(url))
    except PromptError as error:
        raise TruthError(str(error)) from error
    try:
        labels = fit_labels(labels, size, public_url(url))
    except PromptError as error:
        shown = f"{labels.shape[1]}x{labels.shape[0]}, the masks {size[1]}x{size[0]}"
        raise TruthError(f"{public_url(url)} is {shown}: give true masks at the size of the source") from error
    return labels
