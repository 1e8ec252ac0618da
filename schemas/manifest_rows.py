"""One row of a manifest, checked field by field: everything that is wrong is found, nothing is guessed."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.manifest_values import Wrong, as_id, as_labels, as_text, as_whole, shown
from schemas.problem import Problem
from schemas.prompt import Prompt
from schemas.prompt_record import FIELDS as PROMPT_FIELDS
from schemas.prompt_record import SUGGESTED, read_prompt
from schemas.urls import resolve, stem
from schemas.video_row import VideoRow

# FLAT: the prompt's fields stand in the row itself (CSV, Parquet without a `prompts` column).
FIELDS = ("video", "video_id", "prompts", "start", "end", "stride", "labels")
FLAT = (*FIELDS, *PROMPT_FIELDS)
FLAT_MARK = "\0flat"
# Fields of a prompt that say when and who, but not what.
PLACE_FIELDS = ("frame", "time", "object_id", "label", "complete")
NO_PROMPT = ("no prompt is given", "the list is empty")  # reasons that do not count where the run has a detector
RANGE_FIELDS = {"start": (0, "the first frame is 0"), "end": (1, "it is exclusive"), "stride": (1, "1 is every frame")}


def read_row(number: int, record: object, base: str) -> tuple[VideoRow | None, list[Problem]]:
    """A decoded row (row `number`) -> VideoRow and its problems.

    A row with problems holds what is sound of it, for comparing rows; None where it cannot be named. Relative URLs
    are resolved against the folder `base`. A flat record (see `manifest_formats`) gives a row with the one prompt
    that stands in it, or none.
    """
    if not isinstance(record, Mapping):
        reason = f"it is {_kind(record)}, not an object"
        return None, [Problem(number, "", reason, 'Write {"video": ..., "prompts": [...]}')]
    flat = FLAT_MARK in record
    # Null means "not given": Parquet has no other way to leave a field of a row out.
    record = {key: value for key, value in record.items() if value is not None and key != FLAT_MARK}
    problems: list[Problem] = []

    def take(column: str, read: Callable[[Any], Any]) -> Any:
        if column not in record:
            return None
        try:
            return read(record[column])
        except Wrong as wrong:
            problems.append(Problem(number, column, wrong.reason, wrong.remedy))
            return None

    known = FLAT if flat else FIELDS
    problems += [unknown_key(number, "", key, known) for key in record if key not in known]
    if "video" not in record:
        problems.append(Problem(number, "video", "it is missing", "Give the URL or path of the video"))
    video = take("video", as_text)
    video_id = take("video_id", as_id)
    if video is not None and "video_id" not in record:
        try:
            video_id = as_id(stem(video))
        except Wrong as wrong:
            reason = f"the name of {shown(video)} makes no video_id: {wrong.reason}"
            problems.append(Problem(number, "video_id", reason, "Give a video_id"))
    values = {name: take(name, _bounded(low, why)) for name, (low, why) in RANGE_FIELDS.items()}
    start, end = values["start"], values["end"]
    if end is not None and (start or 0) >= end:
        reason = f"end {end} is not after start {start or 0}"
        problems.append(Problem(number, "end", reason, "Give start < end (end itself is not part of the range)"))
    labels = take("labels", as_labels) or ()
    record, unfilled = _without_unfilled(record)
    prompts, found = _prompts(number, record, flat, base)
    problems += found
    if video is None or video_id is None:
        return None, problems
    row = VideoRow(number, resolve(video, base), video_id, tuple(prompts), labels=labels, unfilled=unfilled, **values)
    return row, problems


def _without_unfilled(record: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The record without the suggestions of jobs.review that nobody has filled in, and how many these are."""
    prompts = record.get("prompts")
    if not isinstance(prompts, list):
        return record, 0
    kept = [prompt for prompt in prompts if not is_unfilled(prompt)]
    return {**record, "prompts": kept}, len(prompts) - len(kept)


def is_unfilled(prompt: object) -> bool:
    """Whether jobs.review suggests this prompt and nobody has filled it in."""
    if not isinstance(prompt, Mapping) or prompt.get(SUGGESTED) is None:
        return False
    return {key for key, value in prompt.items() if value is not None} <= {*PLACE_FIELDS, SUGGESTED}


def _prompts(number: int, record: Mapping[str, Any], flat: bool, base: str) -> tuple[list[Prompt], list[Problem]]:
    inline = {key: record[key] for key in PROMPT_FIELDS if key in record} if flat else {}
    if "prompts" not in record:
        if inline:
            return _prompt_list(number, [inline], "", base)
        if flat:
            remedy = "Fill mask, rle, box or points with frame or time, or detector, or prompts with a JSON list"
        else:
            remedy = 'Give "prompts": [{"frame": 0, "object_id": 1, "mask": "..."}]'
        return [], [Problem(number, "prompts", "no prompt is given", remedy)]
    if inline:
        reason = f"the row has prompts and also {', '.join(inline)}"
        return [], [Problem(number, "prompts", reason, "Use one of the two ways")]
    value = record["prompts"]
    if not isinstance(value, list):
        return [], [Problem(number, "prompts", f"it is {_kind(value)}, not a list", "Give a list of prompts")]
    if not value:
        remedy = "Add a mask, rle or box with a frame or time and an object_id"
        return [], [Problem(number, "prompts", "the list is empty", remedy)]
    return _prompt_list(number, value, "prompts", base)


def _prompt_list(number: int, values: list, column: str, base: str) -> tuple[list[Prompt], list[Problem]]:
    prompts, problems = [], []
    for position, value in enumerate(values):
        place = f"{column}[{position}]" if column else ""
        if not isinstance(value, Mapping):
            reason = f"it is {_kind(value)}, not an object"
            problems.append(Problem(number, place, reason, 'Write {"frame": 0, "object_id": 1, "mask": "..."}'))
            continue
        value = {key: item for key, item in value.items() if item is not None and key != SUGGESTED}
        found = [unknown_key(number, place, key, PROMPT_FIELDS) for key in value if key not in PROMPT_FIELDS]
        prompt, wrongs = read_prompt(value, base)
        dot = "." if place else ""
        found += [Problem(number, f"{place}{dot}{key}".rstrip("."), *wrong) for key, wrong in wrongs]
        problems += found
        if prompt is not None and not found:
            prompts.append(prompt)
    return prompts, problems


def unknown_key(number: int, place: str, key: object, known: Iterable[str]) -> Problem:
    """The problem of a key that means nothing here, with the likeliest right one."""
    known = list(known)
    column = f"{place}.{key}" if place else str(key)
    if key in ("text", "caption", "phrase"):
        remedy = "Give a mask, an rle, a box, points, or a detector with classes"
        return Problem(number, column, "there are no text prompts", remedy)
    close = difflib.get_close_matches(str(key), known, 1)
    remedy = f"Perhaps {close[0]!r} is meant" if close else f"Known are {', '.join(known)}"
    return Problem(number, column, "the name is unknown", remedy)


def _bounded(lowest: int, why: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        return as_whole(value, lowest, why)

    return read


def _kind(value: object) -> str:
    kinds = {str: "a text", list: "a list", dict: "an object", bool: "true or false", int: "a number"}
    return kinds.get(type(value), "null" if value is None else "a number" if isinstance(value, float) else "data")
