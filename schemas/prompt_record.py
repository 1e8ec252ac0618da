"""A prompt as it stands in a manifest -> `Prompt`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rlemasklib import RLEMask

from schemas.detector_values import as_detector, as_frames, as_names, as_points
from schemas.manifest_values import Wrong, as_flag, as_label, as_number, as_text, as_time, as_whole, from_json, shown
from schemas.prompt import KINDS, Prompt, check_box
from schemas.urls import resolve

FIELDS = (
    "frame", "time", "object_id", "mask", "rle", "box", "label", "complete", "points", "absent", "detector", "classes",
    "max_objects", "min_score", "matching", "frames", "candidates", "detector_sha256",
)  # fmt: skip
SUGGESTED = "suggested"  # what jobs.review says of a prompt that it suggests: for a person to read
PLACES = ("frame", "time", "frames", "candidates")
LOSSY = (".jpg", ".jpeg", ".webp", ".mp4", ".gif")


def read_prompt(record: Mapping[str, Any], base: str) -> tuple[Prompt | None, list[tuple[str, tuple[str, str]]]]:
    """A record without nulls -> (prompt or None, [(field, (reason, remedy)), ...]).

    A relative mask is resolved against the folder `base`. `mask` may hold an RLE object instead of a URL.
    """
    wrongs: list[tuple[str, tuple[str, str]]] = []

    def take(name: str, read: Callable[[Any], Any]) -> Any:
        if name not in record:
            return None
        try:
            return read(record[name])
        except Wrong as wrong:
            wrongs.append((name, (wrong.reason, wrong.remedy)))
            return None

    kinds = [name for name in KINDS if record.get(name, False) is not False]
    if len(kinds) != 1 and (kinds or "detector" not in record):
        reason = f"{' and '.join(kinds)} are given together" if kinds else f"none of {', '.join(KINDS)} and detector is"
        wrongs.append(("", (reason if kinds else f"{reason} given", "Give exactly one of them")))
    alone = not kinds and "detector" in record
    places = [name for name in PLACES if name in record]
    if len(places) > 1 or (not places and not alone):
        reason = f"{' and '.join(places)} are both given" if places else "neither frame nor time is given"
        wrongs.append(("", (reason, 'Give one of them: "frame" from 0, or "time" in seconds')))
    values = {
        "frame": take("frame", lambda value: as_whole(value, 0, "the first frame is 0")),
        "time_s": take("time", as_time),
        "object_id": take("object_id", lambda value: as_whole(value, 1, "0 is the background")),
        "mask": take("mask", _as_mask),
        "rle": take("rle", _as_rle),
        "box": take("box", _as_box),
        "label": take("label", as_label),
        "complete": bool(take("complete", as_flag)),
        "points": take("points", as_points),
        "absent": bool(take("absent", as_flag)),
        "detector": take("detector", as_detector),
        "classes": take("classes", as_names),
        "max_objects": take("max_objects", lambda value: as_whole(value, 1, "it is how many are taken")),
        "min_score": take("min_score", as_number),
        "matching": take("matching", as_text),
        "frames": take("frames", as_frames),
        "candidates": take("candidates", lambda value: as_whole(value, 1, "it is how many frames are looked at")),
        "detector_sha256": take("detector_sha256", as_text),
    }
    if wrongs:
        return None, wrongs
    if isinstance(values["mask"], tuple):
        values["mask"], values["rle"] = None, values["mask"]
    if values["mask"] is not None:
        values["mask"] = resolve(values["mask"], base)
    try:
        return Prompt(**values), []
    except ValueError as error:
        return None, [("", (str(error), "Give a mask, rle, box, points, absent or a detector, as README shows"))]


def _as_mask(value: Any) -> str | tuple[int, int, bytes]:
    if isinstance(value, Mapping):
        return _as_rle(value)
    url = as_text(value)
    if url.lower().split("?", 1)[0].endswith(LOSSY):
        raise Wrong(f"{shown(url)} is not a PNG", "Save the mask as palette or grey PNG (JPEG changes labels)")
    return url


def _as_box(value: Any) -> tuple[float, float, float, float]:
    remedy = "Give [x, y, width, height] in pixels of the source"
    if isinstance(value, str):
        try:
            value = [float(part) for part in value.replace(",", " ").split()]
        except ValueError:
            raise Wrong(f"{shown(value)} is not a box", 'Give "x y width height" in pixels of the source') from None
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"{shown(value)} is not a box", remedy)
    box = tuple(as_number(item) for item in value)
    try:
        check_box(box)
    except ValueError as error:
        raise Wrong(str(error), remedy) from None
    return box


def _as_rle(value: Any) -> tuple[int, int, bytes]:
    """COCO RLE: {"size": [height, width], "counts": text, bytes or list of runs}."""
    remedy = 'Give COCO RLE: {"size": [height, width], "counts": "..."}'
    if isinstance(value, str):
        value = from_json(value)
    if not isinstance(value, Mapping) or set(value) != {"size", "counts"}:
        raise Wrong(f"{shown(value)} is not an RLE", remedy)
    size, counts = value["size"], value["counts"]
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise Wrong(f"its size is {shown(size)}", remedy)
    height, width = (as_whole(item, 1, "a mask has an area") for item in size)
    if height * width > 2**31 - 1:
        raise Wrong(f"its size {height} x {width} is too large", remedy)
    if isinstance(counts, str):
        if not counts.isascii():
            raise Wrong("its counts are not ASCII", remedy)
        counts = counts.encode()
    try:
        if isinstance(counts, bytes):
            # Checks that the runs cover the size exactly.
            RLEMask.from_dict({"size": [height, width], "counts": counts})
            return height, width, counts
        if isinstance(counts, (list, tuple)):
            runs = [as_whole(item, 0, "a run has a length") for item in counts]
            if sum(runs) != height * width:
                raise Wrong(f"its runs cover {sum(runs)} pixels, its size {height * width}", remedy)
            mask = RLEMask.from_counts(np.asarray(runs, dtype=np.uint32), (height, width))
            return height, width, mask.to_dict()["counts"]
    except (ValueError, TypeError, OverflowError) as error:
        raise Wrong(f"its counts are damaged ({error})", remedy) from None
    raise Wrong(f"its counts are {shown(counts)}", remedy)
