"""What a benchmark's protocol is: how true masks are found, what counts, and which published rows ours goes under."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.truth import find_truth, read_labels
from stcn_core.metrics import Counted

# What a protocol's table may show. Shares are printed in percent, as papers do; FPS as it is.
PERCENT = ("J&F", "J", "F", "J_seen", "F_seen", "J_unseen", "F_unseen")


@dataclass(frozen=True)
class Published:
    """One row of a published table. scores: column -> percent (FPS as it is); source: where it stands."""

    system: str
    scores: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class TruthPlace:
    """Where the true masks lie, and what else the command line says of them.

    url as given; fs and root the same for reading. truth_frames: `order`, `number` or None. meta and seen are further
    files (URLs) that some protocols want, None where they are not given; options those of fsspec.
    """

    url: str
    fs: Any
    root: str
    truth_frames: str | None = None
    meta: str | None = None
    seen: str | None = None
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class VideoTruth:
    """One video's true masks.

    frames: (frame index, whatever `read` takes) in frame order; read gives {object id: mask [H, W]} of one, at the size
    that the masks have. by: how frames were told; example: a file's URL, for messages. groups: object id -> a name that
    the protocol's `row` averages by. doubt: as in cluster.truth.Truth.
    """

    by: str
    example: str
    frames: tuple[tuple[int, Any], ...]
    read: Callable[[Any], dict[int, np.ndarray]]
    groups: Mapping[int, str] = field(default_factory=dict)
    doubt: str | None = None


def png_truth(place: TruthPlace, video: Mapping[str, Any]) -> VideoTruth | None:
    """PNGs of labels, in any of the layouts that `jobs.evaluate --help` lists. video: a row of the `videos` table.

    None where there are none. Raises TruthError, OSError.
    """
    found = find_truth(place.fs, place.root, video, place.truth_frames, place.options)
    if found is None:
        return None
    size = (video["height"], video["width"])

    def read(path: str) -> dict[int, np.ndarray]:
        labels = read_labels(place.fs, path, size)
        return {int(k): labels == k for k in np.flatnonzero(np.bincount(labels.ravel())) if k}

    return VideoTruth(found.by, found.example, found.files, read, doubt=found.doubt)


def mean_over_objects(videos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The means over all objects of all videos, whichever video they are in."""
    objects = [row for video in videos for row in video["objects"]]
    return {name: float(np.mean([row[name] for row in objects])) for name in ("J&F", "J", "F")}


@dataclass(frozen=True)
class Protocol:
    """A benchmark's rules.

    wants says in words what --truth (and --meta, --seen) must hold. columns are those of the table; row makes ours from
    the report's videos. all_frames: the first and last frame count. merged: all labels are one object. first_objects:
    only the labels 1 to the first true mask's largest count, as in davis2017-evaluation. counted: see
    stcn_core.metrics. find gives a video's truth, None where there is none.
    """

    name: str
    title: str
    wants: str
    columns: tuple[str, ...] = ("J&F", "J", "F")
    published: tuple[Published, ...] = ()
    all_frames: bool = False
    merged: bool = False
    first_objects: bool = False
    counted: Counted = "every"
    find: Callable[[TruthPlace, Mapping[str, Any]], VideoTruth | None] = png_truth
    row: Callable[[Sequence[Mapping[str, Any]]], dict[str, float]] = mean_over_objects
    note: str = ""


def published_table(protocol: Protocol, ours: Mapping[str, float]) -> list[str]:
    """The published rows and, under them, ours."""
    head = (protocol.title, *(name.replace("_", " ") for name in protocol.columns), "source")
    lines = [head]
    for row in protocol.published:
        lines.append((row.system, *(_cell(row.scores.get(name)) for name in protocol.columns), row.source))
    lines.append(("ours", *(_cell(_percent(name, ours.get(name))) for name in protocol.columns), "this run"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for system, *numbers, source in lines:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
        text.append("  ".join([system.ljust(widths[0]), *cells, source]).rstrip())
    text[-1:-1] = ["-" * max(map(len, text))]
    return [*text, *([protocol.note] if protocol.note else [])]


def _percent(name: str, value: float | None) -> float | None:
    return None if value is None else value * 100 if name in PERCENT else value


def _cell(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.1f}"
