"""Masks as the formats write them: compressed or plain run lengths, polygons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rlemasklib import RLEMask

from schemas.convert.video import ConvertError

LARGEST_SIDE = 1 << 16


def text_rle(counts: bytes, height: int, width: int) -> dict[str, Any]:
    """Compressed RLE as JSON holds it: {"size": [h, w], "counts": text}."""
    return {"size": [height, width], "counts": counts.decode("ascii")}


def plain_rle(counts: bytes, height: int, width: int) -> dict[str, Any]:
    """Uncompressed RLE: {"size": [h, w], "counts": [pixels outside, pixels inside, ...]}, column by column."""
    mask = RLEMask.from_dict({"size": [height, width], "counts": counts})
    return {"size": [height, width], "counts": np.asarray(mask.counts).tolist()}


def empty_counts(height: int, width: int) -> bytes:
    """Compressed RLE of a mask without a pixel."""
    return RLEMask.zeros((height, width)).to_dict()["counts"]


def found_counts(value: Any, height: int, width: int, where: str) -> bytes:
    """Compressed RLE in its canonical form, from what a file gives. Empty masks are fine. where: for messages.

    value: a COCO RLE record with compressed (text or bytes) or plain counts, bare compressed counts, or polygons (a
    list of [x, y, x, y, ...]). Raises ConvertError where it is none of these or not of size [height, width].
    """
    try:
        if isinstance(value, dict):
            size = [int(side) for side in value["size"]][:2]
            if size != [height, width]:
                raise ConvertError(
                    f"{where} is {size[1]}x{size[0]}, its video {width}x{height}: give masks of the video's size"
                )
            value = value["counts"]
        mask = _mask(value, height, width)
    except ConvertError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConvertError(f"{where} is no mask of {width}x{height} pixels ({what})") from error
    return mask.to_dict()["counts"]


def checked_size(height: Any, width: Any, where: str) -> tuple[int, int]:
    """Height and width as whole numbers. Raises ConvertError for what is no size of a picture."""
    sides = []
    for side in (height, width):
        if isinstance(side, bool) or not isinstance(side, int | float) or side != int(side):
            raise ConvertError(f"{where} has the size {width!r}x{height!r}: whole numbers of pixels are needed")
        if not 1 <= side <= LARGEST_SIDE:
            raise ConvertError(f"{where} has the size {width}x{height}: 1 to {LARGEST_SIDE} pixels a side can be read")
        sides.append(int(side))
    return sides[0], sides[1]


def _mask(value: Any, height: int, width: int) -> RLEMask:
    if isinstance(value, str):
        value = value.encode("ascii")
    if isinstance(value, bytes):
        return RLEMask.from_dict({"size": [height, width], "counts": value})
    if isinstance(value, Sequence) and value and isinstance(value[0], Sequence):
        return RLEMask.union([_polygon(one, height, width) for one in value])
    counts = np.asarray(value)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError("counts are neither text nor whole numbers from 0")
    return RLEMask.from_counts(counts.astype(np.uint32), (height, width))


def _polygon(points: Sequence[float], height: int, width: int) -> RLEMask:
    corners = np.asarray(points, np.float64)
    if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
        raise ValueError("a polygon needs three corners x, y or more")
    return RLEMask.from_polygon(corners.reshape(-1, 2), imshape=(height, width))
