"""Single values of a manifest row, read strictly. Everything raises `Wrong` with a reason and a remedy."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from schemas.urls import public_url

LARGEST = 2**31 - 1
ID_BYTES = 200
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


class Wrong(Exception):
    """A value that cannot be used: `reason` and `remedy`, both without a full stop."""

    def __init__(self, reason: str, remedy: str):
        self.reason, self.remedy = reason, remedy
        super().__init__(reason, remedy)


def shown(value: object) -> str:
    """`value` for a message: without credentials, cut short."""
    text = public_url(repr(value))
    return text if len(text) <= 60 else text[:50] + "..." + text[-5:]


def as_text(value: Any) -> str:
    """A text that is not blank and can be stored and used as a path."""
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is not a text", "Put it in quotes")
    if not value.strip():
        raise Wrong("it is empty", "Fill it in or leave it out")
    if value != value.strip():
        raise Wrong(f"{shown(value)} begins or ends with a blank", "Remove the blank")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise Wrong(f"{shown(value)} holds a control character", "Remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong(f"{shown(value)} is not valid Unicode", "Write it in UTF-8") from None
    return value


def as_label(value: Any) -> str:
    """A short text."""
    text = as_text(value)
    if len(text) > 1000:
        raise Wrong("it is longer than 1000 characters", "Give a shorter one")
    return text


def as_id(value: Any) -> str:
    """A video_id: a short text that may be a file's name."""
    text = as_label(value)
    if len(text.encode()) > ID_BYTES:
        raise Wrong(f"it is longer than {ID_BYTES} bytes", "Give a shorter one")
    if text in (".", "..") or "/" in text or "\\" in text:
        raise Wrong(f"{text!r} holds a slash or is a folder", "Use a name without / and \\")
    return text


def as_whole(value: Any, lowest: int, why: str) -> int:
    """A whole number from `lowest`; 3.0 counts (tables that know no missing whole numbers write it)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Wrong(f"{shown(value)} is not a whole number", "Give a number without quotes")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Wrong(f"{shown(value)} is not a number", "Give a whole number, or leave it out")
        if value != int(value):
            raise Wrong(f"{value:g} is not a whole number", "Give a whole number")
    if value < lowest:
        raise Wrong(f"{int(value)} is below {lowest}; {why}", f"Give a number from {lowest}")
    if value > LARGEST:
        raise Wrong(f"{shown(value)} is too large", f"Give at most {LARGEST}")
    return int(value)


def as_time(value: Any) -> float:
    """Seconds, or "HH:MM:SS.fff", or "MM:SS"."""
    if isinstance(value, str):
        match = _CLOCK.fullmatch(value)
        if match and float(match[3]) < 60 and (not match[1] or int(match[2]) < 60):
            return int(match[1] or 0) * 3600.0 + int(match[2]) * 60 + float(match[3])
        raise Wrong(f"{shown(value)} is not a time", 'Give seconds, or "HH:MM:SS.fff"')
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Wrong(f"{shown(value)} is not a time", 'Give seconds, or "HH:MM:SS.fff"')
    seconds = as_number(value)
    if seconds < 0:
        raise Wrong(f"{shown(value)} s is before the video", "Give a time from 0")
    return seconds


def as_number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Wrong(f"{shown(value)} is not a number", "Give a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Wrong(f"{shown(value)} is not a finite number", "Give a number")
    return number


def as_flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong(f"{shown(value)} is not true or false", "Write true or false")
    return value


def as_labels(value: Any) -> tuple[tuple[int, str], ...]:
    """{"1": "cat", ...}, or the same as JSON text, or Parquet's map (a list of pairs)."""
    if isinstance(value, str):
        value = from_json(value)
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)
    if not isinstance(value, Mapping):
        raise Wrong(f"{shown(value)} is not an object", 'Give {"1": "label"}')
    labels = {}
    for key, label in value.items():
        if label is None:
            continue
        if isinstance(key, str) and re.fullmatch(r"\d{1,10}", key):
            key = int(key)
        labels[as_whole(key, 1, "0 is the background")] = as_label(label)
    return tuple(sorted(labels.items()))


def from_json(text: str | bytes) -> Any:
    """JSON, strictly: a key that stands twice in an object is an error. Raises Wrong."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
        raise Wrong(reason, "Write JSON on one line") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise Wrong(f"the name {shown(twice)} stands twice in one object", "Keep one of them")
    return record
