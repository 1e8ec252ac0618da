"""What is given weighs more than what was predicted, at equal affinity by the factor asked for."""

import pytest
import torch
from made_memory import CK, GRID, key_of, make, memorise, values_of

from stcn_core.match import MatchMaps
from stcn_core.memory import MemoryBank

ALIKE = torch.ones(CK, *GRID)
WEIGHTS = [1.0, 3.0, 8.0]


def read(bank: MemoryBank, frame: int = 50) -> float:
    """What comes back where all elements match alike."""
    found = bank.read(ALIKE, frame, [0])
    assert torch.allclose(found, found[0, 0, 0, 0], atol=1e-4)
    return float(found[0, 0, 0, 0])


def bank_of(policy: str, weight: float, **changes: object) -> MemoryBank:
    """All elements alike: equal keys in every cell, so that top_k reads as many of each frame."""
    return make(policy, objects=1, pinned=2, prompt_weight=weight, top_k=10_000, **changes)


@pytest.mark.parametrize("affinity", ["l2", "dot"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_given_frame_weighs_as_many_predicted_ones(weight: float, affinity: str) -> None:
    bank = bank_of("fifo", weight, affinity=affinity)
    bank.pin(1, ALIKE, values_of(1, 1), [True])
    bank.memorise(bank.admit(4), 4, ALIKE, values_of(4, 1), [True])
    assert read(bank) == pytest.approx((weight * 1 + 4) / (weight + 1), abs=1e-4)
    bank.remember_recent(7, ALIKE, values_of(7, 1), [True])
    assert read(bank) == pytest.approx((weight * 1 + 4 + 7) / (weight + 2), abs=1e-4)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_boxes_are_guesses(weight: float) -> None:
    """Also those that stay, whether they were settled or pinned at once."""
    bank = bank_of("fifo", weight)
    bank.seed(1, ALIKE, values_of(1, 1), [True])
    bank.memorise(bank.admit(4), 4, ALIKE, values_of(4, 1), [True])
    assert read(bank) == pytest.approx(5 / 2, abs=1e-4)
    bank.settle_seed(1, [0])
    assert read(bank) == pytest.approx(5 / 2, abs=1e-4)
    bank.pin_guess(9, ALIKE, values_of(9, 1), [True])
    assert read(bank) == pytest.approx((1 + 4 + 9) / 3, abs=1e-4)


@pytest.mark.parametrize("policy", ["fifo", "random-token"])
def test_unpinned_prompts_are_given_all_the_same(policy: str) -> None:
    bank = bank_of(policy, 8.0, pin_prompts=False)
    bank.memorise_given(1, ALIKE, values_of(1, 1), [True])
    memorised = bank.admit(4)
    bank.memorise(memorised, 4, ALIKE, values_of(4, 1), [True])
    assert read(bank) == pytest.approx((8 + 4) / 9, abs=1e-4)


@pytest.mark.parametrize("weight", [1.0, 8.0])
def test_the_distance_to_the_best_match_is_a_distance(weight: float) -> None:
    """Not what is left of it for the choice."""
    bank = make(objects=1, pinned=1, prompt_weight=weight)
    bank.pin(0, key_of(0) + 10, values_of(0, 1), [True])
    assert memorise(bank, 1)
    match = MatchMaps.unread(1, 1, bank.tokens, "cpu")
    query = key_of(1) + 0.1
    bank.read_batch(query[None], [9], [0], match)
    expected = (key_of(1)[..., None, None] - query[:, None, None]).square().sum(0) / CK**0.5
    nearest = expected.flatten(2).flatten(0, 1).amin(0)  # over the memory's cells
    assert match.distance[0, 0].numpy() == pytest.approx(nearest.numpy(), abs=1e-4)


def test_what_is_out_of_range_is_named() -> None:
    for wrong in (0.5, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="--prompt-weight is a factor from 1"):
            make(prompt_weight=wrong)
