"""Clean-up on run-length codes: by hand, beside stcnbuf's own functions, and over time."""

import sys
import types

import numpy as np
import pytest
from rlemasklib import RLEMask

from stcn_core.cleanup import clean_frame, clean_video, parse_steps, steps_text
from stcn_core.masks import ObjectMask, encode_mask

SIZE = (40, 60)


def blobs(seed: int, count: int = 6) -> np.ndarray:
    """Overlapping ellipses with holes and specks."""
    draw = np.random.default_rng(seed)
    y, x = np.indices(SIZE)
    mask = np.zeros(SIZE, bool)
    for _ in range(count):
        cy, cx, ry, rx = draw.integers(0, 40), draw.integers(0, 60), draw.integers(2, 9), draw.integers(2, 12)
        mask |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    mask &= draw.random(SIZE) > 0.03
    return mask | (draw.random(SIZE) > 0.99)


def mask_of(array: np.ndarray, object_id: int = 1, prompt: bool = False) -> ObjectMask:
    return encode_mask(array, object_id, 0.75, prompt)


def cleaned(array: np.ndarray, steps: str) -> np.ndarray:
    found = clean_frame([mask_of(array)], parse_steps(steps))
    return found[0].decode().astype(bool) if found else np.zeros(SIZE, bool)


@pytest.fixture(scope="module")
def stcnbuf_tools() -> types.SimpleNamespace:
    """stcnbuf's three tools, with their command line library left out."""
    pytest.importorskip("stcnbuf", reason="stcnbuf is in the test extra")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "simplepyutils", types.SimpleNamespace(FLAGS=types.SimpleNamespace()))
        patch.delitem(sys.modules, "stcnbuf.morph", raising=False)
        from stcnbuf import morph
    return types.SimpleNamespace(morph=morph)


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_stcnbufs_morphology(stcnbuf_tools: types.SimpleNamespace, seed: int) -> None:
    mask = blobs(seed)
    expected = stcnbuf_tools.morph.process_mask_arr(mask.astype(np.uint8))
    assert np.array_equal(cleaned(mask, "close,crop,overlap"), expected)
    assert not np.array_equal(expected, mask)
    written = stcnbuf_tools.morph.process_mask_dict(RLEMask.from_array(mask.astype(np.uint8)).to_dict())
    assert clean_frame([mask_of(mask)], parse_steps("close,crop"))[0].counts == written["counts"]


def test_close_by_hand() -> None:
    """The round 5x5 element lacks its corners; at the border the edge pixels repeat."""
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:30] = True
    mask[18:21, 18:21] = False
    mask[20:28, 22:28] = False  # six wide: closed by twice, not by once
    assert cleaned(mask, "close=2")[10:30, 10:30].all() and cleaned(mask, "close=2").sum() == 400
    once = cleaned(mask, "close=1")
    assert once[18:21, 18:21].all() and not once[22:26, 24:26].any()
    edge = np.zeros(SIZE, bool)
    edge[:, :6] = True
    assert np.array_equal(cleaned(edge, "close=2"), edge)  # nothing is lost at the frame's border


def test_components_and_holes_by_hand() -> None:
    mask = np.zeros(SIZE, bool)
    mask[5:15, 5:15] = True  # 100 pixels
    mask[8:11, 8:11] = False  # a hole of 9
    mask[13, 13] = False  # and one of 1
    mask[20:23, 30:33] = True  # 9
    mask[23, 33] = True  # touches it at a corner only
    assert cleaned(mask, "largest").sum() == 90 and not cleaned(mask, "largest")[20:].any()
    assert cleaned(mask, "small=9").sum() == 99 and cleaned(mask, "small=10").sum() == 90
    assert cleaned(mask, "holes=9").sum() == 101 and cleaned(mask, "holes=10").sum() == 110
    assert cleaned(mask, "largest,holes=10").sum() == 100
    assert cleaned(mask, "small=200").sum() == 0


def test_crop_keeps_what_is_near_the_largest_part() -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:30], mask[15:17, 31:33], mask[15:17, 40:44] = True, True, True
    found = cleaned(mask, "crop=0.15")
    assert found[15:17, 31:33].all() and not found[:, 40:].any()
    assert not cleaned(mask, "crop=0")[:, 30:].any()


def test_given_masks_stay_and_other_objects_lose_nothing() -> None:
    """Two objects side by side with a gap of two columns, and a given one: a closing covers neither."""
    left, right, given = np.zeros(SIZE, bool), np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    left[5:25, 5:20], right[5:25, 22:40], given[26:30, 5:40] = True, True, True
    left[12:14, 12:14] = False
    right[10:14, 10:14] = False
    left[:, 30:] = False
    speck = left.copy()
    speck[5:25, 24:26] = True  # reaches over `right` after a closing
    right[:, 24:26] = False
    masks = [mask_of(speck, 1), mask_of(right, 2), mask_of(given, 3, prompt=True)]
    one, two, three = clean_frame(masks, parse_steps("close"))
    assert three == masks[2]
    stack = np.stack([mask.decode() for mask in (one, two, three)])
    assert stack.sum(0).max() == 1  # apart
    assert (stack[0] >= speck).all() and (stack[1] >= right).all() and stack[:2].sum() > speck.sum() + right.sum()
    loose = clean_frame(masks, parse_steps("close,overlap"))
    assert np.stack([mask.decode() for mask in loose]).sum(0).max() > 1
    assert (one.object_id, one.score, one.is_prompt) == (1, 0.75, False) and one.area == stack[0].sum()
    x, y, width, height = one.box
    assert stack[0][y : y + height, x : x + width].sum() == one.area


def moving(frames: int) -> list[tuple[int, list[ObjectMask]]]:
    """Object 4 moves by two columns a frame and is gone on frame 5, object 9 is given on frame 2."""
    found = []
    for frame in range(frames):
        array, still = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
        array[10:20, 2 * frame : 2 * frame + 10], still[30:35, 5:9] = True, True
        masks = [] if frame == 5 else [mask_of(array, 4)]
        found.append((frame * 3, [*masks, mask_of(still, 9, prompt=frame == 2)]))
    return found


def test_agreement_over_time() -> None:
    video = moving(9)
    found = list(clean_video(iter(video), parse_steps("temporal")))
    assert [frame for frame, _ in found] == [frame for frame, _ in video]  # all frames, in step
    areas = {n: {mask.object_id: mask.area for mask in masks} for n, (_, masks) in enumerate(found)}
    assert areas[0][4] == areas[8][4] == 80 and areas[1][4] == 60  # two frames at the ends, three inside
    assert all(4 not in areas[n] for n in (4, 5, 6))  # a neighbour does not show it
    assert all(areas[n][9] == 20 for n in range(9))
    (given,) = (mask for mask in found[2][1] if mask.is_prompt)
    assert given == video[2][1][1]


def test_agreement_equals_stcnbufs() -> None:
    """Its tool: rlemasklib.intersection of the masks of frames t - 1 to t + 1."""
    video = [(n, [mask_of(blobs(40 + n, 9), 1)]) for n in range(6)]
    arrays = [masks[0].decode().astype(bool) for _, masks in video]
    for n, masks in clean_video(video, parse_steps("temporal")):
        expected = np.logical_and.reduce(arrays[max(0, n - 1) : n + 2])
        assert np.array_equal(masks[0].decode(), expected) if expected.any() else not masks


def test_steps_are_done_in_their_order() -> None:
    video = [(n, [mask_of(blobs(n), 1)]) for n in range(5)]
    one = list(clean_video(video, parse_steps("largest,temporal")))
    other = list(clean_video(video, parse_steps("temporal,largest")))
    assert one != other
    by_hand = list(
        clean_video([(n, clean_frame(m, parse_steps("largest"))) for n, m in video], parse_steps("temporal"))
    )
    assert one == by_hand
    assert list(clean_video(video, ())) == video


@pytest.mark.parametrize(
    ("text", "said"),
    [("smooth", "no step"), ("small", "small=64"), ("largest=3", "no number"), ("close=0", "from 1"),
     ("holes=x", "from 1"), ("crop=-1", "from 0"), ("close=1.5", "whole")],
)  # fmt: skip
def test_steps_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_steps(text)


def test_steps_have_one_text() -> None:
    assert steps_text(parse_steps(" close, crop ,small=64,temporal")) == "close=2,crop=0.15,small=64,temporal"
    with pytest.raises(ValueError, match="clean_video"):
        clean_frame([mask_of(blobs(0))], parse_steps("temporal"))
