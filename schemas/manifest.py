"""The manifest: which videos, and what is prompted in them. JSONL, CSV or Parquet.

A row (JSONL; the nested Parquet layout has the same names):

    {"video": "s3://bucket/a.mp4", "video_id": "a", "start": 0, "end": 900, "stride": 3, "labels": {"1": "cat"},
     "prompts": [{"frame": 120, "object_id": 1, "mask": "s3://bucket/a_120.png"},
                 {"time": "00:01:30", "object_id": 2, "box": [10, 20, 300, 200]},
                 {"frame": 0, "object_id": 3, "rle": {"size": [480, 854], "counts": "..."}, "complete": true},
                 {"frame": 9, "object_id": 3, "absent": true},
                 {"frame": 9, "object_id": 4, "points": [[310, 200, 1], [50, 60, 0]]},
                 {"time": 90, "detector": "mask-rcnn", "classes": ["person"], "max_objects": 3}]}

Only `video` and `prompts` are needed. CSV, and Parquet without a `prompts` column, hold one prompt a row in columns of
the same names (box "x y w h", points as JSON, frames "0 50 100", classes "person, dog"); rows of one video are merged.
"""

from dataclasses import replace

from schemas.manifest_formats import read_records
from schemas.manifest_rows import NO_PROMPT, read_row
from schemas.problem import Problem
from schemas.urls import file_name, public_url
from schemas.video_row import VideoRow

__all__ = ["ManifestError", "Problem", "VideoRow", "parse_manifest"]


class ManifestError(ValueError):
    """A manifest that cannot be used. `.problems` lists everything that is wrong; `str()` shows all of it."""

    def __init__(self, name: str, problems: list[Problem]):
        self.name = name
        self.problems = sorted(problems, key=lambda problem: problem.row)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"manifest {name} has {count}:", *map(str, self.problems)]))

    def __reduce__(self):
        return type(self), (self.name, self.problems)


def parse_manifest(name: str, data: bytes, base: str, bare: bool = False) -> tuple[VideoRow, ...]:
    """All rows of the manifest `name` (its suffix says the format), in its order.

    Relative video and mask paths are resolved against `base`, the folder (URL or path) of the manifest. bare: rows may
    do without prompts, because the run's detector says what is in their videos. Raises ManifestError with every problem
    of every row.
    """
    shown = file_name(public_url(name)) or public_url(name)
    records, merges, problems = read_records(name, data)
    if not records and not problems:
        problems = [Problem(0, "", "it has no rows", "Write one row per video")]
    rows: list[VideoRow] = []
    doubtful = set()
    for number, record in records:
        row, found = read_row(number, record, base)
        if bare:
            found = [problem for problem in found if problem.reason not in NO_PROMPT]
        problems += found
        if row is not None:
            rows.append(row)
            if found:
                doubtful.add(row.video_id)
    rows, found = _merge(rows) if merges else (rows, [])
    problems += found
    problems += _duplicates(rows)
    for row in rows:
        if row.video_id not in doubtful and (row.prompts or not bare):
            problems += _contradictions(row)
    if problems:
        raise ManifestError(shown, problems)
    return tuple(rows)


def _merge(rows: list[VideoRow]) -> tuple[list[VideoRow], list[Problem]]:
    """Rows of one video_id become one row with all prompts."""
    merged: dict[str, VideoRow] = {}
    problems = []
    for row in rows:
        first = merged.setdefault(row.video_id, row)
        if first is row:
            continue
        if first.video != row.video:
            problems.append(
                Problem(
                    row.row,
                    "video_id",
                    f"{row.video_id!r} is another video in row {first.row}",
                    "Give every video its own video_id",
                )
            )
            continue
        values: dict[str, int | None] = {}
        for column in ("start", "end", "stride"):
            ours, theirs = getattr(first, column), getattr(row, column)
            if ours is not None and theirs is not None and ours != theirs:
                reason = f"it is {theirs}, but {ours} in row {first.row} of the same video"
                problems.append(Problem(row.row, column, reason, "Give one value per video"))
            values[column] = theirs if ours is None else ours
        labels = tuple(dict.fromkeys((*first.labels, *row.labels)))
        merged[row.video_id] = replace(first, prompts=first.prompts + row.prompts, labels=labels, **values)
    return list(merged.values()), problems


def _duplicates(rows: list[VideoRow]) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for row in rows:
        if first.setdefault(row.video_id, row.row) != row.row:
            reason = f"{row.video_id!r} is also the video_id of row {first[row.video_id]}"
            remedy = "Give every row its own video_id; several prompts of a video belong in one row's prompts"
            problems.append(Problem(row.row, "video_id", reason, remedy))
    return problems


def _contradictions(row: VideoRow) -> list[Problem]:
    """What only shows with all prompts of a video side by side."""
    problems = []
    if not row.prompts:
        remedy = "Add a mask, rle, box or points with a frame or time and an object_id, or a detector"
        return [Problem(row.row, "prompts", "no prompt is given", remedy)]
    seen: dict[tuple, int] = {}
    for number, prompt in enumerate(row.prompts, 1):
        where = prompt.frame if prompt.time_s is None else f"{prompt.time_s:g} s"
        if prompt.object_id is None and prompt.mask is None and not prompt.finds and len(row.prompts) > 1:
            reason = "it has no object_id, but the video has several prompts"
            problems.append(Problem(row.row, f"prompt {number}", reason, "Give the object_id"))
        key = (prompt.frame, prompt.time_s, prompt.frames, prompt.candidates, prompt.object_id)
        # What a detector finds by itself has its number from there on, and may be corrected where it was found.
        if prompt.object_id is not None and not prompt.finds and seen.setdefault(key, number) != number:
            reason = f"object {prompt.object_id} has two prompts on frame {where} (prompt {seen[key]} too)"
            problems.append(Problem(row.row, f"prompt {number}", reason, "Keep one of them"))
    ids = {None if prompt.finds else prompt.object_id for prompt in row.prompts}
    labels: dict[int, str] = {}
    for object_id, label in (*row.labels, *((p.object_id, p.label) for p in row.prompts if p.label)):
        if object_id is not None and labels.setdefault(object_id, label) != label:
            reason = f"object {object_id} is called {labels[object_id]!r} and {label!r}"
            problems.append(Problem(row.row, "label", reason, "Give one label per object"))
        if None not in ids and object_id not in ids:
            reason = f"object {object_id} has a label, but no prompt"
            problems.append(Problem(row.row, "labels", reason, "Add its prompt or remove the label"))
    return problems
