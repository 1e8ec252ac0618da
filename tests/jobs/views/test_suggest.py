"""Suggested frames: doubtful ones first, apart from each other and from what is given."""

import numpy as np
import pytest

from jobs.views.suggest import ABSENT_DOUBT, VideoDoubts, suggest, video_doubts, worst

VIDEO = {"first_frame": 10, "stride": 2, "frames_annotated": 100}


def columns(rows: list[tuple], **more: float) -> dict[str, np.ndarray]:
    """(object, frame, doubt, area) per row -> the columns that are needed."""
    objects, frames, doubts, areas = (np.array(values) for values in zip(*rows, strict=True))
    side = np.sqrt(areas)
    zeros = np.zeros(len(rows))
    return {"object_id": objects, "frame_index": frames, "doubt": doubts.astype(float), "area": areas,
            "score": zeros + 0.75, "is_prompt": zeros > 0, "bbox_w": side, "bbox_h": side}  # fmt: skip


def doubts_of(doubt: np.ndarray) -> VideoDoubts:
    rows = [(1, 10 + 2 * n, value, 100) for n, value in enumerate(doubt)]
    return video_doubts(columns(rows), VIDEO, [1])


def test_steps_objects_and_the_doubt_of_what_has_no_mask():
    rows = [(7, 10, 0.25, 100), (7, 12, 0.5, 100), (3, 12, 0.75, 50), (3, 13, 1.0, 50)]  # frame 13 is not on the grid's
    found = video_doubts(columns(rows[:3]), VIDEO, [9])
    assert found.object_ids == (3, 7, 9) and found.doubt.shape == (100, 3)
    assert found.frames[:3].tolist() == [10, 12, 14]
    assert found.doubt[1].tolist() == [0.75, 0.5, 0.0]  # object 9 was never seen: nothing is known
    assert found.doubt[2, 1] == pytest.approx(ABSENT_DOUBT * np.exp(-1 / 25))
    assert found.doubt[99, 1] < 0.02
    assert found.frame_doubt[1] == pytest.approx(np.sqrt((0.75**2 + 0.5**2) / 3))


def test_without_a_column_of_doubt_the_score_orders():
    found = video_doubts(columns([(1, 10, float("nan"), 100), (1, 12, 0.5, 100)]), VIDEO, [1])
    assert found.doubt[:2, 0].tolist() == [0.25, 0.5]


def test_the_peak_comes_first_and_the_next_one_is_another_peak():
    doubt = np.full(100, 0.1)
    doubt[28:35], doubt[70:77] = 0.9, 0.8
    first, second, third = suggest(doubts_of(doubt), 3)
    assert 28 <= (first.frame - 10) // 2 < 35 and 70 <= (second.frame - 10) // 2 < 77
    assert first.objects == {1: (0.9, True)} and second.doubt == pytest.approx(0.8)
    assert len({first.frame, second.frame, third.frame}) == 3


def test_the_middle_of_a_doubtful_stretch_comes_before_a_worse_single_frame():
    doubt = np.full(100, 0.05)
    doubt[28:49], doubt[80] = 0.6, 1.0
    (only,) = suggest(doubts_of(doubt), 1, given=[10])
    assert 34 <= (only.frame - 10) // 2 <= 42


def test_the_worst_frames_are_apart():
    doubt = np.full(100, 0.05)
    doubt[28:49], doubt[80] = 0.6, 1.0
    found = worst(doubts_of(doubt), 2)
    assert found[0].frame == 10 + 2 * 80 and 28 <= (found[1].frame - 10) // 2 < 49
    assert worst(doubts_of(np.zeros(100)), 2) == []


def test_even_doubt_is_spread_evenly():
    found = sorted((one.frame - 10) // 2 for one in suggest(doubts_of(np.full(100, 0.4)), 3, given=[10]))
    assert min(np.diff([0, *found, 99])) >= 8


def test_given_frames_are_not_suggested_and_their_neighbours_are_worth_little():
    doubt = np.full(100, 0.1)
    doubt[28:35], doubt[70:77] = 0.9, 0.8
    (only,) = suggest(doubts_of(doubt), 1, given=[10 + 2 * 31])
    assert 70 <= (only.frame - 10) // 2 < 77
    all_of_them = suggest(doubts_of(doubt[:100]), 200, given=[10])
    assert len(all_of_them) == 99 and 10 not in {one.frame for one in all_of_them}


def test_another_shape_is_worth_another_look():
    rows = [(1, 10 + 2 * n, 0.5, 100 if n < 60 else 900) for n in range(100)]
    flat = [(1, 10 + 2 * n, 0.5, 100) for n in range(100)]
    chosen = [
        suggest(video_doubts(columns(made), VIDEO, [1]), 1, given=[10 + 2 * 50])[0].frame for made in (rows, flat)
    ]
    assert chosen[0] >= 10 + 2 * 60
    assert chosen[1] < 10 + 2 * 50  # of places equally far in time the first


def test_nothing_to_suggest():
    empty = video_doubts({name: values[:0] for name, values in columns([(1, 10, 0.5, 9)]).items()}, VIDEO, [1])
    assert suggest(empty, 3) == []
    assert suggest(video_doubts(columns([(1, 10, 0.5, 9)]), {**VIDEO, "frames_annotated": 0}, [1]), 3) == []
