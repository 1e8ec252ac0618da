"""Slots chosen by the policies, without tensors."""

import numpy as np
import pytest

from stcn_core.eviction import eviction_of, random_tokens
from stcn_core.settings import MEMORY_POLICIES


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_the_bank_is_filled_first(policy: str) -> None:
    draw = np.random.default_rng(0)
    eviction = eviction_of(policy)
    assert [eviction.slot(n, 5, draw) for n in range(5)] == [0, 1, 2, 3, 4]


def test_unknown_policy() -> None:
    with pytest.raises(KeyError):
        eviction_of("lru")


def test_fifo_goes_round_and_unbounded_goes_on() -> None:
    draw = np.random.default_rng(0)
    assert [eviction_of("fifo").slot(n, 3, draw) for n in range(3, 9)] == [0, 1, 2, 0, 1, 2]
    assert [eviction_of("unbounded").slot(n, 3, draw) for n in range(3, 6)] == [3, 4, 5]


def test_reservoir_turns_away_more_and_more() -> None:
    draw, eviction = np.random.default_rng(0), eviction_of("reservoir")
    admitted = [eviction.slot(n, 10, draw) is not None for n in range(2000)]
    # Expected admissions: 10 / (n + 1) each, 10 * ln 10 = 23 from the 200th to the 2,000th.
    assert 10 < sum(admitted[200:]) < 40
    slots = [slot for n in range(10, 400) if (slot := eviction.slot(n, 10, draw)) is not None]
    assert set(slots) <= set(range(10)) and len(set(slots)) > 5


def test_reservoir_is_uniform_to_the_first_frame_turned_away() -> None:
    """3 of 8 frames, 6,000 times: each is kept with probability 3/8, whenever it came."""
    counts, eviction, draw = np.zeros(8), eviction_of("reservoir"), np.random.default_rng(0)
    for _ in range(6000):
        bank = [0, 0, 0]
        for frame in range(8):
            slot = eviction.slot(frame, 3, draw)
            if slot is not None:
                bank[slot] = frame
        counts[bank] += 1
    assert np.abs(counts - 2250).max() < 150  # deviation 37


def test_random_tokens_are_distinct_and_uniform() -> None:
    draw = np.random.default_rng(0)
    counts = np.zeros(40)
    for _ in range(2000):
        drawn = random_tokens(4, 10, draw)
        assert len(drawn) == len(np.unique(drawn)) == 10
        counts[drawn] += 1
    assert counts.min() > 400 and counts.max() < 600  # 500 expected, deviation 19
