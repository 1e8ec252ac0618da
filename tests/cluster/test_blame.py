"""Strikes and losses, without Ray."""

from cluster.blame import LOSSES, Record


def test_two_deaths_at_one_video_are_the_end():
    assert not Record().struck().finished
    assert Record().struck().struck().finished


def test_lost_nodes_are_no_strike_but_capped():
    record = Record()
    for _ in range(LOSSES - 1):
        record = record.died("node-lost", None)
        assert not record.finished and record.strikes == 0
    assert record.died("node-lost", None).finished
