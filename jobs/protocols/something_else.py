"""Something-Else's boxes (Materzynska et al. 2020): one JSON object, video id -> list of frames with boxes in pixels.

    {"2": [{"name": "2/0001.jpg", "labels": [{"category": "pillow", "box2d": {"x1": .., "x2": .., "y1": .., "y2": ..}},
                                             {"category": "hand", "box2d": {...}}], ...}, ...], ...}

An object is the place of its box in a frame's list, hands included, as STCN_evaluation took it. Frame names count
from 1. Coordinates are cut to whole pixels; where boxes overlap, the later one is in front.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np

from cluster.stores.source import read_source
from schemas.prompt import Prompt
from schemas.urls import public_url
from schemas.video_row import VideoRow

Box = tuple[float, float, float, float, str]  # x1, y1, x2, y2, category
Boxes = Mapping[str, Mapping[int, Sequence[Box]]]  # video id -> frame from 0 -> its boxes


def read_boxes(url: str, options: Mapping | None = None) -> Boxes:
    """All boxes of a file. Raises ValueError where it is none of Something-Else, OSError."""
    return _parsed(url, json.dumps(options or {}, sort_keys=True))


@lru_cache(maxsize=1)  # asked for once per video, and the whole file has 180,000 of them
def _parsed(url: str, options: str) -> Boxes:
    try:
        videos = json.loads(read_source(url, json.loads(options)))
        found = {}
        for name, frames in videos.items():
            entries = {_number(frame["name"]): [_box(label) for label in frame["labels"]] for frame in frames}
            found[PurePosixPath(name).stem] = entries
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{public_url(url)} is no box file of Something-Else ({error!r}): it maps video ids to lists of frames "
            'with "name" and "labels", each with "box2d": {"x1", "y1", "x2", "y2"}'
        ) from error


def box_rows(videos: Sequence[tuple[str, str]], boxes: Boxes, name: str) -> list[VideoRow]:
    """(video id, url) of each video -> rows whose objects start from the boxes of their first frame with any.

    Videos without boxes are left out. Raises ValueError where that leaves none.
    """
    rows = []
    for video_id, url in videos:
        frames = {frame: here for frame, here in boxes.get(video_id, {}).items() if here}
        if not frames:
            continue
        first = min(frames)
        prompts = [
            Prompt(frame=first, object_id=number, box=(x1, y1, x2 - x1, y2 - y1), label=category)
            for number, (x1, y1, x2, y2, category) in enumerate(map(whole_pixels, frames[first]), 1)
            if x2 > x1 and y2 > y1
        ]
        rows.append(VideoRow(len(rows) + 1, url, video_id, tuple(prompts)))
    if not rows:
        raise ValueError(f"{name} has no boxes of any of the {len(videos)} videos: its keys must be their names")
    return rows


def box_masks(boxes: Sequence[Box], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Boxes of a frame -> object id -> bool [H, W], filled; none for an object that is wholly covered."""
    labels = np.zeros(size, np.int32)
    for number, (x1, y1, x2, y2, _) in enumerate(map(whole_pixels, boxes), 1):
        labels[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = number
    return {int(number): labels == number for number in np.unique(labels) if number}


def whole_pixels(box: Box) -> tuple[int, int, int, int, str]:
    """Coordinates cut to whole numbers, as STCN_evaluation did."""
    x1, y1, x2, y2, category = box
    return int(x1), int(y1), int(x2), int(y2), category


def _number(name: str) -> int:
    return int(PurePosixPath(name).stem) - 1


def _box(label: Mapping) -> Box:
    box = label["box2d"]
    return *(float(box[side]) for side in ("x1", "y1", "x2", "y2")), str(label.get("category", "object"))
