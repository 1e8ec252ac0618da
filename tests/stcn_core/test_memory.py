"""The memory bank: what is kept, what is read by whom, and what is never read."""

from collections import Counter

import pytest
import torch
from made_memory import CK, CV, GRID, READ_ALL, TOKENS, key_of, make, memorise, read_frames, settings, values_of

from stcn_core import readout
from stcn_core.memory import MemoryBank
from stcn_core.settings import MEMORY_POLICIES

# Pinned, recent, bank


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_pinned_frames_are_never_evicted(policy: str, everything_is_read: None) -> None:
    bank = make(policy, pinned=2, **READ_ALL)
    bank.pin(50, key_of(50), values_of(50), [True, True])
    bank.pin(51, key_of(51), values_of(51), [True, True])
    for frame in range(40):
        memorise(bank, frame)
        bank.remember_recent(frame, key_of(frame), values_of(frame), [True, True])
    assert bank.pinned_frames() == [50, 51]
    for k in range(2):
        assert {50, 51} <= read_frames(bank, 45, k)
    for slot, frame in enumerate((50, 51)):
        assert torch.equal(bank.values[:, slot, :TOKENS], values_of(frame).flatten(2).transpose(1, 2))


def test_more_pinned_frames_than_announced(everything_is_read: None) -> None:
    bank = make(pinned=1, **READ_ALL)
    for frame in range(5):
        bank.pin(frame, key_of(frame), values_of(frame), [True, True])
        memorise(bank, 20 + frame)
    assert bank.pinned_frames() == [0, 1, 2, 3, 4]
    assert read_frames(bank, 40, 1) == {0, 1, 2, 3, 4, 21, 22, 23, 24}


def test_the_ring_holds_the_last_frames(everything_is_read: None) -> None:
    bank = make(**READ_ALL)
    for frame in range(7):
        bank.remember_recent(frame, key_of(frame), values_of(frame), [True, True])
        assert read_frames(bank, 30, 0) == set(range(max(0, frame - 1), frame + 1))
    bank.clear_recent()
    assert bank.known() == [False, False]


def test_a_ring_of_none() -> None:
    bank = make(recent_frames=0)
    bank.remember_recent(3, key_of(3), values_of(3), [True, True])
    assert bank.known() == [False, False]


def test_a_rebuilt_ring_is_the_same_ring() -> None:
    """Bit for bit, whatever was in the ring before."""
    banks = [make(), make()]
    for bank, before in zip(banks, ([1, 2, 3], []), strict=True):
        bank.pin(50, key_of(50), values_of(50), [True, True])
        for frame in before:
            bank.remember_recent(frame, key_of(frame), values_of(frame), [True, True])
        bank.clear_recent()
        for frame in (4, 5, 6):
            bank.remember_recent(frame, key_of(frame), values_of(frame), [True, True])
    left, right = banks
    assert left.slots == right.slots
    assert torch.equal(left.keys, right.keys)
    query = key_of(9)
    assert torch.equal(left.read(query, 9, [0, 1]), right.read(query, 9, [0, 1]))


def test_seeds_are_dropped_and_pinned_frames_are_not(everything_is_read: None) -> None:
    bank = make(pinned=2, **READ_ALL)
    bank.seed(50, key_of(50), values_of(50), [True, False])
    bank.pin(51, key_of(51), values_of(51), [True, True])
    assert read_frames(bank, 9, 0) == {50, 51}
    bank.settle_seed(50)
    assert read_frames(bank, 9, 0) == {51}
    assert bank.pinned_frames() == [51]


# A frame never reads its own unpinned slot


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_a_frame_does_not_read_its_own_slot(policy: str, everything_is_read: None) -> None:
    bank = make(policy, **READ_ALL)
    bank.pin(50, key_of(50), values_of(50), [True, True])
    bank.seed(51, key_of(51), values_of(51), [True, True])
    for frame in (3, 4):
        memorise(bank, frame)
    bank.remember_recent(5, key_of(5), values_of(5), [True, True])
    everyone = {3, 4, 5, 50, 51}
    assert read_frames(bank, 9, 1) == everyone
    for own in (3, 4, 5, 51):
        assert read_frames(bank, own, 1) == everyone - {own}
    assert read_frames(bank, 50, 1) == everyone  # a pinned frame is a fact: it reads itself


def test_own_slots_can_be_read_for_parity(everything_is_read: None) -> None:
    bank = make(exclude_own=False, **READ_ALL)
    for frame in (3, 4):
        memorise(bank, frame)
    assert read_frames(bank, 3, 0) == {3, 4}


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_what_only_the_frame_itself_knows_is_read(policy: str, everything_is_read: None) -> None:
    """A box on the only frame of a video, before and after its seed is dropped: nothing else could be read."""
    bank = make(policy, memory_frames=1, **READ_ALL)
    bank.seed(7, key_of(7), values_of(7), [True, True])
    assert read_frames(bank, 7, 0) == {7}
    memorise(bank, 7)
    bank.settle_seed(7)
    assert read_frames(bank, 7, 0) == {7}
    assert bank.read(key_of(7), 7, [0, 1]).isfinite().all()


# Validity per object


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_an_object_is_read_only_where_it_is_valid(policy: str, everything_is_read: None) -> None:
    bank = make(policy, objects=3, pinned=2, **READ_ALL)
    bank.pin(50, key_of(50), values_of(50, 3), [True, False, False])
    bank.pin(51, key_of(51), values_of(51, 3), [False, True, False])
    assert bank.known() == [True, True, False]
    memorise(bank, 3, [True, True, False])
    memorise(bank, 4, [True, False, False])
    assert read_frames(bank, 9, 0) == {50, 3, 4}
    assert read_frames(bank, 9, 1) == {51, 3}
    with pytest.raises(ValueError, match="object 2 is known in no slot"):
        bank.read(key_of(9), 9, [0, 2])


def test_groups_of_objects_read_what_each_would_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One affinity per group of equal validity: the order and the company of objects do not matter."""
    affinities, top_k = [], readout.top_k
    monkeypatch.setattr(readout, "top_k", lambda *given: affinities.append(1) or top_k(*given))
    bank = make(objects=4, pinned=3)
    bank.pin(50, key_of(50), values_of(50, 4), [True, False, True, False])
    bank.pin(51, key_of(51), values_of(51, 4), [False, True, False, False])
    bank.pin(52, key_of(52), values_of(52, 4), [False, False, False, True])
    for frame in range(3):
        memorise(bank, frame)
    query = key_of(9)
    alone = [bank.read(query, 9, [k])[0] for k in range(4)]
    for order, groups in (([0, 1, 2, 3], 3), ([3, 1], 2), ([2, 0, 3], 2)):
        affinities.clear()
        together = bank.read(query, 9, order)
        assert len(affinities) == groups  # objects 0 and 2 share theirs
        assert together.shape == (len(order), CV, *GRID)
        for position, k in enumerate(order):
            assert torch.equal(together[position], alone[k])


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
@pytest.mark.parametrize("exclude_own", [True, False])
def test_a_batch_reads_what_its_frames_read_alone(policy: str, exclude_own: bool) -> None:
    """Frames in the bank, in the ring, pinned and unknown, side by side; objects that not every slot knows."""
    bank = make(policy, objects=3, pinned=2, exclude_own=exclude_own)
    bank.pin(50, key_of(50), values_of(50, 3), [True, True, False])
    bank.pin(51, key_of(51), values_of(51, 3), [False, False, True])
    for frame in range(6):
        memorise(bank, frame)
    bank.remember_recent(8, key_of(8), values_of(8, 3), [True] * 3)
    frames = [50, 3, 4, 5, 8, 9]
    together = bank.read_batch(torch.stack([key_of(f) for f in frames]), frames, [2, 0, 1])
    assert together.shape == (6, 3, CV, *GRID)
    for position, frame in enumerate(frames):
        torch.testing.assert_close(together[position], bank.read(key_of(frame), frame, [2, 0, 1]))


def test_a_frame_that_is_all_the_memory_knows_reads_itself_in_a_batch_too() -> None:
    bank = make()
    bank.seed(4, key_of(4), values_of(4), [True, True])
    together = bank.read_batch(torch.stack([key_of(4), key_of(5)]), [4, 5], [0])
    torch.testing.assert_close(together, torch.full((2, 1, CV, *GRID), 4.0))


# Renewal and eviction


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_a_second_visit_renews_the_slot(policy: str) -> None:
    bank = make(policy)
    for frame in (3, 4, 5):
        memorise(bank, frame)
    offered = bank.inserted
    position = bank.admit(4)
    bank.memorise(position, 4, key_of(40), values_of(40), [True, False])
    assert bank.inserted == offered
    assert sorted(bank.bank_frames()) == [3, 4, 5]
    index = next(i for i, slot in enumerate(bank.slots) if slot.frame == 4)
    assert bank.slots[index].valid == (True, False)
    assert torch.equal(bank.values[:, index, :TOKENS], values_of(40).flatten(2).transpose(1, 2))


def test_fifo_keeps_the_last() -> None:
    bank = make("fifo")
    for frame in range(11):
        memorise(bank, frame)
    assert sorted(bank.bank_frames()) == [7, 8, 9, 10]


def test_random_frame_keeps_the_newest_and_fills_first() -> None:
    bank = make("random-frame")
    ages = Counter()
    for frame in range(400):
        memorise(bank, frame)
        held = bank.bank_frames()
        assert frame in held and len(held) == min(frame + 1, 4)
        ages.update(frame - f for f in held if frame >= 50)
    # Survival is (1 - 1/4) per insertion: 350 insertions, expected counts 350 * 0.75 ** age.
    for age in range(4):
        assert abs(ages[age] / 350 - 0.75**age) < 0.1


def test_reservoir_is_uniform() -> None:
    """Each of 40 frames is in the bank of 4 with probability 1/10: chi-square over 1,000 seeds."""
    counts = Counter()
    for seed in range(1000):
        bank = MemoryBank(settings("reservoir", seed=seed, recent_frames=0), (1, 1), 1, 1, 1, pinned=0)
        for frame in range(40):
            position = bank.admit(frame)
            if position is not None:
                bank.slots[bank._bank[position]].frame = frame
        counts.update(bank.bank_frames())
    assert sum(counts.values()) == 4000
    chi_square = sum((counts[frame] - 100) ** 2 / 90 for frame in range(40))
    assert chi_square < 80  # 39 degrees of freedom: 73 is the 0.1 % point


def test_draws_come_from_the_seed_and_the_video() -> None:
    def kept(seed: int, name: str) -> list[int]:
        bank = MemoryBank(settings("random-frame", seed=seed), GRID, 2, CK, CV, pinned=0, name=name)
        for frame in range(30):
            memorise(bank, frame)
        return bank.bank_frames()

    assert kept(1, "a") == kept(1, "a")
    assert kept(1, "a") != kept(2, "a")
    assert kept(1, "a") != kept(1, "b")


def test_unbounded_keeps_everything() -> None:
    bank = make("unbounded")
    bank.pin(59, key_of(59), values_of(59), [True, True])
    for frame in range(100):
        memorise(bank, frame)
    assert bank.bank_frames() == list(range(100))
    for index, slot in enumerate(bank.slots):
        if slot.frame >= 0:
            assert torch.equal(bank.values[:, index, :TOKENS], values_of(slot.frame).flatten(2).transpose(1, 2))
            assert torch.equal(bank.keys[index, :TOKENS, :-1], key_of(slot.frame).flatten(1).t())
    assert not torch.isfinite(bank.keys[:, TOKENS:, -1]).any()  # padding is never read


# Limits


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
@pytest.mark.parametrize("grid", [(1, 1), (1, 40), (4, 8)])
def test_any_grid(policy: str, grid: tuple[int, int]) -> None:
    bank = MemoryBank(settings(policy, top_k=20), grid, 1, CK, CV, pinned=1, bank=3)
    for frame in range(8):
        position = bank.admit(frame)
        if position is not None:
            bank.memorise(position, frame, torch.randn(CK, *grid), torch.randn(1, CV, *grid), [True])
        assert bank.read(torch.randn(CK, *grid), 30, [0]).isfinite().all()


def test_a_short_video_does_not_pay_for_a_large_bank() -> None:
    bank = MemoryBank(settings(memory_frames=128), GRID, 1, CK, CV, pinned=1, bank=3)
    assert bank.capacity == 3
    assert len(bank.slots) == 1 + 2 + 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_goes_in_and_float32_comes_out(dtype: torch.dtype) -> None:
    """Under autocast the network hands over halves; keys and values are stored as float32."""
    for policy in MEMORY_POLICIES:
        bank = make(policy)
        for frame in range(9):
            position = bank.admit(frame)
            if position is not None:
                bank.memorise(position, frame, key_of(frame).to(dtype), values_of(frame).to(dtype), [True, True])
        bank.remember_recent(20, key_of(20).to(dtype), values_of(20).to(dtype), [True, True])
        assert bank.read(key_of(30).to(dtype), 30, [0, 1]).dtype == torch.float32
