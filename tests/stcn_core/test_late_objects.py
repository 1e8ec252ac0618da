"""YouTube-VOS's late objects, offline: an object that is prompted at frame 300 is found before it, too.

With the bundled weights, whose masks mean something: coloured squares that wander, one frame in ten of the video.
"""

import numpy as np
import pytest
from made_networks import moving_squares, square_labels

from stcn_core.burn_in import BurnInChoice
from stcn_core.checkpoint import BUNDLED, load_checkpoint
from stcn_core.metrics import jaccard
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

SIZE, FRAMES, LATE = (96, 128), range(0, 340, 10), 300
VIDEO = moving_squares(len(FRAMES), *SIZE, objects=2)
LABELS = square_labels(len(FRAMES), *SIZE, objects=2)


def true(frame: int, object_id: int) -> np.ndarray:
    return (LABELS[frame // 10] == object_id).astype(np.uint8)


def overlaps(passes: int) -> dict[int, list[float]]:
    """object -> J on each frame. Object 1 is given on the first frame, object 2 on frame 300 alone."""
    given = {0: FramePrompts({1: true(0, 1)}), LATE: FramePrompts({2: true(LATE, 2)})}
    settings = OfflineSettings(burn_in_passes=passes, memory_frames=12, burn_in_frames=12)
    propagation = Propagation(load_checkpoint(BUNDLED)[0], SIZE)
    run = OfflineSegmenter(
        propagation, settings, PromptSet((1, 2), given), source=SIZE, size=SIZE, video_id="v", visited=12
    )
    pictures = dict(zip(FRAMES, VIDEO, strict=True))
    if passes:
        choice = BurnInChoice(0, "v", passes, 12)
        for frame in set(FRAMES) - set(given):
            choice.offer(frame)
        run.memorise_prompts(pictures.__getitem__)
        list(run.burn_in(choice.order(), pictures.__getitem__))
    results = run.final_pass(pictures.items()) if passes else run.causal_pass(pictures.items())
    found: dict[int, list[float]] = {1: [], 2: []}
    for frame, masks in results:
        shown = {mask.object_id: mask.decode() for mask in masks}
        for object_id, values in found.items():
            values.append(jaccard(shown.get(object_id, np.zeros(SIZE)), true(frame, object_id)))
    return found


def test_offline_it_is_found_before_its_prompt() -> None:
    found = overlaps(passes=1)
    before = found[2][: LATE // 10]
    assert np.mean(before) > 0.8 and min(before[:10]) > 0.5
    assert found[2][LATE // 10] == 1.0  # given
    assert np.mean(found[1]) > 0.8


def test_a_causal_run_does_not_know_it_before() -> None:
    found = overlaps(passes=0)
    assert max(found[2][: LATE // 10]) == 0.0 and np.mean(found[2][LATE // 10 :]) > 0.8
    assert found[1][0] == pytest.approx(1.0)
