"""What an edit does to a row: pure functions from record to record. Fields that pick does not know are kept.

Every function takes the row's record (never changed) and its items (`prompt_items.read_items` of that record), and
returns the new record. Raises ValueError where an edit makes no sense.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.views.pick.prompt_items import Item, rle_record
from schemas.manifest_rows import is_unfilled
from schemas.manifest_values import Wrong, as_labels
from schemas.prompt import KINDS
from schemas.prompt_record import PLACES, SUGGESTED

# What stays when a prompt is drawn again is everything else. A detector's settings stay with a box (it matches them).
REPLACED = (*PLACES, *KINDS, "object_id")
DETECTOR = ("detector", "classes", "max_objects", "min_score", "matching", "detector_sha256")


def set_prompt(
    record: Mapping[str, Any],
    items: Sequence[Item],
    frame: int,
    object_id: int,
    content: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Gives the object this prompt on the frame, in place of what it had there; None takes it away (a suggestion that
    it filled in stays as one).

    content: {"rle": ...}, {"box": ...}, {"points": ...} or {"absent": True} as a manifest holds it; extra: further
    fields of a prompt that comes back and was not there before.
    """
    prompts = _explicit(record, items)
    there = sorted(item.position for item in items if item.frame == frame and _concerns(item, object_id))
    there = list(dict.fromkeys(there))
    old = prompts[there[0]] if there else {**(extra or {})}
    kept = {key: value for key, value in old.items() if key not in REPLACED}
    if content is None:
        says = {key: kept[key] for key in (SUGGESTED, "label") if kept.get(key) is not None}
        fresh = {"frame": frame, "object_id": object_id, **says} if SUGGESTED in says else None
    else:
        if "rle" in content or "absent" in content:
            kept = {key: value for key, value in kept.items() if key not in DETECTOR}
        if object_id in _labels(record):
            kept.pop("label", None)  # the row's name is the newer one
        fresh = {"frame": frame, "object_id": object_id, **content, **kept}
    replaced: list[dict[str, Any]] = []
    for position, prompt in enumerate(prompts):
        if position not in there:
            replaced.append(prompt)
            continue
        if fresh is not None:
            replaced.append(fresh)
            fresh = None
        replaced += _others(prompt, position, items, object_id)
    if fresh is not None:
        complete = any(item.frame == frame and item.complete for item in items)
        replaced.append({**fresh, "complete": True} if complete else fresh)
    return _with_prompts(record, items, replaced, lost={object_id})


def remove_object(record: Mapping[str, Any], items: Sequence[Item], object_id: int) -> dict[str, Any]:
    """Takes the object away from every frame."""
    prompts = _explicit(record, items)
    positions = {item.position for item in items if item.object_id == object_id and item.kind != "suggested"}
    replaced: list[dict[str, Any]] = []
    for position, prompt in enumerate(prompts):
        replaced += _others(prompt, position, items, object_id) if position in positions else [prompt]
    return _with_prompts(record, items, replaced, lost={object_id})


def remove_record(record: Mapping[str, Any], items: Sequence[Item], position: int) -> dict[str, Any]:
    """Takes away one prompt as it stands in the row."""
    prompts = _explicit(record, items)
    if not 0 <= position < len(prompts):
        raise ValueError(f"the row has no prompt number {position + 1}")
    gone = {item.object_id for item in items if item.position == position and item.object_id}
    return _with_prompts(record, items, prompts[:position] + prompts[position + 1 :], lost=gone)


def set_label(record: Mapping[str, Any], items: Sequence[Item], object_id: int, label: str | None) -> dict[str, Any]:
    """Names the object in the row's `labels`; None takes its name away. Raises ValueError for an object not there."""
    if object_id not in _drawn(items):
        raise ValueError(f"there is no object {object_id} to name: draw it first")
    labels = {key: name for key, name in _labels(record).items() if key != object_id}
    if label is not None:
        labels[object_id] = label
    prompts = [
        _without(prompt, "label")
        if isinstance(prompt, Mapping) and _names(prompt, position, items, object_id)
        else prompt
        for position, prompt in enumerate(_explicit(record, items))
    ]
    return _with_labels({**record, "prompts": prompts}, labels)


def change_id(
    record: Mapping[str, Any], items: Sequence[Item], old: int, new: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Gives the object another number. Raises ValueError where that is taken."""
    ids = _drawn(items)
    if new < 1 or old not in ids or new in ids:
        reason = f"there is no object {old}" if old not in ids else f"object {new} is there already"
        raise ValueError("object numbers begin with 1" if new < 1 else reason)
    prompts = _explicit(record, items)
    replaced: list[Any] = []
    for position, prompt in enumerate(prompts):
        mine = [item for item in items if item.position == position and item.object_id == old]
        if not mine:
            replaced.append(prompt)
            continue
        moved = {**prompt, "object_id": new}
        if isinstance(prompt.get("mask"), str):
            # A PNG may hold the old number: what is seen is written out.
            moved = {**_without(moved, "mask"), **rle_record(mine[0].counts, size)}
        replaced += [moved, *_others(prompt, position, items, old)]
    labels = _labels(record)
    if old in labels:
        labels[new] = labels.pop(old)
    return _with_labels({**record, "prompts": replaced}, labels)


def set_complete(record: Mapping[str, Any], items: Sequence[Item], frame: int, complete: bool) -> dict[str, Any]:
    """Says of a prompted frame whether objects that are not given there are absent (otherwise: unknown)."""
    positions = {item.position for item in items if item.frame == frame and item.kind != "suggested"}
    if not positions:
        raise ValueError(f"frame {frame} has no prompt that could say it")
    prompts = [
        prompt
        if position not in positions
        else {**prompt, "complete": True}
        if complete
        else _without(prompt, "complete")
        for position, prompt in enumerate(_explicit(record, items))
    ]
    return {**record, "prompts": prompts}


def _explicit(record: Mapping[str, Any], items: Sequence[Item]) -> list[Any]:
    """The row's prompts, with the number of an object that was the only one written out."""
    prompts = record.get("prompts")
    prompts = list(prompts) if isinstance(prompts, list) else []
    for item in items:
        prompt = prompts[item.position]
        if (
            item.kind in ("other", "suggested")
            or prompt.get("object_id") is not None
            or isinstance(prompt.get("mask"), str)
        ):
            continue
        prompts[item.position] = {**prompt, "object_id": item.object_id}
    return prompts


def _others(prompt: Mapping[str, Any], position: int, items: Sequence[Item], object_id: int) -> list[dict[str, Any]]:
    """The further objects of a PNG that held several, each as a prompt of its own."""
    ids = [item.object_id for item in items if item.position == position and item.object_id not in (object_id, None)]
    return [{**prompt, "object_id": other} for other in ids]


def _drawn(items: Sequence[Item]) -> set[int | None]:
    """The objects that have a prompt."""
    return {item.object_id for item in items if item.kind != "suggested"}


def _concerns(item: Item, object_id: int) -> bool:
    return item.object_id == object_id or (item.kind == "suggested" and item.object_id is None)


def _names(prompt: Mapping[str, Any], position: int, items: Sequence[Item], object_id: int) -> bool:
    """Whether the prompt's own label is that of this object alone."""
    ids = [item.object_id for item in items if item.position == position]
    return "label" in prompt and ids == [object_id]


def _with_prompts(
    record: Mapping[str, Any], items: Sequence[Item], prompts: list[Any], lost: set[int]
) -> dict[str, Any]:
    """The record with these prompts. Objects of `lost` that have none left lose their name."""
    before = _explicit(record, items)
    still = {position for position, prompt in enumerate(before) if any(prompt == other for other in prompts)}
    left = {item.object_id for item in items if item.position in still and item.kind != "suggested"}
    left |= {prompt.get("object_id") for prompt in prompts if isinstance(prompt, Mapping) and not is_unfilled(prompt)}
    labels = _labels(record)
    kept = {key: name for key, name in labels.items() if key in left or key not in lost}
    changed = {**record, "prompts": prompts}
    return changed if kept == labels else _with_labels(changed, kept)


def _labels(record: Mapping[str, Any]) -> dict[int, str]:
    try:
        return dict(as_labels(record.get("labels") or {}))
    except Wrong as wrong:
        raise ValueError(f"the row's labels: {wrong.reason}. {wrong.remedy}.") from None


def _with_labels(record: Mapping[str, Any], labels: Mapping[int, str]) -> dict[str, Any]:
    changed = _without(record, "labels")
    return {**changed, "labels": {str(key): labels[key] for key in sorted(labels)}} if labels else changed


def _without(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}
