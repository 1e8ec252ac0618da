"""From prompts that need a detector to objects: looks at the pictures they name, and says what was not found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.prompt import Prompt
from stcn_core.detectors import Detections, Detector
from stcn_core.detectors.choice import best_objects, mask_box, match_boxes, under_points
from stcn_core.detectors.detections import MOST, exclusive_masks
from stcn_core.found import Found
from stcn_core.prompts import NothingFound, given_masks

MIN_SCORE = 0.5
MATCH_MOST = 100
MATCH_SCORE = 0.01  # boxes and points say what is meant: there, also unlikely detections are looked at


@dataclass(frozen=True)
class Surroundings:
    """How to look at the video. size (H, W): the source; frame_at: seconds -> frame; load: a mask's bytes; spread: n ->
    n frames evenly over the range; picture: frame -> uint8 RGB [H, W, 3], None where it does not decode; detector: its
    name -> one."""

    size: tuple[int, int]
    frame_at: Callable[[float], int]
    load: Callable[[str], bytes]
    spread: Callable[[int], Sequence[int]]
    picture: Callable[[int], np.ndarray | None]
    detector: Callable[[str], Detector]


def find_objects(prompts: Sequence[Prompt], around: Surroundings) -> list[Found]:
    """The objects of all prompts that need a detector. Raises NothingFound, PromptError.

    A prompt that finds objects by itself gets the numbers from its object_id on, or the lowest that no prompt of the
    video names, best score first. Of several frames that one is taken which shows most objects, of these the one with
    the highest sum of scores, of these the first.
    """
    look = _Looks(around)
    found: list[Found] = []
    # Who is only ever absent starts nowhere: that number must be one of those found.
    taken = {prompt.object_id for prompt in prompts if not (prompt.finds or prompt.absent)}
    taken |= _png_labels(prompts, around)
    for prompt in prompts:
        if prompt.finds and prompt.object_id is not None:
            taken.update(range(prompt.object_id, prompt.object_id + (prompt.max_objects or MOST)))
    for number, prompt in enumerate(prompts, 1):
        if prompt.finds:
            objects = _found_by_itself(number, prompt, look)
            ids = _numbers(prompt, len(objects), taken)
            found += [
                Found(number, frame, object_id, mask, prompt.detector, name, score)
                for object_id, (frame, mask, name, score) in zip(ids, objects, strict=True)
            ]
            taken |= set(ids)
        elif prompt.points is not None:
            found.append(_under_points(number, prompt, look))
    return found + _matched(prompts, look)


class _Looks:
    """Detections by frame and settings; the last ones are kept, for prompts on one frame."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._key: tuple | None = None
        self._last: Detections | None = None

    def frame_of(self, prompt: Prompt) -> int:
        return self.around.frame_at(prompt.time_s) if prompt.frame is None else prompt.frame

    def at(self, frame: int, prompt: Prompt, usual_score: float, limit: int = MOST) -> Detections:
        """Raises NothingFound where the frame does not decode."""
        score = usual_score if prompt.min_score is None else prompt.min_score
        key = (frame, prompt.detector, prompt.classes, score, limit)
        if key != self._key:
            picture = self.around.picture(frame)
            if picture is None:
                where = f"frame {frame}, where {prompt.detector} should look,"
                raise NothingFound(f"{where} is not there or does not decode")
            detector = self.around.detector(prompt.detector)
            self._last = detector.detect(picture, classes=prompt.classes or (), min_score=score, limit=limit)
            self._key = key
        return self._last


def _found_by_itself(number: int, prompt: Prompt, look: _Looks) -> list[tuple[int, np.ndarray, str, float]]:
    if prompt.frames is not None:
        frames: Sequence[int] = prompt.frames
    elif prompt.frame is None and prompt.time_s is None:
        frames = look.around.spread(prompt.candidates or 1)
    else:
        frames = [look.frame_of(prompt)]
    best: tuple[tuple[int, float], list] = ((0, 0.0), [])
    missing = 0
    for frame in sorted(set(frames)):
        try:
            seen = look.at(frame, prompt, MIN_SCORE, min(MOST, prompt.max_objects or MOST))
        except NothingFound:
            missing += 1
            continue
        numbers, masks = best_objects(seen, prompt.max_objects)
        rank = (len(numbers), float(sum(seen.scores[n] for n in numbers)))
        if rank > best[0]:
            objects = [
                (frame, mask, seen.classes[n], float(seen.scores[n])) for n, mask in zip(numbers, masks, strict=True)
            ]
            best = (rank, objects)
    if not best[1]:
        kinds = f" of {', '.join(prompt.classes)}" if prompt.classes else ""
        where = f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames)} frames"
        lost = f" ({missing} of them are not there)" if missing else ""
        score = MIN_SCORE if prompt.min_score is None else prompt.min_score
        raise NothingFound(
            f"prompt {number}: {prompt.detector} finds nothing{kinds} with a score of {score:g} or more "
            f"on {where}{lost}"
        )
    return best[1]


def _under_points(number: int, prompt: Prompt, look: _Looks) -> Found:
    frame = look.frame_of(prompt)
    seen = look.at(frame, prompt, MATCH_SCORE)
    chosen = under_points(seen, prompt.points)
    if chosen is None:
        places = ", ".join(f"({x:g}, {y:g})" for x, y, label in prompt.points if label == 1)
        raise NothingFound(
            f"prompt {number}: none of the {len(seen)} detections of {prompt.detector} on frame {frame} lies under "
            f"{places} and not under the points of label 0"
        )
    mask = (seen.masks[chosen] > 0.5).astype(np.uint8)
    return Found(
        number, frame, prompt.object_id or 1, mask, prompt.detector, seen.classes[chosen], float(seen.scores[chosen])
    )


def _matched(prompts: Sequence[Prompt], look: _Looks) -> list[Found]:
    """Boxes and masks, those on one frame with equal settings together: one detection is not to be two objects."""
    groups: dict[tuple, list[tuple[int, Prompt, int, tuple]]] = {}
    for number, prompt in enumerate(prompts, 1):
        if prompt.detector is None or prompt.finds or prompt.points is not None:
            continue
        frame = look.frame_of(prompt)
        key = (frame, prompt.detector, prompt.classes, prompt.min_score, prompt.matching or "one-to-one")
        for object_id, box in _boxes(number, prompt, look.around):
            groups.setdefault(key, []).append((number, prompt, object_id, box))
    found = []
    for (frame, _, _, _, matching), wishes in groups.items():
        seen = look.at(frame, wishes[0][1], MATCH_SCORE, MATCH_MOST)
        chosen = match_boxes(seen.boxes, np.array([box for *_, box in wishes]), matching)
        given = sorted({one for one in chosen if one is not None})
        # Two objects may have one detection ("nearest"): each then has all of it.
        masks = dict(zip(given, exclusive_masks(seen.masks[given]), strict=True))
        for (number, prompt, object_id, box), one in zip(wishes, chosen, strict=True):
            if one is None or not masks[one].any():
                shown = ", ".join(f"{value:g}" for value in box)
                raise NothingFound(
                    f"prompt {number}: {prompt.detector} has {len(seen)} detections on frame {frame}, none of them "
                    f"for object {object_id} in the box {shown} (x1, y1, x2, y2)"
                )
            found.append(
                Found(number, frame, object_id, masks[one], prompt.detector, seen.classes[one], float(seen.scores[one]))
            )
    return found


def _boxes(number: int, prompt: Prompt, around: Surroundings) -> list[tuple[int, tuple[float, float, float, float]]]:
    """(object id, x1 y1 x2 y2) of a box, or of each mask."""
    if prompt.box is not None:
        x, y, width, height = prompt.box
        return [(prompt.object_id or 1, (x, y, x + width, y + height))]
    masks = given_masks(prompt, number, around.size, around.load)
    return [(object_id, mask_box(mask)) for object_id, mask in masks if mask.any()]  # an empty one says absent


def _png_labels(prompts: Sequence[Prompt], around: Surroundings) -> set[int]:
    """Numbers that only the labels in a PNG say."""
    if not any(prompt.finds for prompt in prompts):
        return set()
    return {
        object_id
        for number, prompt in enumerate(prompts, 1)
        if prompt.mask is not None and prompt.object_id is None
        for object_id, _ in given_masks(prompt, number, around.size, around.load)
    }


def _numbers(prompt: Prompt, count: int, taken: set[int | None]) -> list[int]:
    if prompt.object_id is not None:
        return list(range(prompt.object_id, prompt.object_id + count))
    free, number = [], 1
    while len(free) < count:
        if number not in taken:
            free.append(number)
        number += 1
    return free
