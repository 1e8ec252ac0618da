"""Strikes, losses and the circuit breaker, without Ray."""

from cluster.blame import LOSSES, Breaker, Record


def test_two_deaths_at_one_video_are_the_end():
    assert not Record().struck().finished
    assert Record().struck().struck().finished


def test_lost_nodes_are_no_strike_but_capped():
    record = Record()
    for _ in range(LOSSES - 1):
        record = record.died("node-lost", None)
        assert not record.finished and record.strikes == 0
    assert record.died("node-lost", None).finished


def test_breaker_opens_on_the_environment_failing_several_units_in_a_row():
    breaker = Breaker()
    for _ in range(3):
        assert not breaker.open(10)
        breaker = breaker.after("storage")
    assert breaker.open(10)
    assert not Breaker().after("storage").after("storage").after(None).after("storage").open(10)
    assert not Breaker().after("not-a-video").after("missing").after("prompt").after("internal").open(10)


def test_breaker_judges_a_short_run_by_all_of_it():
    assert Breaker().after("permission").open(1)
    assert not Breaker().after("missing").open(1)
    assert not Breaker().open(0)
