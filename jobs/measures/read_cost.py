"""The memory read against its own matrix product, and the memory that it takes beside the bank."""

import ctypes
import threading
from collections.abc import Callable

import torch

from jobs.measures.bench import Bench, Case
from jobs.measures.clock import Budget
from jobs.measures.figure import Figure, ratio, timed
from jobs.measures.machine import anonymous_bytes

SECTION = "read"
CHUNK = 1024  # memory elements: the scores of so many stay in a core's cache


def measure(bench: Bench, seconds: float) -> list[Figure]:
    """One object, every picture size among the cases."""
    figures = []
    sizes = list(dict.fromkeys(case.resolution for case in bench.settings.cases))
    for resolution in sizes:
        figures += measure_case(bench, Case(resolution, 1), seconds / len(sizes))
    return figures


def measure_case(bench: Bench, case: Case, seconds: float) -> list[Figure]:
    """Reads of one frame, and products of the same shapes: all elements x (key channels + 1) x query pixels."""
    allowed = Budget(seconds)
    ours, rival = next(iter(bench.ours(case).values())), bench.rival(case)
    memory, queries = ours.memory, ours.propagation.grid[0] * ours.propagation.grid[1]
    held = sum(slot.frame >= 0 for slot in memory.slots)
    channels, device = bench.network.config.key_dim + 1, bench.settings.device
    rows = torch.randn(held * memory.tokens, channels, device=device)
    columns = torch.randn(channels, queries, device=device)
    whole = torch.empty(len(rows), queries, device=device)
    part = torch.empty(min(CHUNK, len(rows)), queries, device=device)

    def one() -> None:
        torch.mm(rows, columns, out=whole)

    def chunks() -> None:
        for start in range(0, len(rows), CHUNK):
            piece = rows[start : start + CHUNK]
            torch.mm(piece, columns, out=part[: len(piece)])

    works = {"read": ours.read_one, "product whole": one, "product chunks": chunks}
    if rival is not None:
        works["stcnbuf read"] = rival.read
    times = bench.clock.interleaved(works, allowed.left)
    better = min(("product whole", "product chunks"), key=lambda name: times[name].best)
    shape = f"[{len(rows)}, {channels}] x [{channels}, {queries}] float32"
    figures = [
        timed(SECTION, str(case), "read", times["read"], note=f"{held} frames"),
        timed(SECTION, str(case), "product in one", times["product whole"], note=shape),
        timed(SECTION, str(case), f"product in chunks of {CHUNK}", times["product chunks"], note=shape),
        ratio(SECTION, str(case), "read / its product", times["read"], times[better], note=f"the better one: {better}"),
    ]
    if rival is not None:
        figures.append(timed(SECTION, str(case), "stcnbuf read", times["stcnbuf read"]))
        figures.append(ratio(SECTION, str(case), "stcnbuf / ours read", times["stcnbuf read"], times["read"]))
    extra = extra_bytes(ours.read_one, device)
    figures.append(Figure(SECTION, str(case), "extra memory of a read", extra / 2**20, "MiB", note=_how(device)))
    return figures


def extra_bytes(work: Callable[[], object], device: str) -> int:
    """Most memory in use during the call less that before it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    trim()
    before, most, stop = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.001):
            most = max(most, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        stop.set()
        watcher.join()
    return max(0, most - before)


def trim() -> None:
    """Gives freed memory back to the system, where its C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass


def _how(device: str) -> str:
    if device.startswith("cuda"):
        return "torch's allocator, peak less before"
    return "anonymous memory of the process, sampled every ms, less before"
