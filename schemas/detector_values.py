"""Values of a manifest that say what a detector is to do, read strictly. Everything raises `Wrong`."""

import re
from typing import Any

from schemas.manifest_values import Wrong, as_label, as_number, as_text, as_whole, from_json, shown
from schemas.prompt import DETECTORS, check_points

NUMBERS = re.compile(r"\d+(?:[\s,]+\d+)*")


def as_detector(value: Any) -> str:
    """A detector's name."""
    name = as_text(value)
    if name not in DETECTORS:
        raise Wrong(f"no detector is called {shown(name)}", f"There are {', '.join(DETECTORS)}")
    return name


def as_names(value: Any) -> tuple[str, ...]:
    """A list of class names, or a text with commas between them."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)) or not value:
        raise Wrong(f"{shown(value)} is not a list of classes", 'Give ["person", "dog"]')
    return tuple(as_label(name) for name in value)


def as_frames(value: Any) -> tuple[int, ...]:
    """A list of frame numbers, or a text of them."""
    if isinstance(value, str) and NUMBERS.fullmatch(value.strip()):
        value = [int(part) for part in value.replace(",", " ").split()]
    if not isinstance(value, (list, tuple)) or not value:
        raise Wrong(f"{shown(value)} is not a list of frames", "Give [0, 50, 100]")
    return tuple(as_whole(frame, 0, "the first frame is 0") for frame in value)


def as_points(value: Any) -> tuple[tuple[float, float, int], ...]:
    """[[x, y, label], ...], or the same as JSON text; without a label a point lies on the object."""
    remedy = "Give [[x, y, label], ...] in pixels of the source; label 1 lies on the object, 0 does not"
    if isinstance(value, str):
        value = from_json(value)
    if not isinstance(value, (list, tuple)) or not value:
        raise Wrong(f"{shown(value)} are no points", remedy)
    points = []
    for point in value:
        if not isinstance(point, (list, tuple)) or len(point) not in (2, 3):
            raise Wrong(f"{shown(point)} is not a point", remedy)
        x, y, *label = (as_number(part) for part in point)
        points.append((x, y, int(label[0]) if label and label[0] in (0, 1) else (label[0] if label else 1)))
    try:
        check_points(tuple(points))
    except ValueError as error:
        raise Wrong(str(error), remedy) from None
    return tuple(points)
