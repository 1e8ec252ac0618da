"""Many small reads side by side: every item, once, in order."""

import threading
import time

import pytest

from cluster.inspect.inspection import side_by_side


def test_every_item_comes_back_in_order_however_many_there_are():
    for count in (0, 1, 7, 8, 9, 200):
        assert list(side_by_side(lambda item: item * 2, range(count), threads=2)) == [2 * item for item in range(count)]


def test_only_a_few_results_are_held_ahead():
    taken, lock = [], threading.Lock()

    def items():
        for item in range(100):
            with lock:
                taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items(), threads=2)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(taken) <= 9
    assert list(results) == list(range(1, 100))


def test_after_an_error_what_was_not_begun_is_left():
    begun, lock = [], threading.Lock()

    def work(item: int) -> int:
        with lock:
            begun.append(item)
        time.sleep(0.02)
        if item == 0:
            raise OSError("the disk is full")
        return item

    with pytest.raises(OSError, match="full"):
        list(side_by_side(work, range(100), threads=2))
    assert len(begun) <= 4  # of the 8 that waited
