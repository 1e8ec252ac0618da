"""Working ahead: a thread fills a bounded queue while the consumer is busy."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
POLL_S = 0.1


def ahead(iterable: Iterable[Item], depth: int) -> Iterator[Item]:
    """The items of `iterable` in order, up to `depth` of them made ahead in a thread.

    The thread starts with the first item asked for. An exception inside `iterable` comes out here, after the items
    before it. Closing the generator (also by leaving a loop and dropping it) stops the thread, closes `iterable` in
    that thread, and waits for both; a blocking `iterable` is waited for until its next item.
    Raises ValueError when `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    return _consume(iterable, depth)


def _consume(iterable: Iterable[Item], depth: int) -> Iterator[Item]:
    items: queue.Queue = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_produce, args=(iterable, items, stop), name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                kind, value = items.get(timeout=10 * POLL_S)
            except queue.Empty:
                if thread.is_alive() or not items.empty():
                    continue
                raise RuntimeError("the thread that works ahead ended without a word") from None
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
            del value  # not kept alive while waiting for the next
    finally:
        stop.set()
        thread.join()


def _produce(iterable: Iterable[Item], items: queue.Queue, stop: threading.Event) -> None:
    iterator = None
    try:
        iterator = iter(iterable)
        for item in iterator:
            if not _offer(items, ("item", item), stop):
                return
            del item
        _offer(items, ("end", None), stop)
    except BaseException as error:  # whatever it is, it belongs to the consumer
        _offer(items, ("error", error), stop)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _offer(items: queue.Queue, entry: tuple, stop: threading.Event) -> bool:
    """Put `entry` into the queue, or give up (False) when the consumer is gone."""
    while not stop.is_set():
        try:
            items.put(entry, timeout=POLL_S)
            return True
        except queue.Full:
            continue
    return False
