"""Masks drawn into a frame: a tint, a solid inner outline, and the object's id."""

import colorsys
from collections.abc import Mapping
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GOLDEN_RATIO = 0.618033988749895
# Rare in nature first; neighbours in the list differ in lightness too, for people who confuse red and green.
FIRST_COLOURS = (
    (240, 60, 200),
    (0, 210, 170),
    (255, 140, 0),
    (60, 130, 255),
    (245, 225, 50),
    (130, 80, 230),
    (150, 230, 80),
    (225, 45, 40),
)
TRUTH_COLOUR = (255, 255, 255)


@cache
def object_colour(object_id: int) -> tuple[int, int, int]:
    """RGB of an object: the same in every frame, video and run; neighbouring ids differ clearly."""
    if 1 <= object_id <= len(FIRST_COLOURS):
        return FIRST_COLOURS[object_id - 1]
    hue = (object_id * GOLDEN_RATIO) % 1.0
    value = (1.0, 0.8)[object_id % 2]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, value))


def draw_masks(
    frame: np.ndarray,
    masks: Mapping[int, np.ndarray],
    opacity: float = 0.4,
    labels: bool = True,
    truth: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """`frame` uint8 [H, W, 3] with `masks` {object id: bool or uint8 [H, W]} drawn in; a new array.

    `truth` masks become a thin white outline outside the object. Raises ValueError for a mask of another size.
    """
    drawn = frame.copy()
    size = frame.shape[:2]
    thickness = line_width(*size)
    for object_id, mask in sorted(masks.items()):
        box = _box(mask, object_id, size, margin=0)
        if box is None:
            continue
        inside = np.asarray(mask[box], bool)
        colour = np.array(object_colour(object_id), np.float32)
        part = drawn[box]
        tinted = part[inside] * np.float32(1 - opacity) + colour * np.float32(opacity)
        part[inside] = (tinted + 0.5).astype(np.uint8)
        part[inside & ~_eroded(inside, thickness)] = object_colour(object_id)
    for object_id, mask in sorted((truth or {}).items()):
        box = _box(mask, object_id, size, margin=2)
        if box is not None:
            inside = np.asarray(mask[box], bool)
            drawn[box][_grown(inside) & ~inside] = TRUTH_COLOUR
    return _labelled(drawn, masks) if labels else drawn


def line_width(height: int, width: int) -> int:
    """Thickness of outlines in pixels: 1 for thumbnails, 2 up to 480p, 3 at 720p, 4 at 1080p."""
    shorter = min(height, width)
    return max(1 if shorter < 160 else 2, round(shorter / 240))


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font at `size` pixels."""
    return _font(max(int(size), 8))


@cache
def _font(size: int):
    return ImageFont.load_default(size)


def _box(mask: np.ndarray, object_id: int, size: tuple[int, int], margin: int) -> tuple[slice, slice] | None:
    """Where the mask is, so that only that part is worked on; None for an empty mask."""
    if mask.shape != size:
        raise ValueError(
            f"the mask of object {object_id} is {mask.shape[1]}x{mask.shape[0]}, the frame {size[1]}x{size[0]}"
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin),
    )


def _eroded(mask: np.ndarray, steps: int) -> np.ndarray:
    """bool [h, w] without the pixels within `steps` of the edge; beyond the array counts as outside."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _grown(mask: np.ndarray) -> np.ndarray:
    """bool [h, w] with the pixels next to it."""
    padded = np.pad(mask, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _labelled(drawn: np.ndarray, masks: Mapping[int, np.ndarray]) -> np.ndarray:
    height, width = drawn.shape[:2]
    font = font_of(round(min(height, width) / 26) + 4)
    image = Image.fromarray(drawn)
    pen = ImageDraw.Draw(image)
    for object_id, mask in sorted(masks.items()):
        box = _box(mask, object_id, (height, width), margin=0)
        if box is None:
            continue
        text, colour = str(object_id), object_colour(object_id)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        pad = max(2, (bottom - top) // 4)
        half_w, half_h = (right - left) / 2 + pad * 1.5, (bottom - top) / 2 + pad
        x, y = _inner_point(mask)
        if min(box[0].stop - box[0].start, box[1].stop - box[1].start) < 4 * half_h:  # a label inside would hide it
            x, above = (box[1].start + box[1].stop) / 2, box[0].start - half_h - 2
            y = above if above >= half_h else box[0].stop + half_h + 2
        x, y = min(max(x, half_w), width - 1 - half_w), min(max(y, half_h), height - 1 - half_h)
        pen.rounded_rectangle(
            (x - half_w, y - half_h, x + half_w, y + half_h), radius=pad, fill=colour, outline="black"
        )
        dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 120
        pen.text((x - (left + right) / 2, y - (top + bottom) / 2), text, font=font, fill="black" if dark else "white")
    return np.asarray(image)


def _inner_point(mask: np.ndarray) -> tuple[float, float]:
    """(x, y) in a mask, not empty: in the row nearest to the centre of mass, the middle of the longest run."""
    rows = np.flatnonzero(mask.any(1))
    weights = np.count_nonzero(mask, axis=1)[rows]
    y = int(rows[np.abs(rows - (rows * weights).sum() / weights.sum()).argmin()])
    edges = np.flatnonzero(np.diff(np.pad(np.asarray(mask[y], bool).astype(np.int8), 1)))
    starts, ends = edges[::2], edges[1::2]
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest]) // 2, y
