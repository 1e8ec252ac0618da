import gc
import threading
import time

import pytest

from cluster.frames.prefetch import ahead


def running() -> int:
    return sum(thread.name == "ahead" for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_all_items_in_order(depth):
    assert list(ahead(iter(range(50)), depth)) == list(range(50))
    assert list(ahead([], depth)) == []
    assert list(ahead([None, None], depth)) == [None, None]
    assert running() == 0


def test_an_exception_comes_out_after_the_items_before_it():
    def broken():
        yield 1
        yield 2
        raise KeyError("frame 3")

    got = []
    with pytest.raises(KeyError, match="frame 3"):
        for item in ahead(broken(), 2):
            got.append(item)
    assert got == [1, 2] and running() == 0


def test_an_iterable_that_cannot_start_is_an_exception():
    with pytest.raises(TypeError):
        list(ahead(5, 2))
    assert running() == 0


def test_it_works_ahead_but_no_further_than_the_depth():
    made = []

    def source():
        for number in range(100):
            made.append(number)
            yield number

    items = ahead(source(), 4)
    assert made == [], "nothing starts before the first item is asked for"
    assert next(items) == 0
    deadline = time.monotonic() + 60
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(made) == 6, "one taken, four queued, one in hand"
    items.close()
    assert running() == 0


@pytest.mark.parametrize("leave", ["close", "drop", "throw"])
def test_leaving_early_stops_the_thread_and_closes_the_source(leave):
    closed = threading.Event()

    def source():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    items = ahead(source(), 2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    if leave == "close":
        items.close()
    elif leave == "drop":
        del items
        gc.collect()
    else:
        with pytest.raises(RuntimeError):
            items.throw(RuntimeError("the consumer failed"))
    assert closed.wait(60) and running() == 0


def test_the_depth_must_be_positive():
    with pytest.raises(ValueError, match="depth"):
        ahead([1], 0)
