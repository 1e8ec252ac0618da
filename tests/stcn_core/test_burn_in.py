"""The choice of burn-in frames: uniform, seeded, and the same whatever order frames are offered in."""

from collections import Counter

import numpy as np
import pytest

from stcn_core import burn_in
from stcn_core.burn_in import BurnInChoice, outward, sampled_choice
from stcn_core.seeds import named_seed
from stcn_core.settings import OfflineSettings


def offered(frames: list[int], seed: int = 0, name: str = "v", passes: int = 1, limit: int | None = 10) -> BurnInChoice:
    choice = BurnInChoice(seed, name, passes, limit)
    for frame in frames:
        choice.offer(frame)
    return choice


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("limit", [1, 7, 100, None])
def test_the_order_of_offers_does_not_matter(passes: int, limit: int | None) -> None:
    frames = list(range(60))
    expected = list(offered(frames, passes=passes, limit=limit).order())
    assert len(expected) == passes * min(60, limit or 60)
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(frames).tolist()
        assert list(offered(shuffled, passes=passes, limit=limit).order()) == expected
    assert len(offered(frames, passes=passes, limit=limit)) == len(expected)


def test_the_order_is_that_of_the_priorities() -> None:
    choice = offered(list(range(50)), limit=None)
    order = list(choice.order())
    assert sorted(order) == list(range(50)) and order != list(range(50))
    assert order == sorted(range(50), key=lambda frame: choice.priority(0, frame))
    assert list(offered(list(range(50)), limit=8).order()) == order[:8]


def test_seeds_videos_and_passes_differ() -> None:
    frames = list(range(50))
    first = list(offered(frames).order())
    assert list(offered(frames).order()) == first
    assert list(offered(frames, seed=1).order()) != first
    assert list(offered(frames, name="w").order()) != first
    both = list(offered(frames, passes=2).order())
    assert both[:10] == first and both[10:] != first


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_what_is_kept_in_memory_is_what_is_needed(passes: int) -> None:
    """Following `kept` and `dropped` leaves exactly the chosen frames in the store, each dropped once."""
    for seed in range(20):
        choice = BurnInChoice(seed, "v", passes, 5)
        store: set[int] = set()
        for frame in range(40):
            kept, dropped = choice.offer(frame)
            assert len(dropped) == len(set(dropped))
            if kept:
                store.add(frame)
            for old in dropped:
                store.remove(old)
            assert len(store) <= 5 * passes
        assert store == set(choice.order())


def test_every_frame_is_chosen_equally_often() -> None:
    counts = Counter()
    for seed in range(1500):
        counts.update(offered(list(range(30)), seed=seed, limit=6).order())
    chi_square = sum((counts[frame] - 300) ** 2 / 240 for frame in range(30))
    assert chi_square < 65  # 29 degrees of freedom: 58 is the 0.1 % point


def test_outward_is_random_and_grows_from_the_prompts() -> None:
    frames = list(range(200))
    order = outward(frames, [100], np.random.default_rng(0))
    assert sorted(order) == frames
    assert order != outward(frames, [100], np.random.default_rng(1))
    for visit, frame in enumerate(order):
        assert abs(frame - 100) <= (visit + burn_in.WINDOW) / 2
    two = outward(frames, [10, 190], np.random.default_rng(0))
    assert all(min(abs(f - 10), abs(f - 190)) <= 4 for f in two[:10])
    assert {f < 100 for f in two[:20]} == {True, False}


@pytest.mark.parametrize("passes", [1, 2])
def test_another_order_of_the_same_sample(passes: int) -> None:
    orders = {}
    for name in ("priority", "outward"):
        settings = OfflineSettings(burn_in_order=name, burn_in_passes=passes, burn_in_frames=50)
        choice = sampled_choice(settings, "v")
        for frame in range(500):
            choice.offer(frame)
        orders[name] = list(choice.order([120]))
        assert orders[name] == list(choice.order([120])) and len(choice) == len(orders[name]) == 50 * passes
    random, grown = (orders[name] for name in ("priority", "outward"))
    assert sorted(random[:50]) == sorted(grown[:50]) and random[:50] != grown[:50]
    assert random[50:] == grown[50:]
    assert tuple(grown[:50]) == outward(random[:50], [120], np.random.default_rng(named_seed(0, "v", "outward")))
    near = sorted(grown[:50], key=lambda frame: abs(frame - 120))
    assert set(grown[:8]) <= set(near[:11]) and set(grown[42:50]) <= set(near[38:])
