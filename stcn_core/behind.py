"""Work done behind a stream by one other thread: while the device computes the next masks, these are encoded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from traceback import clear_frames
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def behind(
    items: Iterable[Item], work: Callable[[Item], Made], most: int, alone: tuple[type[Exception], ...] = ()
) -> Iterator[Made]:
    """work(item) for all items, in order, at most `most` of them unfinished while the next item is made (0: here and
    now, no thread). After an error of a type in `alone` the item is worked on again here, while nothing else is: beside
    the next item the device had too little memory. Raises what work raises, in its place; nothing is left running when
    the iterator is closed."""
    if not most:
        yield from map(work, items)
        return
    waiting: deque[tuple[Item, Future[Made]]] = deque()

    def first() -> Made:
        item, future = waiting.popleft()
        error = future.exception()
        if not isinstance(error, alone):
            return future.result()
        clear_frames(error.__traceback__)  # what the attempt held is what the next one lacks
        del error, future
        wait(later for _, later in waiting)
        return work(item)

    with ThreadPoolExecutor(1, "encode") as thread:
        try:
            for item in items:
                waiting.append((item, thread.submit(work, item)))
                while waiting and (len(waiting) > most or waiting[0][1].done()):
                    yield first()
            while waiting:
                yield first()
        finally:
            for _, future in waiting:
                future.cancel()
