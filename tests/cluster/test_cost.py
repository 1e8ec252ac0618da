"""Predicted work: in proportion to what the network is asked."""

from dataclasses import replace

import numpy as np
import pytest

from cluster.cost import predict, value_share, visits_of
from cluster.frames.probe import Probe
from schemas.run_config import RunConfig

CONFIG = RunConfig("official", "0" * 64, memory_frames=20, memory_policy="fifo")
PROBE = Probe(frames=1000, height=480, width=854)


def burn_in(**changes: object) -> float:
    config = replace(CONFIG, **changes)
    return predict(PROBE, 1000, 1000, 1, config, 80).burn_in


def test_the_burn_in_costs_what_it_visits() -> None:
    assert burn_in(burn_in_passes=0) == 0
    decoding = 2 * burn_in() - burn_in(burn_in_passes=2)
    assert burn_in(burn_in_passes=3) - decoding == pytest.approx(3 * (burn_in() - decoding))


@pytest.mark.parametrize(
    ("gate", "visits"),
    [("", 80), ("restart", 80), ("agreement", 160), ("relabel", 100), ("restart,agreement", 160)],
)
def test_gates_that_visit_again_cost_more(gate: str, visits: int) -> None:
    assert visits_of(replace(CONFIG, burn_in_gate=gate), 80, 1000) == visits
    assert (burn_in(burn_in_gate=gate) > burn_in()) == (visits > 80)


def test_what_a_reservoir_turns_away_is_not_computed() -> None:
    reservoir = replace(CONFIG, memory_policy="reservoir")
    draw, kept = np.random.default_rng(0), []
    for _ in range(200):
        kept.append(sum(n < 20 or draw.integers(n + 1) < 20 for n in range(80)))
    assert visits_of(reservoir, 80, 1000) == pytest.approx(np.mean(kept), rel=0.03)
    assert visits_of(reservoir, 20, 1000) == visits_of(CONFIG, 20, 1000) == 20


def test_short_videos_are_not_rehearsed_twice() -> None:
    """Two passes of ten frames each: ten different ones, all of them relabelled."""
    twice = replace(CONFIG, burn_in_passes=2)
    assert visits_of(twice, 10, 10) == 20
    assert visits_of(replace(twice, burn_in_gate="agreement"), 10, 10) == 30
    assert visits_of(replace(twice, burn_in_gate="relabel"), 10, 10) == 30
    assert 20 < visits_of(replace(twice, burn_in_gate="two-way"), 10, 10) < 40


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.0),
        ({"recent_frames": 2, "group_frames": 5}, 0.2),
        ({"burn_in_passes": 0, "memory_every": 5}, 0.2),
        ({"burn_in_passes": 0, "recent_frames": 1}, 1.0),
    ],
)
def test_values_are_made_of_what_is_memorised(changes: dict, share: float) -> None:
    """A causal run puts every frame into its ring, an offline one the last of each group."""
    assert value_share(RunConfig("c", "0" * 64, **changes)) == share
