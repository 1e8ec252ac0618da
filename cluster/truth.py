"""A folder of true masks: where a video's PNGs lie and which frames they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from cluster.frames.image_folder import natural_key
from cluster.stores.remote import entry_name, full_url, list_folder
from cluster.stores.storage_errors import explained
from cluster.stores.video_folder import number_in
from schemas.convert.names import safe_name
from schemas.urls import public_url
from stcn_core.prompts import PromptError, fit_labels, read_label_png

PLACES = ("{}", "{}/masks", "Annotations/480p/{}", "Annotations/Full-Resolution/{}", "Annotations/{}")
TRUTH_FRAMES = ("order", "number")


class TruthError(ValueError):
    """True masks that cannot be used. The message names the file and the remedy."""


@dataclass(frozen=True)
class Truth:
    """True masks of one video: (frame, path) in frame order, and how the frames were told."""

    files: tuple[tuple[int, str], ...]
    by: str


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


def place_truth(names: Sequence[str], video: Mapping[str, Any], by: str | None, example: str) -> Truth:
    """Which frame each true mask belongs to. Raises TruthError; `example` is the first file, for messages."""
    # Decoding may stop early, at the range's end or at damage; some containers declare no count, or a wrong one.
    counts = {video["frames_decoded"], video["frames_declared"]} - {None}
    count = max(counts, default=None)
    if by is None:
        by = "order" if len(names) in counts else "number"
    if by == "order":
        frames = list(range(len(names)))
    else:
        numbers = [number_in(name.rpartition("/")[2].rpartition(".")[0]) for name in names]
        if None in numbers:
            example = f"{example.rpartition('/')[0]}/{names[numbers.index(None)].rpartition('/')[2]}"
            raise TruthError(
                f"{example}: which frame is it? There are {len(names)} true masks for {count} frames, and its name "
                "does not hold one number. Name it like its frame, or use --truth-frames order"
            )
        frames = numbers
    placed = sorted(zip(frames, names, strict=True))
    twice = next((b for a, b in zip(placed, placed[1:], strict=False) if a[0] == b[0]), None)
    if twice:
        raise TruthError(f"{example.rpartition('/')[0]} has two masks of frame {twice[0]}: remove one")
    if count is not None and placed[-1][0] >= count:
        other = TRUTH_FRAMES[by == "order"]
        raise TruthError(
            f"{example.rpartition('/')[0]} has a mask of frame {placed[-1][0]}, but {video['video_id']} has {count} "
            f"frames. The frame was told by {by}: use --truth-frames {other}, or correct the truth"
        )
    return Truth(tuple(placed), by)


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
