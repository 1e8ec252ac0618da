"""Cleaning masks on their run-length codes: closing, cropping, components, holes, agreement over time. Needs no torch.

Steps are written as `close=2,crop=0.15,largest` and done in that order. Every step takes one object's masks only, and
an object keeps its identity: a mask that becomes empty is left out of its frame, as any object that is not visible.
Given masks are never changed. What a closing adds is taken from no other object, unless `overlap` is among the steps.
The element, the border (edge pixels repeat) and the crop are those of stcnbuf, whose `--morph-cleanup` is
`close=2,crop=0.15,overlap`, whose `connected_comps` is `largest` and whose `temporal_intersect` is `temporal`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rlemasklib import RLEMask

from stcn_core.masks import ObjectMask

FrameMasks = tuple[int, list[ObjectMask]]
TEMPORAL, OVERLAP = "temporal", "overlap"
# name -> (default, None: a value must be given, False: takes none; what it does)
STEPS: dict[str, tuple[float | None | bool, str]] = {
    "close": (2, "closing: so many dilations, then erosions, with a round 5x5 element"),
    "crop": (0.15, "cut to the box of the largest part, widened by this share of its width and height on each side"),
    "largest": (False, "keep the largest part (4-connected)"),
    "small": (None, "remove parts of fewer pixels"),
    "holes": (None, "fill holes of fewer pixels"),
    OVERLAP: (False, "a closing may cover other objects"),
    TEMPORAL: (False, "keep what the frame before and the frame after have, too (jobs.clean only)"),
}


@dataclass(frozen=True)
class Step:
    """One step; value as in STEPS."""

    name: str
    value: float = 0.0

    def __str__(self) -> str:
        return self.name if STEPS[self.name][0] is False else f"{self.name}={self.value:g}"


def parse_steps(text: str) -> tuple[Step, ...]:
    """`close=2,largest` -> steps. Raises ValueError that names the step and the remedy."""
    steps = []
    for part in filter(None, text.replace(" ", "").split(",")):
        name, given, value = part.partition("=")
        if name not in STEPS:
            raise ValueError(f"{part!r} is no step: give {', '.join(STEPS)}, such as close=2,largest,holes=64")
        default = STEPS[name][0]
        if default is False:
            if given:
                raise ValueError(f"{part!r}: {name} takes no number")
            steps.append(Step(name))
            continue
        if not given and default is None:
            raise ValueError(f"{part!r} needs a number of pixels, such as {name}=64")
        try:
            number = float(value) if given else float(default)
        except ValueError:
            number = -1.0
        whole = name != "crop"
        if not 0 <= number < 2**31 or (whole and (number != int(number) or number < 1)):
            raise ValueError(f"{part!r}: {'a whole number from 1' if whole else 'a number from 0'} is needed")
        steps.append(Step(name, number))
    return tuple(steps)


def steps_text(steps: Sequence[Step]) -> str:
    """The canonical text of steps."""
    return ",".join(map(str, steps))


def clean_frame(masks: Sequence[ObjectMask], steps: Sequence[Step]) -> list[ObjectMask]:
    """One frame's masks, cleaned; those that become empty are left out. Scores stay what they were.

    Steps over time are not for a single frame: ValueError.
    """
    if not steps or all(mask.is_prompt for mask in masks):
        return list(masks)
    before = [_decoded(mask) for mask in masks]
    after = [rle if mask.is_prompt else _cleaned(rle, steps) for mask, rle in zip(masks, before, strict=True)]
    if Step(OVERLAP) not in steps:
        after = _apart(before, after)
    found = (mask if mask.is_prompt else _replaced(mask, rle) for mask, rle in zip(masks, after, strict=True))
    return [mask for mask in found if mask is not None]


def clean_video(frames: Iterable[FrameMasks], steps: Sequence[Step]) -> Iterator[FrameMasks]:
    """All frames of a video in order, also those without masks -> the same frames, cleaned; one frame behind for every
    step over time."""
    waiting: list[Step] = []
    overlap = (Step(OVERLAP),) if Step(OVERLAP) in steps else ()
    for step in (*steps, None):
        if step is not None and step.name != TEMPORAL:
            waiting.append(step)
            continue
        if waiting:
            frames = _each(frames, (*waiting, *overlap))
            waiting = []
        if step is not None:
            frames = intersected(frames)
    return iter(frames)


def intersected(frames: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """Every mask reduced to what its object's masks on the frame before and the frame after have, too; at the ends of
    the video one neighbour counts. An object that a neighbour does not show is not shown."""
    before: list[ObjectMask] | None = None
    now: FrameMasks | None = None
    for following in frames:
        if now is not None:
            yield now[0], _common(now[1], [before, following[1]])
            before = now[1]
        now = following
    if now is not None:
        yield now[0], _common(now[1], [before, None])


def _each(frames: Iterable[FrameMasks], steps: Sequence[Step]) -> Iterator[FrameMasks]:
    for frame, masks in frames:
        yield frame, clean_frame(masks, steps)


def _cleaned(rle: RLEMask, steps: Sequence[Step]) -> RLEMask:
    for step in steps:
        match step.name:
            case "close":
                for _ in range(int(step.value)):
                    rle = rle.dilate5x5()
                for _ in range(int(step.value)):
                    rle = rle.erode5x5()
            case "crop":
                x, y, width, height = (float(v) for v in rle.largest_connected_component().bbox())
                share = step.value
                box = [x - width * share, y - height * share, width * (1 + 2 * share), height * (1 + 2 * share)]
                rle = rle & RLEMask.from_bbox(box, rle.shape)
            case "largest":
                rle = rle.largest_connected_component()
            case "small":
                rle = rle.remove_small_components(int(step.value))
            case "holes":
                rle = rle.fill_small_holes(int(step.value))
            case "temporal":
                raise ValueError("temporal needs the frames around: use clean_video")
    return rle


def _apart(before: Sequence[RLEMask], after: Sequence[RLEMask]) -> list[RLEMask]:
    """What masks have gained is taken back where another one was, or has gained it, too, and comes first."""
    found, gained = [], None
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        gain = new - old
        if gain.any():
            for other, theirs in enumerate(before):
                if other != number:
                    gain = gain - theirs
            gain = gain if gained is None else gain - gained
            gained = gain if gained is None else gained | gain
            new = (new & old) | gain
        found.append(new)
    return found


def _common(masks: Sequence[ObjectMask], neighbours: Sequence[list[ObjectMask] | None]) -> list[ObjectMask]:
    found = []
    for mask in masks:
        if mask.is_prompt:
            found.append(mask)
            continue
        parts: list[RLEMask] | None = [_decoded(mask)]
        for others in neighbours:
            if others is not None and parts is not None:
                same = next((other for other in others if other.object_id == mask.object_id), None)
                parts = None if same is None else [*parts, _decoded(same)]
        kept = None if parts is None else _replaced(mask, RLEMask.intersection(parts))
        found += [] if kept is None else [kept]
    return found


def _decoded(mask: ObjectMask) -> RLEMask:
    return RLEMask.from_dict({"size": [mask.height, mask.width], "counts": mask.counts})


def _replaced(mask: ObjectMask, rle: RLEMask) -> ObjectMask | None:
    area = int(rle.area())
    if not area:
        return None
    box = tuple(int(value) for value in rle.bbox())
    return replace(mask, counts=rle.to_dict()["counts"], area=area, box=box)
