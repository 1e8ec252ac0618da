"""Numbers of a video's masks over time: jumps between neighbouring frames, gaps in which an object has no mask."""

from collections.abc import Mapping

import numpy as np

SMALL_AREA = 50  # pixels added to both areas, so that a few pixels more or less are no jump


def jumps(numbers: Mapping[str, np.ndarray], stride: int) -> tuple[np.ndarray, np.ndarray]:
    """(area, position) jumps of each row from the same object's row one step before; NaN where there is none.

    numbers: columns sorted by object and frame (`video_numbers`). area: |log| of the ratio of the areas; position: how
    far the box's centre moved, in units of the square root of the area.
    """
    area = numbers["area"].astype(float) + SMALL_AREA
    x = numbers["bbox_x"] + numbers["bbox_w"] / 2
    y = numbers["bbox_y"] + numbers["bbox_h"] / 2
    follows = np.zeros(len(area), bool)
    if len(area):
        same = np.diff(numbers["object_id"]) == 0
        follows[1:] = same & (np.diff(numbers["frame_index"]) == stride)
    by_area, by_position = np.full(len(area), np.nan), np.full(len(area), np.nan)
    if len(area) > 1:
        by_area[1:] = np.abs(np.diff(np.log(area)))
        by_position[1:] = np.hypot(np.diff(x), np.diff(y)) / np.sqrt(area[1:])
    return np.where(follows, by_area, np.nan), np.where(follows, by_position, np.nan)
