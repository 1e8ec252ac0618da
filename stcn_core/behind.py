"""Work done behind a stream by one other thread: while the device computes the next masks, these are encoded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def behind(items: Iterable[Item], work: Callable[[Item], Made], most: int) -> Iterator[Made]:
    """work(item) for all items, in order, at most `most` of them unfinished while the next item is made (0: here and
    now, no thread). Raises what work raises, in its place; nothing is left running when the iterator is closed."""
    if not most:
        yield from map(work, items)
        return
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(1, "encode") as thread:
        try:
            for item in items:
                waiting.append(thread.submit(work, item))
                while waiting and (len(waiting) > most or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
