"""When a unit is stuck."""

from cluster.deadline import Deadline, Rate


def test_progress_counts_and_silence_does_not():
    deadline = Deadline(stall_seconds=60)
    assert deadline.verdict(now=1000, started=0, moved=950, predicted_seconds=None) is None
    said = deadline.verdict(now=1000, started=0, moved=900, predicted_seconds=None)
    assert said is not None and "no progress for 100 s" in said and "--stall-seconds" in said


def test_an_upload_says_nothing_on_its_way():
    deadline = Deadline(stall_seconds=60, publish_seconds=600)
    assert deadline.verdict(500, 0, 0, None, "publish") is None
    assert deadline.verdict(601, 0, 0, None, "publish") is not None
    assert deadline.verdict(500, 0, 0, None, "final") is not None


def test_an_upload_that_does_not_answer_is_none():
    """Its last word was of the unit before: this one holds the interpreter's lock."""
    deadline = Deadline(stall_seconds=60, publish_seconds=600)
    assert deadline.verdict(500, 0, 0, None, "publish", answered=450) is None
    said = deadline.verdict(500, 0, 0, None, "publish", answered=430)
    assert said is not None and "allowed: 60 s" in said


def test_a_unit_may_take_many_times_what_was_predicted_but_not_forever():
    deadline = Deadline(stall_seconds=60, overrun=20, least_seconds=1800)
    assert deadline.verdict(1700, 0, 1699, predicted_seconds=1) is None
    assert "1 s were predicted, 1800 s are allowed" in deadline.verdict(1801, 0, 1800, predicted_seconds=1)
    assert deadline.verdict(19_000, 0, 19_000, predicted_seconds=1000) is None
    assert deadline.verdict(20_001, 0, 20_000, predicted_seconds=1000) is not None
    assert deadline.verdict(10**6, 0, 10**6, predicted_seconds=None) is None


def test_the_rate_follows_a_change_of_speed():
    rate = Rate()
    assert rate.per_cost is None and rate.predict(5) is None
    for _ in range(50):
        rate = rate.after(seconds=10, cost=5)
    assert rate.predict(5) == 10
    for _ in range(300):
        rate = rate.after(seconds=40, cost=5)
    assert 35 < rate.predict(5) <= 40
