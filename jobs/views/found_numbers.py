"""The numbers of what a detector found by itself, held for a second run in which corrections name these objects.

A detector's finds get the lowest numbers that no prompt of their video names. A correction that names object 2 would
take that number away: the finds would be 1 and 3, and the corrected mask an object of its own.
"""

from collections.abc import Collection
from dataclasses import replace

from schemas.video_row import VideoRow


def with_numbers(row: VideoRow, found: Collection[int]) -> tuple[VideoRow, frozenset[int]]:
    """(the row whose prompt by detector says its first number, objects that cannot be held so and must not be named).

    found: the objects of the video that start from detections, as `tracks` says.
    """
    alone = [number for number, prompt in enumerate(row.prompts) if prompt.finds and prompt.object_id is None]
    ids = sorted(set(found) - {prompt.object_id for prompt in row.prompts})
    if not alone or not ids:
        return row, frozenset()
    matched = any(prompt.detects and prompt.mask is not None and prompt.object_id is None for prompt in row.prompts)
    if len(alone) > 1 or matched or ids[-1] - ids[0] != len(ids) - 1:
        return row, frozenset(ids)  # which of them is whose, or where they begin, a row cannot say
    prompts = list(row.prompts)
    prompts[alone[0]] = replace(prompts[alone[0]], object_id=ids[0])
    return replace(row, prompts=tuple(prompts)), frozenset()
