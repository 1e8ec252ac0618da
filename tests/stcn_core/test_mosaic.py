"""random-token: a bank whose elements come from different frames."""

import numpy as np
import pytest
import torch
from made_memory import CV, GRID, READ_ALL, TOKENS, key_of, make, memorise, read_frames, values_of


def test_a_mosaic_of_one_frame_can_be_read_by_it(everything_is_read: None) -> None:
    """random-token with one frame of memory: the last frame's elements replace all others."""
    bank = make("random-token", memory_frames=1, **READ_ALL)
    for frame in (1, 2):
        memorise(bank, frame)
    assert read_frames(bank, 9, 0) == {2}
    assert bank.read(key_of(2), 2, [0]).isfinite().all()
    assert read_frames(bank, 2, 0) == {2}


def test_a_mosaic_does_not_know_an_object_that_no_frame_knew() -> None:
    """A late object of a causal run under random-token: it is not known before its prompt."""
    bank = make("random-token", pinned=2)
    bank.pin(50, key_of(50), values_of(50), [True, False])
    for frame in range(12):
        memorise(bank, frame, [True, False])
    assert bank.known() == [True, False]
    with pytest.raises(ValueError, match="object 1 is known in no slot"):
        bank.read(key_of(20), 20, [1])
    bank.pin(51, key_of(51), values_of(51), [False, True])
    assert bank.known() == [True, True]
    torch.testing.assert_close(bank.read(key_of(20), 20, [1]), torch.full((1, CV, *GRID), 51.1))


def test_a_mosaic_hides_elements_of_frames_that_did_not_know_the_object(everything_is_read: None) -> None:
    bank = make("random-token", memory_frames=3, pinned=2, **READ_ALL)
    bank.pin(50, key_of(50), values_of(50), [True, False])
    for frame in range(5):
        memorise(bank, frame, [True, False])
    bank.pin(51, key_of(51), values_of(51), [False, True])
    for frame in (6, 7):
        memorise(bank, frame, [True, True])
    assert read_frames(bank, 20, 1) == {51, 6, 7}
    assert read_frames(bank, 20, 0) > {50, 6, 7}
    both = bank.read(key_of(20), 20, [0, 1])
    assert torch.equal(both[0], bank.read(key_of(20), 20, [0])[0])
    assert torch.equal(both[1], bank.read(key_of(20), 20, [1])[0])


def test_a_mosaic_forgets_an_object_with_its_last_element() -> None:
    bank = make("random-token", memory_frames=1)
    memorise(bank, 0, [True, False])
    assert bank.known() == [True, False]
    memorise(bank, 1, [False, True])
    assert bank.known() == [False, True]  # all elements are overwritten
    with pytest.raises(ValueError, match="object 0 is known in no slot"):
        bank.read(key_of(2), 2, [0])
    torch.testing.assert_close(bank.read(key_of(2), 2, [1]), torch.full((1, CV, *GRID), 1.1))
    assert bank.layout().partly_known == {1: (False, True)}  # frame 0 is of no account any more


def test_random_token_keeps_whole_frames_worth_of_elements() -> None:
    bank = make("random-token", pinned=1)
    bank.pin(50, key_of(50), values_of(50), [True, True])
    keys = {frame: key_of(frame).flatten(1).t() for frame in range(20)}  # [T, Ck]
    for frame in range(20):
        memorise(bank, frame)
        numbers = bank._mosaic.frames[bank._bank, :TOKENS]
        filled = numbers[numbers >= 0]
        assert len(filled) == min(frame + 1, 4) * TOKENS
        assert (filled == frame).sum() == TOKENS  # the newest is there with all its elements
    held = bank._mosaic.frames[bank._bank, :TOKENS]
    for slot, element in np.ndindex(*held.shape):
        frame = int(held[slot, element])
        index = bank._bank[slot]
        assert (bank.keys[index, element, :-1] == keys[frame]).all(1).any()
        assert bank.values[0, index, element, 0] == frame
        assert bank.values[1, index, element, 0] == pytest.approx(frame + 0.1)
    assert len(held.unique()) > 4


def test_random_token_hides_own_elements(everything_is_read: None) -> None:
    bank = make("random-token", **READ_ALL)
    bank.pin(50, key_of(50), values_of(50), [True, True])
    for frame in range(12):
        memorise(bank, frame)
    held = set(bank._mosaic.frames[bank._bank, :TOKENS].unique().tolist())
    for frame in held:
        assert read_frames(bank, frame, 0) == (held | {50}) - {frame}
    assert read_frames(bank, 55, 0) == held | {50}


def test_an_object_that_keeps_its_box_does_not_let_others_read_their_own_labels(everything_is_read: None) -> None:
    def made(lost: list[int]) -> set[int]:
        bank = make("random-token", memory_frames=3, pinned=2, **READ_ALL)
        bank.pin(50, key_of(50), values_of(50), [True, True])
        bank.seed(7, key_of(7), values_of(7), [True, True])
        for frame in (1, 2, 3, 4, 7):
            memorise(bank, frame)
        bank.settle_seed(7, lost)
        return read_frames(bank, 7, 1)

    assert 7 not in made([]) and made([0]) == made([])
