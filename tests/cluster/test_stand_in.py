"""The stand-in: no torch, the same answer always, and another one for every lost, doubled or swapped frame."""

import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fresh_interpreter import run_fresh

from cluster.segmenter import VideoFacts
from cluster.stand_in import StandInSegmenter, StandInSegmenters
from stcn_core.masks import ObjectMask
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.settings import OfflineSettings

SOURCE, SIZE, FRAMES = (48, 64), (24, 32), 20
VIDEO = list(np.random.default_rng(0).integers(0, 256, (FRAMES, *SIZE, 3), np.uint8))
SETTINGS = OfflineSettings(group_frames=3, segment_frames=6, recent_frames=2, memory_frames=4)
ORDER = [7, 3, 5, 15, 11, 2]


def square(top: int) -> np.ndarray:
    mask = np.zeros(SOURCE, np.uint8)
    mask[top : top + 5, 8:14] = 1
    return mask


PROMPTS = PromptSet((1, 4), {5: FramePrompts({1: square(2)}), 9: FramePrompts({}, {4: square(20)})})
Rows = list[tuple[int, list[ObjectMask]]]


def begin(prompts: PromptSet = PROMPTS, settings: OfflineSettings = SETTINGS, video_id: str = "v") -> StandInSegmenter:
    segmenters = pickle.loads(pickle.dumps(StandInSegmenters()))
    segmenters.load(None, "cpu", 1, Path(), {})
    return segmenters.begin(settings, prompts, VideoFacts(SOURCE, SIZE, video_id, 6))


def burned_in(order: Iterable[int] = ORDER, video: list[np.ndarray] = VIDEO, **how: object) -> StandInSegmenter:
    run = begin(**how)
    run.memorise_prompts(video.__getitem__)
    assert list(run.burn_in(order, video.__getitem__)) == [frame for frame in order if frame != 5]
    return run


def whole(**how: object) -> Rows:
    return list(burned_in(**how).final_pass(enumerate(how.get("video", VIDEO))))


def changed(frame: int) -> list[np.ndarray]:
    """The video with one bit of one frame turned."""
    video = list(VIDEO)
    video[frame] = VIDEO[frame].copy()
    video[frame][0, 0, 0] ^= 1
    return video


def test_the_same_answer_always() -> None:
    rows = whole()
    assert rows == whole()
    assert [frame for frame, _ in rows] == list(range(FRAMES))
    assert all([mask.object_id for mask in masks] == [1, 4] for _, masks in rows)
    assert all((mask.height, mask.width) == SOURCE and 0 < mask.score <= 1 for _, masks in rows for mask in masks)
    assert len({masks[0].counts for _, masks in rows}) > FRAMES / 2


def test_given_masks_are_written_unchanged_and_boxes_are_not() -> None:
    for rows in (whole(), list(begin().causal_pass(enumerate(VIDEO)))):
        given = [(frame, mask) for frame, masks in rows for mask in masks if mask.is_prompt]
        assert [(frame, mask.object_id) for frame, mask in given] == [(5, 1)]
        assert np.array_equal(given[0][1].decode(), square(2))


@pytest.mark.parametrize(("recent", "group", "segment"), [(2, 3, 6), (2, 1, 1), (5, 3, 6), (0, 5, 10), (1, 5, 5)])
def test_split_from_a_saved_bank_equals_unsplit(recent: int, group: int, segment: int, tmp_path: Path) -> None:
    settings = replace(SETTINGS, recent_frames=recent, group_frames=group, segment_frames=segment)
    path, frames, parts = tmp_path / "bank", list(enumerate(VIDEO)), []
    burned_in(settings=settings).save_bank(path)
    for start in reversed(range(0, FRAMES, segment)):
        run = begin(settings=settings)
        run.load_bank(path)
        before = frames[max(0, start - run.ring_frames) : start]
        parts = list(run.final_pass(frames[start : start + segment], before)) + parts
    assert parts == whole(settings=settings)


WRONG: dict[str, Callable[[], Rows]] = {
    "another order of visits": lambda: whole(order=[3, 7, 5, 15, 11, 2]),
    "a visit lost": lambda: whole(order=ORDER[:-1]),
    "a visit doubled": lambda: whole(order=[*ORDER, 2]),
    "another picture visited": lambda: list(burned_in(video=changed(11)).final_pass(enumerate(VIDEO))),
    "another prompted picture": lambda: list(burned_in(video=changed(9)).final_pass(enumerate(VIDEO))),
    "another mask": lambda: whole(prompts=PromptSet((1, 4), {**PROMPTS.frames, 5: FramePrompts({1: square(3)})})),
    "a box for a mask": lambda: whole(prompts=PromptSet((1, 4), {**PROMPTS.frames, 9: FramePrompts({4: square(20)})})),
    "another setting": lambda: whole(settings=replace(SETTINGS, top_k=7)),
    "another video": lambda: whole(video_id="w"),
    "no ring": lambda: list(burned_in().final_pass(list(enumerate(VIDEO))[6:])),
    "a shorter ring": lambda: list(burned_in().final_pass(list(enumerate(VIDEO))[6:], list(enumerate(VIDEO))[3:6])),
    "a ring of other pictures": lambda: list(
        burned_in().final_pass(list(enumerate(VIDEO))[6:], list(enumerate(changed(2)))[:6])
    ),
    "frames swapped": lambda: list(
        burned_in().final_pass((frame, VIDEO[{0: 1, 1: 0}.get(frame, frame)]) for frame in range(FRAMES))
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_difference_shows(what: str) -> None:
    """Among the rows of a segment that the difference could reach."""
    right, wrong = dict(whole()), dict(WRONG[what]())
    reached = [frame for frame in wrong if frame < 2 or frame >= 6]
    assert any(right[frame] != wrong[frame] for frame in reached)


def test_causal_masks_depend_on_the_frames_before() -> None:
    rows, other = (list(begin().causal_pass(enumerate(video))) for video in (VIDEO, changed(12)))
    assert rows[:12] == other[:12] and all(a != b for a, b in zip(rows[12:], other[12:], strict=True))
    assert [[mask.object_id for mask in masks] for _, masks in rows] == [[]] * 5 + [[1]] * 4 + [[1, 4]] * 11


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"", lambda data: data.replace(b"a", b"b")])
def test_a_damaged_bank_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "bank"
    burned_in().save_bank(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="bank"):
        begin().load_bank(path)


def test_a_bank_of_another_video_is_refused(tmp_path: Path) -> None:
    burned_in(video_id="w").save_bank(tmp_path / "bank")
    with pytest.raises(ValueError, match="bank of another video"):
        begin().load_bank(tmp_path / "bank")


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="frame 0: uint8"):
        list(begin().final_pass([(0, np.zeros((10, 10, 3), np.uint8))]))


ALONE = """
import sys
import numpy as np
from cluster.segmenter import StcnSegmenters, VideoFacts
from cluster.stand_in import StandInSegmenters
from stcn_core import burn_in, masks, prompts, settings
mask = np.ones((8, 8), np.uint8)
told = prompts.PromptSet((1,), {0: prompts.FramePrompts({1: mask}), 2: prompts.FramePrompts({}, {1: mask})})
run = StandInSegmenters(0.001).begin(settings.OfflineSettings(), told, VideoFacts((8, 8), (4, 4), "v"))
video = np.zeros((5, 4, 4, 3), np.uint8)
run.memorise_prompts(video.__getitem__)
assert list(run.burn_in([3, 2], video.__getitem__)) == [3, 2]
assert len(list(run.final_pass(enumerate(video)))) == len(list(run.causal_pass(enumerate(video)))) == 5
heavy = [name for name in ("torch", "torchvision", "ray", "pyarrow", "fsspec") if name in sys.modules]
print(heavy)
"""


def test_no_torch_anywhere() -> None:
    assert run_fresh(ALONE) == "[]\n"
