"""The circuit breaker, without Ray."""

from cluster.breaker import Breaker


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


def after(*outcomes: tuple[str | None, str]) -> Breaker:
    breaker = Breaker()
    for error_class, place in outcomes:
        breaker = breaker.after(error_class, place)
    return breaker


def test_one_bad_machine_does_not_stop_the_others():
    bad = after(*[("worker", "bad")] * 7)
    others = [f"machine {number}" for number in range(15)]
    assert not bad.open(840, others) and not bad.open(840, [*others, "bad"])
    assert bad.suspect({"bad": 1}, others) == "bad"
    assert (
        bad.open(840, [])
        and bad.open(840, ["bad"])
        and bad.suspect({}, []) is None
        and bad.suspect({}, ["bad"]) is None
    )
    rested = bad.forget("bad")
    assert rested.suspect({}, others) is None and not rested.open(840, [])


def test_a_machine_that_works_now_and_then_is_no_suspect():
    assert after(("device", "a"), ("device", "a"), (None, "a"), ("device", "a")).suspect({}, ["b"]) is None
    # What gets through elsewhere does not clear it.
    assert after(("device", "a"), ("device", "a"), (None, "b"), ("device", "a")).suspect({}, ["b"]) == "a"


def test_machines_that_fail_one_after_the_other_are_the_environment():
    breaker = after(("storage", "a"), ("storage", "b"), ("storage", "a"))
    assert not breaker.open(100, ["c"])
    assert breaker.after("storage", "c").open(100, ["d"]) and breaker.open(100, ["a", "b"])


def test_where_all_fail_nobody_is_set_aside():
    everywhere = after(*[("storage", place) for place in "abc"] * 3)
    assert everywhere.suspect({}, ["a", "b", "c"]) is None and everywhere.open(100, ["a", "b", "c"])


def test_a_place_is_trusted_after_anything_but_a_fault():
    assert not Breaker().trusts("a")
    assert not after((None, "b")).trusts("a") and not after((None, "a"), ("device", "a")).trusts("a")
    assert after((None, "a")).trusts("a") and after(("device", "a"), ("decode", "a")).trusts("a")


def test_one_moments_fault_of_a_machine_with_many_actors_is_no_suspicion():
    moment = after(*[("storage", "a")] * 8)
    assert moment.suspect({"a": 8, "b": 8}, ["b"]) is None
    assert moment.after("storage", "a").suspect({"a": 8, "b": 8}, ["b"]) == "a"


def test_a_machine_that_had_a_blip_long_ago_is_work_elsewhere():
    breaker = after(("storage", "b"), (None, "c"), *[("worker", "a")] * 3)
    assert breaker.suspect({}, ["b"]) == "a" and not breaker.open(100, ["b"])


def test_what_is_the_videos_own_doing_says_nothing_of_the_place():
    breaker = after((None, "a")).after("permission", "a", own=True)
    assert breaker.trusts("a") and breaker.in_a_row == ("a",)
