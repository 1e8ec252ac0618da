"""The frame-by-frame API."""

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels

from stcn_core.online import OnlineSegmenter
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

SIZE = (40, 56)
VIDEO = moving_squares(12, *SIZE, objects=2)
LABELS = square_labels(12, *SIZE, objects=2)


def online(objects: int = 2, **changes: object) -> OnlineSegmenter:
    options = OfflineSettings(**{"memory_frames": 4, "memory_every": 2, **changes})
    return OnlineSegmenter(Propagation(random_network(), SIZE), options, objects)


def mask_of(frame: int, number: int) -> np.ndarray:
    return (LABELS[frame] == number).astype(np.uint8)


def test_probabilities_sum_to_one() -> None:
    run = online()
    for frame, picture in enumerate(VIDEO):
        given = {0: mask_of(2, 1), 1: mask_of(2, 2)} if frame == 2 else None
        probabilities = run.step(frame, picture, given)
        assert probabilities.shape == (3, *SIZE) and probabilities.dtype == torch.float32
        torch.testing.assert_close(probabilities.sum(0), torch.ones(SIZE), atol=1e-5, rtol=0)
        if frame < 2:
            assert torch.equal(probabilities[1:], torch.zeros(2, *SIZE))
        if frame == 2:
            labels = probabilities.argmax(0).numpy()
            assert np.array_equal(labels, np.where(LABELS[2] <= 2, LABELS[2], 0))


def test_objects_not_begun_stay_exactly_zero() -> None:
    run = online()
    for frame, picture in enumerate(VIDEO[:6]):
        probabilities = run.step(frame, picture, {0: mask_of(0, 1)} if frame in (0, 3) else None)
        assert not probabilities[2].any()
        assert probabilities[1].any()


def test_predictions_yield_to_masks_that_are_given_later(monkeypatch: pytest.MonkeyPatch) -> None:
    run = online()
    run.step(0, VIDEO[0], {0: mask_of(0, 1)})
    certain = torch.zeros(1, 2, *run.propagation.padded_size)
    certain[:, 1] = 1
    monkeypatch.setattr(run.propagation, "segment", lambda *args: certain)
    probabilities = run.step(1, VIDEO[1], {1: mask_of(1, 2)})
    assert (probabilities[1][torch.from_numpy(mask_of(1, 2)).bool()] < 1e-6).all()
    assert np.array_equal((probabilities[2] > 0.5).numpy(), mask_of(1, 2) == 1)


def test_a_late_prompt_pins_all_objects_that_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """STCN's generic protocol: the values of all enabled objects on an annotated frame stay in memory."""
    run = online(3, memory_every=100)
    run.step(0, VIDEO[0], {0: mask_of(0, 1)})
    run.step(1, VIDEO[1])
    memorised = []
    value = run.propagation.value
    monkeypatch.setattr(run.propagation, "value", lambda *args: memorised.append(args[1]) or value(*args))
    shown = run.step(2, VIDEO[2], {1: mask_of(2, 2)})
    slots = [(slot.frame, slot.given, slot.valid) for slot in run.memory.slots if slot.pinned]
    first, given, predicted = (
        (0, True, (True, False, False)),
        (2, True, (False, True, False)),
        (2, False, (True, False, False)),
    )
    assert slots == [first, given, predicted]  # what was predicted there does not weigh like what was given
    assert run.memory.known() == [True, True, False]
    kept = run.propagation.unpad(memorised[0])
    assert torch.equal(kept, shown[1:]) and kept[0].max() > 0.5  # the first object as it was predicted there
    assert not kept[2].any()
    index = next(i for i, slot in enumerate(run.memory.slots) if slot.frame == 2 and slot.valid[0])
    assert run.memory.values[0, index].any() and index in run.memory._held(0)


def test_nothing_memorised_before_the_first_prompt() -> None:
    run = online()
    for frame in range(4):
        run.step(frame, VIDEO[frame])
    assert run.memory.known() == [False, False]
    assert run.memory.bank_frames() == []


def test_seeds_and_given_masks_on_one_frame() -> None:
    """Three slots, though only one was announced: the box, what is given, and what the box's object is taken for."""
    run = online()
    run.step(0, VIDEO[0], {0: mask_of(0, 1)}, {1: mask_of(0, 2)})
    assert run.memory.known() == [True, True]
    assert run.memory.pinned_frames() == [0, 0, 0]
    assert [slot.given for slot in run.memory.slots if slot.pinned] == [False, True, False]
    assert run.step(1, VIDEO[1]).isfinite().all()


def test_the_bank_and_the_ring_share_the_frames() -> None:
    run = online(memory_frames=3, memory_every=3, recent_frames=2)
    for frame, picture in enumerate(VIDEO[:10]):
        run.step(frame, picture, {0: mask_of(0, 1), 1: mask_of(0, 2)} if frame == 0 else None)
    assert sorted(run.memory.bank_frames()) == [3, 6, 9]
    recent = sorted(run.memory.slots[index].frame for index in run.memory._recent)
    assert recent == [7, 8]


@pytest.mark.parametrize("include_last", [False, True])
def test_what_a_reservoir_turns_away_is_in_the_ring(include_last: bool) -> None:
    """The next frame needs the one before it, whatever the bank keeps."""
    run = online(memory_policy="reservoir", memory_frames=1, memory_every=1, recent_frames=1, include_last=include_last)
    turned_away = 0
    for frame, picture in enumerate(VIDEO):
        run.step(frame, picture, {0: mask_of(0, 1), 1: mask_of(0, 2)} if frame == 0 else None)
        recent = [run.memory.slots[index].frame for index in run.memory._recent]
        if frame and frame not in run.memory.bank_frames():
            turned_away += 1
            assert recent == [frame]
        elif frame and include_last:
            assert recent == [-1]
    assert turned_away > 3


@pytest.mark.parametrize("policy", ["fifo", "random-frame", "reservoir", "random-token", "unbounded"])
def test_every_policy_runs_on(policy: str) -> None:
    run = online(memory_policy=policy, memory_frames=2, memory_every=1)
    for frame, picture in enumerate(VIDEO):
        given = {0: {0: mask_of(0, 1)}, 5: {1: mask_of(5, 2)}}.get(frame)
        assert run.step(frame, picture, given).isfinite().all()
