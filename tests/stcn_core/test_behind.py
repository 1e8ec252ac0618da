"""Work behind a stream: in order, not too far behind, and nothing lost."""

import threading
import time
from collections.abc import Iterator

import pytest

from stcn_core.behind import behind


@pytest.mark.parametrize("most", [0, 1, 3, 100])
def test_all_in_order(most: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(behind(range(20), work, most)) == [i * i for i in range(20)]
    assert list(behind([], work, most)) == []


def test_it_is_another_thread_that_works_while_items_are_made() -> None:
    """The next item is made before the work on the first one can end."""
    second_made, threads = threading.Event(), set()

    def items() -> Iterator[int]:
        yield 1
        second_made.set()
        yield 2

    def work(item: int) -> int:
        threads.add(threading.current_thread())
        if item == 1:
            assert second_made.wait(10)
        return item

    assert list(behind(items(), work, 1)) == [1, 2]
    assert threading.current_thread() not in threads
    assert len(threads) == 1


@pytest.mark.parametrize("most", [1, 4])
def test_no_more_than_so_many_wait(most: int) -> None:
    made, finished, ahead = 0, 0, []

    def items() -> Iterator[int]:
        nonlocal made
        for number in range(15):
            ahead.append(made - finished)
            made += 1
            yield number

    def work(item: int) -> int:
        nonlocal finished
        time.sleep(0.003)
        finished += 1
        return item

    list(behind(items(), work, most))
    assert max(ahead) <= most
    assert max(ahead) > 0


@pytest.mark.parametrize("most", [0, 2])
def test_an_error_comes_in_its_place(most: int) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    found = []
    with pytest.raises(ValueError, match="three"):
        for item in behind(range(10), work, most):
            found.append(item)
    assert found == [0, 1, 2]


def test_an_error_of_the_stream_ends_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(behind(items(), lambda item: item, 2))


def test_nothing_runs_on_when_it_is_closed() -> None:
    before = threading.active_count()
    done = []

    def work(item: int) -> int:
        time.sleep(0.01)
        done.append(item)
        return item

    stream = behind(iter(range(100)), work, 5)
    assert next(stream) == 0
    stream.close()
    assert threading.active_count() == before
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count < 10
