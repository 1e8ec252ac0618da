"""A row's prompts as the page shows them: which object on which frame, with its mask or box."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rlemasklib import RLEMask

from schemas.manifest_rows import is_unfilled
from schemas.manifest_values import Wrong, as_labels, as_time, as_whole
from schemas.prompt import KINDS, Prompt
from schemas.prompt_record import PLACES, SUGGESTED, read_prompt
from schemas.urls import public_url
from stcn_core.prompts import PromptError, fit_labels, read_label_png


@dataclass(frozen=True)
class Item:
    """One object on one frame. position: of its record in the row's prompts (one PNG may hold several objects).

    kind: "mask" with `counts` (lengths of COCO runs, column by column, of the video's size; one run: absent), "box"
    with `box` (x, y, width, height), "points" with `points` ((x, y, label), ...), "suggested" (by jobs.review, and not
    filled in; object_id None: whichever) or "other": kept as it is, with `message` (what it is, or why it cannot be
    shown). frame is None only for "other". extra: what else the record says, such as a detector's settings.
    """

    position: int
    frame: int | None
    object_id: int | None
    kind: str
    counts: tuple[int, ...] = ()
    box: tuple[float, ...] | None = None
    points: tuple[tuple[float, ...], ...] | None = None
    label: str | None = None
    complete: bool = False
    message: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Without the fields that are not set."""
        shown = {name: getattr(self, name) for name in ("position", "frame", "object_id", "kind")}
        for name in ("box", "points", "label", "complete", "message", "extra"):
            if getattr(self, name):
                shown[name] = getattr(self, name)
        return shown | ({"counts": self.counts} if self.kind == "mask" else {})


def read_items(
    records: list[Any],
    base: str,
    size: tuple[int, int],
    frame_at: Callable[[float], int],
    load: Callable[[str], bytes],
) -> list[Item]:
    """All prompts of a row, in their order; none is left out.

    size: (height, width) of the video; frame_at: a time in seconds -> frame (ValueError outside the video); load: the
    bytes of a mask's PNG.
    """
    items: list[Item] = []
    for position, record in enumerate(records):
        try:
            items += _items(position, record, base, size, frame_at, load)
        except (Wrong, PromptError, ValueError, OSError) as error:
            message = f"{error.reason}. {error.remedy}" if isinstance(error, Wrong) else str(error)
            items.append(Item(position, None, None, "other", message=message))
    return items


def row_labels(record: Mapping[str, Any], items: list[Item]) -> dict[int, str]:
    """object id -> name, from the row's `labels` or else from its prompts."""
    labels = {item.object_id: item.label for item in reversed(items) if item.object_id and item.label}
    try:
        return labels | dict(as_labels(record.get("labels") or {}))
    except Wrong:
        return labels


def counts_of(mask: np.ndarray) -> tuple[int, ...]:
    """Mask [H, W] -> lengths of COCO runs."""
    return tuple(int(count) for count in RLEMask.from_array(np.ascontiguousarray(mask, np.uint8)).counts)


def rle_record(counts: list[int] | tuple[int, ...], size: tuple[int, int]) -> dict[str, Any]:
    """Runs -> {"rle": COCO RLE} as a manifest holds it, or {"absent": True} for an empty mask. Raises ValueError where
    they do not cover the size exactly."""
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or (runs < 0).any() or int(runs.sum()) != size[0] * size[1]:
        raise ValueError(f"the runs of the mask do not cover {size[1]}x{size[0]} pixels")
    if not runs[1::2].any():
        return {"absent": True}
    mask = RLEMask.from_counts(runs.astype(np.uint32), size)
    return {"rle": {"size": list(size), "counts": mask.to_dict()["counts"].decode("ascii")}}


def _items(position: int, record: Any, base: str, size: tuple, frame_at: Callable, load: Callable) -> list[Item]:
    if not isinstance(record, Mapping):
        raise ValueError("it is not an object")
    given = {key: value for key, value in record.items() if value is not None}
    said = given.pop(SUGGESTED, None)
    extra = {key: value for key, value in record.items() if key not in (*PLACES, *KINDS, "object_id", "complete")}
    if is_unfilled(record):
        frame = frame_at(as_time(given["time"])) if "time" in given else as_whole(given.get("frame"), 0, "")
        return [Item(position, frame, given.get("object_id"), "suggested", message=_reason(said), extra=extra)]
    prompt, wrongs = read_prompt(given, base)
    if prompt is None:
        where, (reason, remedy) = wrongs[0]
        raise Wrong(f"{where}: {reason}" if where else reason, remedy)
    if prompt.finds or prompt.candidates or prompt.frames:
        return [Item(position, None, None, "other", message=_described(given))]
    frame = frame_at(prompt.time_s) if prompt.frame is None else prompt.frame
    common = {"label": prompt.label, "complete": prompt.complete, "extra": extra}
    object_id = prompt.object_id or 1  # a prompt without an id is the video's only one
    if prompt.box is not None:
        return [Item(position, frame, object_id, "box", box=prompt.box, **common)]
    if prompt.absent:
        return [Item(position, frame, object_id, "mask", (size[0] * size[1],), **common)]
    if prompt.points is not None:
        return [Item(position, frame, object_id, "points", points=prompt.points, **common)]
    if prompt.rle is not None:
        height, width, counts = prompt.rle
        if (height, width) != tuple(size):
            raise PromptError(f"its mask is {width}x{height}, the video {size[1]}x{size[0]}: resize the mask")
        runs = RLEMask.from_dict({"size": [height, width], "counts": counts}).counts
        return [Item(position, frame, object_id, "mask", tuple(int(run) for run in runs), **common)]
    masks = _png_masks(prompt, size, load)
    return [Item(position, frame, key, "mask", counts_of(mask), **common) for key, mask in masks.items()]


def _png_masks(prompt: Prompt, size: tuple[int, int], load: Callable[[str], bytes]) -> dict[int, np.ndarray]:
    """The objects that a PNG gives, as `stcn_core.prompts` understands it."""
    name = public_url(prompt.mask)
    labels = fit_labels(read_label_png(load(prompt.mask), name, strict=True), size, f"mask {name}")
    present = [int(value) for value in np.unique(labels) if value]
    if prompt.object_id is None:
        if not present:
            raise PromptError(f"mask {name} is empty: give an object_id to say who is absent")
        return {value: labels == value for value in present}
    if prompt.object_id in present or not present:
        return {prompt.object_id: labels == prompt.object_id}
    if len(present) > 1:
        raise PromptError(f"mask {name} has the labels {present}, but not {prompt.object_id}")
    return {prompt.object_id: labels != 0}


def _reason(said: Any) -> str:
    """Why jobs.review suggests a frame, in words."""
    if not isinstance(said, Mapping):
        return str(said)
    doubt = [f"doubt {said['doubt']:.2f}"] if isinstance(said.get("doubt"), int | float) else []
    return ", ".join(doubt + (["no mask was found"] if said.get("no_mask") else [])) or _described(said)


def _described(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in record.items())[:300]
