"""One video of a report: how much it needs a look, which frames to show, and each object's course in few numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.views.overlay import object_colour
from jobs.views.suggest import Suggestion, VideoDoubts, video_doubts, worst

DOUBTFUL = 0.5
SHOWN_DOUBT = 0.3  # from here on a picture is marked as doubtful
BINS, LEAST_BINS, ALL_BINS = 240, 40, 2400  # columns of an object's course; of all objects together
MOST_OBJECTS = 60
DOUBTFUL_FRAMES = 4
UNKNOWN = -1


@dataclass(frozen=True)
class Course:
    """A finished video's numbers, ready to be shown."""

    doubts: VideoDoubts
    score: np.ndarray  # [F, K], NaN where there is no mask
    known: bool  # whether the masks have a column of doubt that says anything

    @property
    def share(self) -> float:
        """Of all frames and objects: doubtful, or without a mask since shortly."""
        return float((self.doubts.doubt >= DOUBTFUL - 1e-6).mean()) if self.doubts.doubt.size else 0.0

    @property
    def need(self) -> float:
        """How much the video needs a look, 0 to 1: half the mean doubt, half the share of doubtful masks."""
        doubt = self.doubts.doubt
        return float(0.5 * doubt.mean() + 0.5 * self.share) if doubt.size else 0.0


def course_of(numbers: Mapping[str, np.ndarray], row: Mapping[str, Any], objects: Sequence[int]) -> Course:
    """numbers: `video_numbers`; row: of `videos`; objects: all prompted ones."""
    doubts = video_doubts(numbers, row, objects)
    score = np.full(doubts.doubt.shape, np.nan)
    position = (numbers["frame_index"] - (row["first_frame"] or 0)) // (row["stride"] or 1)
    inside = (position >= 0) & (position < len(doubts.frames))
    if doubts.object_ids:
        score[position[inside], np.searchsorted(doubts.object_ids, numbers["object_id"][inside])] = numbers["score"][
            inside
        ]
    predicted = ~numbers["is_prompt"]
    known = not predicted.any() or bool(np.isfinite(numbers["doubt"][predicted]).any())
    return Course(doubts, score, known)


def frames_to_show(course: Course, count: int) -> list[tuple[int, str, Suggestion | None]]:
    """(frame, given | doubtful | even, suggestion) in order: the first given one, doubtful ones, and an even spread."""
    doubts, chosen = course.doubts, {}
    steps = len(doubts.frames)
    if not steps:
        return []
    given = np.flatnonzero(doubts.given.any(1))
    if len(given):
        chosen[int(doubts.frames[given[0]])] = ("given", None)
    for one in worst(doubts, min(DOUBTFUL_FRAMES, count // 2)):
        if one.frame not in chosen:
            chosen[one.frame] = ("doubtful" if course.known and one.doubt >= SHOWN_DOUBT else "even", one)
    # Each further one in the middle of the widest stretch that shows nothing.
    marks = sorted({-1, steps, *(int((frame - doubts.frames[0]) // _stride(doubts)) for frame in chosen)})
    while len(chosen) < min(count, steps):
        at = int(np.argmax(np.diff(marks)))
        middle = (marks[at] + marks[at + 1]) // 2
        if middle in marks:
            break
        marks.insert(at + 1, middle)
        chosen[int(doubts.frames[middle])] = ("even", None)
    return [(frame, *chosen[frame]) for frame in sorted(chosen)]


def _stride(doubts: VideoDoubts) -> int:
    return int(doubts.frames[1] - doubts.frames[0]) if len(doubts.frames) > 1 else 1


def object_courses(course: Course, labels: Mapping[int, str | None]) -> dict[str, Any]:
    """Columns per object: a area, s lowest score, d highest doubt, v share of frames with a mask, each a list of whole
    numbers 0 to 100, -1 where nothing is known; the most doubtful objects first."""
    doubts = course.doubts
    order = (
        np.argsort(-doubts.doubt.mean(0), kind="stable") if len(doubts.frames) else np.arange(len(doubts.object_ids))
    )
    shown = order[:MOST_OBJECTS].tolist()
    bins = min(len(doubts.frames), max(LEAST_BINS, min(BINS, ALL_BINS // max(1, len(shown)))))
    edges = np.linspace(0, len(doubts.frames), bins + 1).round().astype(int)
    return {
        "bins": bins,
        "left_out": len(order) - len(shown),
        "objects": [_object(course, k, edges, labels.get(doubts.object_ids[k])) for k in shown],
    }


def _object(course: Course, k: int, edges: np.ndarray, label: str | None) -> dict[str, Any]:
    doubts = course.doubts
    present, area = doubts.present[:, k], doubts.area[:, k]
    visible = int(present.sum())
    largest = float(area.max(initial=0.0))
    stretches = list(zip(edges[:-1], edges[1:], strict=True))

    def columns(values: np.ndarray, take: Any) -> list[int]:
        found = []
        for start, end in stretches:
            part = values[start:end]
            part = part[np.isfinite(part)]
            found.append(round(100 * float(take(part))) if len(part) else UNKNOWN)
        return found

    masked = np.where(present, area / largest if largest else 0.0, np.nan)
    doubt = doubts.doubt[:, k] if course.known else np.full(len(present), np.nan)
    red, green, blue = object_colour(doubts.object_ids[k])
    return {
        "id": doubts.object_ids[k],
        "label": label,
        "colour": f"#{red:02x}{green:02x}{blue:02x}",
        "visible": visible,
        "largest": int(largest),
        "mean_score": _rounded(np.nanmean(course.score[:, k])) if visible else None,
        "mean_doubt": _rounded(doubts.doubt[present, k].mean()) if visible and course.known else None,
        "a": columns(masked, np.mean),
        "s": columns(course.score[:, k], np.min),
        "d": columns(doubt, np.max),
        "v": columns(present.astype(float), np.mean),
        "given": doubts.frames[doubts.given[:, k]].tolist()[:200],
    }


def _rounded(value: float) -> float:
    return round(float(value), 3)
