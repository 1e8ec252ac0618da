"""Which frames of a video are most worth a correction: doubtful, and unlike those that are given or chosen already.

As XMem++ (Bekuzarov et al. 2023) suggests frames greedily, each unlike those before it, but from what the `masks` table
says, without the video: doubt, place in time, area and shape of the masks.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

# An object that has no mask any more may be lost or gone. On real clips it was mostly lost (docs/scores.md); a second
# after it was last seen that is no news any more.
ABSENT_DOUBT = 0.5
ABSENT_STEPS = 25.0
SHAPE_SCALE = 0.5  # of log area and log aspect: a frame that differs by it is another one after 0.7 of the time
MOST_CHANGE = 3.0
REACH = 3.0  # time scales over which frames are alike at all: exp(-9) is next to nothing
MOST_CANDIDATES = 2000  # of a long video's frames are looked at,
MOST_SUMMED = 1000  # each beside so many others: hours of video take seconds


@dataclass(frozen=True)
class VideoDoubts:
    """A finished video step by step: frames [F], object ids [K], and [F, K] doubt 0 to 1, area, aspect (width over
    height), present, given. Doubt of an object without a mask decays with the time since it was last, or until it is
    next, seen; 0 where nothing is known."""

    frames: np.ndarray
    object_ids: tuple[int, ...]
    doubt: np.ndarray
    area: np.ndarray
    aspect: np.ndarray
    present: np.ndarray
    given: np.ndarray

    @property
    def frame_doubt(self) -> np.ndarray:
        """[F]: root mean square over the objects, so that one bad object among many still counts."""
        return np.sqrt(np.square(self.doubt).mean(1)) if self.object_ids else np.zeros(len(self.frames))


@dataclass(frozen=True)
class Suggestion:
    """A frame worth a correction; objects: id -> (doubt, has a mask)."""

    frame: int
    doubt: float
    objects: dict[int, tuple[float, bool]]

    def without(self, ids: Collection[int]) -> "Suggestion":
        """The same without these objects."""
        return replace(self, objects={k: said for k, said in self.objects.items() if k not in ids}) if ids else self


def video_doubts(numbers: Mapping[str, np.ndarray], video: Mapping[str, Any], objects: Sequence[int]) -> VideoDoubts:
    """numbers: `video_numbers`; video: its row of `videos`; objects: all that were prompted, visible or not."""
    start, stride = video["first_frame"] or 0, video["stride"] or 1
    steps = int(video["frames_annotated"] or 0)
    ids = tuple(sorted({*objects, *np.unique(numbers["object_id"]).tolist()}))
    position = (numbers["frame_index"] - start) // stride
    inside = (position >= 0) & (position < steps)
    rows = position[inside], np.searchsorted(ids, numbers["object_id"][inside]) if ids else position[:0]

    def spread(values: np.ndarray) -> np.ndarray:
        grid = np.full((steps, len(ids)), np.nan)
        grid[rows] = values[inside]
        return grid

    area = np.nan_to_num(spread(numbers["area"].astype(float)))
    present = area > 0
    # Outputs of earlier versions and of other programs have no doubt; their score at least gives an order.
    instead = np.where(numbers["is_prompt"], 0.0, 1 - numbers["score"])
    told = np.where(np.isnan(numbers["doubt"]), instead, numbers["doubt"])
    doubt = np.where(present, np.nan_to_num(spread(told)), ABSENT_DOUBT * _decay(present))
    aspect = np.nan_to_num(spread(numbers["bbox_w"] / np.maximum(numbers["bbox_h"], 1)))
    given = np.nan_to_num(spread(numbers["is_prompt"].astype(float))) > 0
    return VideoDoubts(start + stride * np.arange(steps), ids, doubt, area, aspect, present, given)


def suggest(doubts: VideoDoubts, count: int, given: Sequence[int] = ()) -> list[Suggestion]:
    """Up to `count` frames, the most worthy first; given: frames with prompts, which are never suggested.

    A frame's worth is the doubt of all frames, each as much as it is like that frame (0 to 1). What is like a given or
    chosen frame counts as repaired to that degree. So the middle of a doubtful stretch comes before its worst frame.
    """
    steps = len(doubts.frames)
    if not steps or not doubts.object_ids:
        return []
    taken = [int(step) for step in np.flatnonzero(np.isin(doubts.frames, list(given)) | doubts.given.any(1))]
    # As many stretches as there will be looked-at frames: within half of one, another look is worth little.
    scale = max(1.0, steps / (2 * (count + max(1, len(taken)))))
    left = doubts.frame_doubt
    for step in taken:
        _repair(doubts, left, scale, step)
    free = np.setdiff1d(np.arange(steps), taken)
    if len(free) > MOST_CANDIDATES:  # of a long video every n-th frame is as good
        free = free[np.linspace(0, len(free) - 1, MOST_CANDIDATES).round().astype(int)]
    worth = {int(step): _worth(doubts, left, scale, int(step)) for step in free}
    chosen: list[int] = []
    while worth and len(chosen) < count:
        best = _best(worth, partial(_worth, doubts, left, scale))
        if best is None:
            break
        chosen.append(best)
        _repair(doubts, left, scale, best)
    return [_suggestion(doubts, step) for step in chosen]


def _best(worth: dict[int, float], now: Callable[[int], float]) -> int | None:
    """The step of the greatest worth, taken out of `worth`, whose values may be out of date: worth only falls, so one
    that is still the greatest when it is looked at anew is the greatest of all. None where nothing is worth a look."""
    while worth:
        step = max(worth, key=lambda one: (worth[one], -one))
        before, worth[step] = worth[step], now(step)
        if worth[step] <= 0:
            return None
        if worth[step] >= before or worth[step] >= max((v for k, v in worth.items() if k != step), default=0.0):
            del worth[step]
            return step
    return None


def worst(doubts: VideoDoubts, count: int) -> list[Suggestion]:
    """Up to `count` of the most doubtful frames, apart from each other: for looking, not for correcting."""
    left, apart = doubts.frame_doubt, max(1, len(doubts.frames) // (2 * (count + 1)))
    chosen = []
    while len(chosen) < count and left.any():
        step = int(left.argmax())
        chosen.append(_suggestion(doubts, step))
        left[max(0, step - apart) : step + apart + 1] = 0
    return chosen


def at_random(doubts: VideoDoubts, count: int, given: Sequence[int], seed: int) -> list[Suggestion]:
    """As many frames by lot: what suggestions are measured against."""
    free = np.flatnonzero(~(np.isin(doubts.frames, list(given)) | doubts.given.any(1)))
    drawn = np.random.default_rng(seed).permutation(free)[:count]
    return [_suggestion(doubts, int(step)) for step in drawn]


def _suggestion(doubts: VideoDoubts, step: int) -> Suggestion:
    objects = {
        object_id: (float(doubts.doubt[step, k]), bool(doubts.present[step, k]))
        for k, object_id in enumerate(doubts.object_ids)
    }
    return Suggestion(int(doubts.frames[step]), float(doubts.frame_doubt[step]), objects)


def _worth(doubts: VideoDoubts, left: np.ndarray, scale: float, step: int) -> float:
    """Of the doubt that is left, what a correction of this frame would repair."""
    near, likeness = _alike(doubts, step, scale, every=max(1, int(2 * REACH * scale) // MOST_SUMMED))
    return float((left[near] * likeness).sum())


def _repair(doubts: VideoDoubts, left: np.ndarray, scale: float, step: int) -> None:
    """Takes that away from what is left."""
    near, likeness = _alike(doubts, step, scale)
    left[near] *= 1 - likeness


def _alike(doubts: VideoDoubts, step: int, scale: float, every: int = 1) -> tuple[slice, np.ndarray]:
    """(every n-th of the steps near this one, their likeness to it from 0 to 1): by time, which counts more the more
    the objects that are on both frames changed. Steps that are not near are not alike."""
    reach = int(REACH * scale)
    near = slice(max(0, step - reach), step + reach + 1, every)
    apart = (np.arange(len(doubts.frames))[near] - step) / scale
    both = doubts.present[near] & doubts.present[step]
    changed = np.zeros(both.shape)
    for shape, least in ((doubts.area, 1.0), (doubts.aspect, 1e-3)):
        changed += np.square(np.log(np.maximum(shape[near], least) / np.maximum(shape[step], least)))
    changed = np.where(both, changed / SHAPE_SCALE**2, 0.0).sum(1) / np.maximum(both.sum(1), 1)
    return near, np.exp(-np.square(apart) * (1 + np.minimum(changed, MOST_CHANGE)))


def _decay(present: np.ndarray) -> np.ndarray:
    """[F, K]: exp(-steps to the nearest frame with a mask / ABSENT_STEPS); 0 where there is none at all."""
    steps = np.arange(len(present))[:, None]
    before = np.maximum.accumulate(np.where(present, steps, -np.inf), 0) if len(present) else steps
    after = np.minimum.accumulate(np.where(present, steps, np.inf)[::-1], 0)[::-1] if len(present) else steps
    return np.exp(-np.minimum(steps - before, after - steps) / ABSENT_STEPS)
