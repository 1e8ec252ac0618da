"""The objects of prompts that need a detector: looked for where the video is open, or as the burn-in saw them."""

import contextlib
import json
from typing import TYPE_CHECKING

import numpy as np

from cluster.failure import BankError, WorkerError
from cluster.finalise import bank_names
from cluster.frames.video_error import VideoError
from cluster.plan import BURN_IN, SEGMENT, Unit, part_id
from stcn_core.found import Found

if TYPE_CHECKING:
    from cluster.open_video import OpenVideo

FOUND = "found"  # beside the facts of a saved bank


def found_objects(unit: Unit, video: "OpenVideo") -> list[Found]:
    """Empty where no prompt needs a detector. A segment never looks itself: its bank knows these objects and no others.

    Raises NothingFound, PromptError, VideoError, WorkerError, BankError, OSError.
    """
    if not any(prompt.detects for prompt in unit.row.prompts):
        return []
    return _recorded(unit, video) if unit.kind == SEGMENT else _looked_for(unit, video)


def _looked_for(unit: Unit, video: "OpenVideo") -> list[Found]:
    from stcn_core.detection import Surroundings, find_objects

    detectors = video.bench.detectors
    if detectors is None:
        raise WorkerError("a prompt needs a detector, but this actor was given none")
    around = Surroundings(
        size=video.source,
        frame_at=video.frame_at,
        load=video.load,
        spread=lambda count: spread(video, count),
        picture=lambda frame: _picture(video, frame),
        detector=detectors.get,
    )
    return find_objects(unit.row.prompts, around)


def spread(video: "OpenVideo", count: int) -> list[int]:
    """`count` frames evenly over the range to be annotated (1: its middle), each in the middle of its share; all of
    them where there are fewer."""
    grid = video.grid
    there = len(video.times) if video.times is not None else video.info.frames_declared or 0
    stop = there if grid.end is None else min(there, grid.end)
    positions = max(1, -(-(stop - grid.start) // grid.stride))
    count = min(count, positions)
    return [grid.start + grid.stride * ((2 * number + 1) * positions // (2 * count)) for number in range(count)]


def _picture(video: "OpenVideo", frame: int) -> np.ndarray | None:
    """uint8 RGB of the source's size; None where the frame is not there."""
    video.still_alive()
    frames = video.bench.decoder.frames(
        video.path, video.info, None, frame, frame + 1, 1, seek=video.seekable, times=video.times
    )
    try:
        with contextlib.closing(iter(frames)) as stream:
            item = next(stream, None)
    except VideoError as error:
        if error.error_class != "zero-frames":
            raise
        return None  # beyond the end, or lost to damage
    return None if item is None else item[1]


def _recorded(unit: Unit, video: "OpenVideo") -> list[Found]:
    _, facts = bank_names(part_id(unit.video_key, BURN_IN))
    try:
        return [Found.from_record(record) for record in json.loads(video.bench.storage.read(facts))[FOUND]]
    except FileNotFoundError as error:
        raise BankError(f"the saved bank of {unit.row.video_id} is gone: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BankError(f"{facts} does not say what the detector found: {error!r}") from error
