"""From a manifest's prompts to first masks: which object is given or guessed where.

Given masks (PNG or RLE, an empty one or `absent` for "not visible") are facts: they are pinned and written unchanged.
A box, filled as a rectangle, and what a detector finds (stcn_core/detection.py) are only guesses of a mask to start
from: they seed the memory, and their frames are predicted again.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor

import numpy as np
from PIL import Image
from rlemasklib import RLEMask

from schemas.prompt import Prompt
from schemas.urls import public_url
from stcn_core.found import Found

VOID = 255
# Grey PNGs hold either 0 and 255 or small object numbers; values between these are anti-aliased edges.
LARGEST_GREY_ID = 64


class PromptError(ValueError):
    """A prompt that cannot be used. The message says which and what to change."""


class NothingFound(PromptError):
    """A detector sees nothing, or nothing that fits, where a prompt says that there is an object."""


@dataclass
class FramePrompts:
    """What is said about one frame: object id -> uint8 mask [H, W] of 0 and 1 at the source's size.

    given may hold empty masks: the object is absent there. seeds are filled boxes and detections.
    """

    given: dict[int, np.ndarray] = field(default_factory=dict)
    seeds: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def shows(self) -> bool:
        """Whether an object is to be seen there."""
        return any(mask.any() for mask in (*self.given.values(), *self.seeds.values()))


def found_again(mask: np.ndarray, guess: np.ndarray) -> bool:
    """Whether a mask [h, w] is of the object that a guess (a filled box, a detection) of the same size shows: most of
    it lies inside the guess, and it is no speck there. A thin object fills a small part of its box."""
    inside = np.count_nonzero(mask & (guess != 0))
    return bool(inside) and 2 * inside >= np.count_nonzero(mask) and 10 * inside >= np.count_nonzero(guess)


@dataclass(frozen=True)
class PromptSet:
    """All prompts of one video: object ids ascending (they need not be contiguous) and frames ascending.

    found: object id -> the detection that it starts from.
    """

    object_ids: tuple[int, ...]
    frames: dict[int, FramePrompts]
    found: dict[int, Found] = field(default_factory=dict)

    @property
    def shown_frames(self) -> tuple[int, ...]:
        """Frames whose masks show something, if there are any: where an object is absent, nobody learns its looks."""
        return tuple(frame for frame, here in self.frames.items() if here.shows) or tuple(self.frames)


def resolve_prompts(
    prompts: Sequence[Prompt],
    size: tuple[int, int],
    frame_at: Callable[[float], int],
    load: Callable[[str], bytes],
    found: Sequence[Found] = (),
) -> PromptSet:
    """Reads every prompt's mask.

    size is the source's (height, width); frame_at gives the last frame at or before a time in seconds; load reads
    a URL; found are the objects of the prompts that need a detector. Raises PromptError for anything that cannot be
    used.
    """
    frames: dict[int, FramePrompts] = {}
    complete = set()
    detected = {(one.frame, one.object_id) for one in found if prompts[one.prompt - 1].finds}
    for one in found:
        here = frames.setdefault(one.frame, FramePrompts())
        if one.object_id in here.seeds:
            raise PromptError(f"prompt {one.prompt}: object {one.object_id} has two prompts on frame {one.frame}")
        here.seeds[one.object_id] = one.mask
        if prompts[one.prompt - 1].complete:
            complete.add(one.frame)
    for number, prompt in enumerate(prompts, 1):
        matched = prompt.detects and (prompt.mask is not None or prompt.rle is not None)
        if prompt.detects and not matched:
            continue
        frame = frame_at(prompt.time_s) if prompt.frame is None else prompt.frame
        here = frames.setdefault(frame, FramePrompts())
        if prompt.complete:
            complete.add(frame)
        for object_id, mask, guessed in _masks(prompt, number, size, load, alone=len(prompts) == 1):
            if matched and mask.any():
                continue  # it only says which detection is meant; an empty one says absent all the same
            if not guessed and (frame, object_id) in detected:
                here.seeds.pop(object_id, None)  # a correction of what the detector found by itself
            if object_id in here.given or object_id in here.seeds:
                raise PromptError(f"prompt {number}: object {object_id} has two prompts on frame {frame}: keep one")
            (here.seeds if guessed else here.given)[object_id] = mask
    ids = sorted({i for here in frames.values() for i in (*here.given, *here.seeds)})
    for frame in complete:
        for object_id in ids:
            if object_id not in frames[frame].given and object_id not in frames[frame].seeds:
                frames[frame].given[object_id] = np.zeros(size, np.uint8)
    seen = {i for h in frames.values() for i, mask in (*h.given.items(), *h.seeds.items()) if mask.any()}
    blank = [i for i in ids if i not in seen]
    if blank or not ids:
        which = f"object {blank[0]} has only empty masks" if blank else "no prompt shows an object"
        raise PromptError(f"{which}: at least one prompt of each object must show it")
    return PromptSet(tuple(ids), dict(sorted(frames.items())), {one.object_id: one for one in found})


def read_label_png(data: bytes, name: str, strict: bool = False) -> np.ndarray:
    """Palette or grey PNG -> label map uint8 [H, W]; 255 in a palette image is void and becomes 0.

    Grey images of 0 and 255 become 0 and 1; grey with alpha is read by its grey. strict: refuses pictures that
    a data set may hold, but that a tool more likely wrote by mistake: a palette picture with no object but void, or
    whose background is white and object black. Raises PromptError.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            mode, kind = image.mode, image.format
            palette = (image.getpalette("RGB") or [])[:6] if mode == "P" else []
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PromptError(f"mask {name} is not a readable picture ({error}): save it as PNG") from error
    if kind != "PNG":  # a lossy format blurs object numbers into other object numbers
        raise PromptError(f"mask {name} is a {kind} picture, which may not keep object numbers: save it as PNG")
    if pixels.ndim == 3:
        colour = pixels[..., : 3 if mode in ("RGB", "RGBA") else 1]
        if (colour != colour[..., :1]).any():
            raise PromptError(f"mask {name} is a colour picture ({mode}): save object numbers as palette or grey PNG")
        if mode in ("RGBA", "LA") and colour.min() == colour.max() and pixels[..., -1].min() < pixels[..., -1].max():
            raise PromptError(f"mask {name} is one grey with its shape in the alpha channel: save that as a grey PNG")
        pixels = colour[..., 0]
    values = np.unique(pixels)
    if strict and mode == "P" and VOID in values and set(values.tolist()) <= {0, VOID}:
        raise PromptError(
            f"mask {name} is a palette picture of 0 and 255, which is void in a palette: save it as grey, or with the "
            "object's number for 255"
        )
    if strict and palette == [255, 255, 255, 0, 0, 0] and set(values.tolist()) <= {0, 1}:
        raise PromptError(
            f"mask {name} is a palette picture whose number 0, the background, is white and 1 is black: save it as grey"
        )
    if mode == "1":
        return pixels.astype(np.uint8)
    if mode != "P" and set(values.tolist()) <= {0, VOID}:
        return (pixels == VOID).astype(np.uint8)
    between = [int(v) for v in values if v != VOID and (v > LARGEST_GREY_ID if mode != "P" else v > VOID)]
    if between:
        raise PromptError(
            f"mask {name} has the grey value {between[0]}: write 0 and 255, or object numbers up to {LARGEST_GREY_ID}"
        )
    return np.where(pixels == VOID, 0, pixels).astype(np.uint8)


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask [H, W] of 0 and 1 -> uint8 [h, w]: pixels covered by half or more. A thin object is not lost altogether."""
    if mask.shape == tuple(size):
        return mask
    # Only here, so that reading prompts needs no torch.
    import torch
    import torch.nn.functional as F

    covered = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="area")[0, 0].numpy()
    small = covered >= 0.5
    return (small if small.any() else covered > 0).astype(np.uint8)


def given_masks(
    prompt: Prompt, number: int, size: tuple[int, int], load: Callable[[str], bytes]
) -> list[tuple[int, np.ndarray]]:
    """(object id, mask uint8 [H, W]) of a prompt with a mask or RLE, the prompt's `number` for messages.

    Raises PromptError.
    """
    if prompt.mask is not None:
        labels = read_label_png(load(prompt.mask), public_url(prompt.mask), strict=True)
        return _by_object(fit_labels(labels, size, f"mask {public_url(prompt.mask)}"), prompt)
    height, width, counts = prompt.rle
    _check_size((height, width), size, f"prompt {number}: the RLE")
    try:
        mask = RLEMask.from_dict({"size": [height, width], "counts": counts}).to_array(order="C")
    except ValueError as error:
        reason = f"prompt {number}: the RLE counts are damaged ({error})"
        raise PromptError(f"{reason}: give COCO's compressed counts of a {height}x{width} mask") from error
    return [(prompt.object_id or 1, mask.astype(np.uint8))]


def _masks(
    prompt: Prompt, number: int, size: tuple[int, int], load: Callable[[str], bytes], alone: bool
) -> list[tuple[int, np.ndarray, bool]]:
    """(object id, mask, guessed) of one prompt."""
    if prompt.object_id is None and prompt.mask is None and not alone:
        raise PromptError(f"prompt {number}: give an object_id, there are several prompts")
    if prompt.absent:
        return [(prompt.object_id, np.zeros(size, np.uint8), False)]
    if prompt.box is not None:
        return [(prompt.object_id or 1, _rectangle(prompt.box, size, number), True)]
    return [(object_id, mask, False) for object_id, mask in given_masks(prompt, number, size, load)]


def _by_object(labels: np.ndarray, prompt: Prompt) -> list[tuple[int, np.ndarray]]:
    present = [int(value) for value in np.unique(labels) if value]
    if prompt.object_id is None:
        if not present:
            raise PromptError(f"mask {public_url(prompt.mask)} is empty: give an object_id to say who is absent")
        return [(value, (labels == value).astype(np.uint8)) for value in present]
    if prompt.object_id in present:
        return [(prompt.object_id, (labels == prompt.object_id).astype(np.uint8))]
    if len(present) > 1:
        raise PromptError(
            f"mask {public_url(prompt.mask)} has the labels {present}, but not {prompt.object_id}: "
            "give one of them as object_id, or none for all of them"
        )
    return [(prompt.object_id, (labels != 0).astype(np.uint8))]


def fit_labels(labels: np.ndarray, size: tuple[int, int], what: str) -> np.ndarray:
    """uint8 [h, w] labels at the video's size (H, W). One pixel more or less is rounding (480p DAVIS: 853 for 854):
    the last row or column is dropped or repeated. Raises PromptError for any other size."""
    if max(abs(found - wanted) for found, wanted in zip(labels.shape, size, strict=True)) > 1:
        _check_size(labels.shape, size, what)
    grown = np.pad(labels, [(0, max(0, w - f)) for f, w in zip(labels.shape, size, strict=True)], mode="edge")
    return grown[: size[0], : size[1]]


def _check_size(found: tuple[int, ...], size: tuple[int, int], what: str) -> None:
    if tuple(found) != tuple(size):
        raise PromptError(
            f"{what} is {found[1]}x{found[0]}, the video {size[1]}x{size[0]} (as shown, after rotation): "
            "resize the mask to the video's size"
        )


def _rectangle(box: tuple[float, float, float, float], size: tuple[int, int], number: int) -> np.ndarray:
    x, y, width, height = box
    rows, columns = _covered(y, height, size[0]), _covered(x, width, size[1])
    if rows is None or columns is None:
        raise PromptError(
            f"prompt {number}: box {list(box)} (x, y, w, h) lies outside the {size[1]}x{size[0]} frame: "
            "give it in pixels of the video as shown, after rotation"
        )
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = 1
    return mask


def _covered(start: float, length: float, limit: int) -> slice | None:
    """The pixels whose centres the interval covers, or the one it lies on. None where it is outside the frame."""
    low, high = max(0.0, start), min(float(limit), start + length)
    if low >= high:
        return None
    first, end = floor(low + 0.5), floor(high + 0.5)
    if first == end:  # thinner than a pixel
        first = floor((low + high) / 2)
        end = first + 1
    return slice(first, end)
