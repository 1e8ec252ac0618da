"""Measures tasks one after the other, here or in worker processes, until all are done or time is up."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.ablation.clips import LONG, SPLICED, ClipSpec, open_clip
from jobs.ablation.long_videos import is_whole, render_missing
from jobs.ablation.results import Results, Task

SECONDS_PER_EVALUATION = 0.03  # a guess for the first tasks; afterwards what was measured
# Frames and objects of a clip that was not measured yet.
USUAL = {LONG: (2000, 2), SPLICED: (150, 1), "to-and-fro-3": (210, 1), "to-and-fro-10": (700, 1)}


def evaluations(task: Task, frames: int, objects: float = 1.0) -> float:
    """About what the network is asked: frames encoded, and masks decoded and memorised."""
    settings = task.settings
    passes = settings.burn_in_passes
    if not passes:
        return frames * (1 + objects) + frames / settings.memory_every
    visited = min(frames, settings.visited_frames or frames) * passes
    return (frames + visited) * (1 + objects) + visited * objects


class Pace:
    """What a task will take, learned from those that were measured."""

    def __init__(self) -> None:
        self._seconds = self._cpu_seconds = self._asked = 0.0
        self._frames: dict[str, tuple[int, int]] = {}

    def learn(self, task: Task, record: dict[str, Any]) -> None:
        self._seconds += record["seconds"]
        self._cpu_seconds += record["cpu_seconds"]
        self._asked += sum(record["evaluations"].values())
        self._frames[task.clip.name] = record["frames"], len(record["objects"])

    def seconds(self, task: Task) -> float:
        """On this machine, as busy as it was."""
        return self._evaluations(task) * (self._seconds / self._asked if self._asked else SECONDS_PER_EVALUATION)

    def core_hours(self, tasks: Sequence[Task]) -> float:
        """Of a core that does nothing else."""
        each = self._cpu_seconds / self._asked if self._asked else SECONDS_PER_EVALUATION
        return sum(map(self._evaluations, tasks)) * each / 3600

    def _evaluations(self, task: Task) -> float:
        frames, objects = self._frames.get(task.clip.name) or USUAL.get(task.clip.kind, (80, 1))
        return evaluations(task, frames, objects)


def work(
    waiting: Sequence[Task],
    results: Results,
    checkpoint: Path,
    *,
    jobs: int,
    ends: float,
    pace: Pace,
    say: Callable[[str], None],
) -> list[Task]:
    """Measures what is not measured yet, writing each result as it comes. ends: time.time() at which to stop, at the
    latest. Returns what is left. Raises what measuring raises."""
    todo, left, done = [], [], 0
    for task in waiting:
        record = results.get(task)
        if record is None:
            todo.append(task)
        else:
            pace.learn(task, record)
    if not todo:
        return []
    total = len(todo)
    running: dict[Future, Task] = {}
    pool = None
    if jobs > 1:
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        while todo or running:
            while todo and len(running) < jobs:
                task = todo.pop(0)
                if time.time() + pace.seconds(task) > ends or not _there(task.clip, ends, say):
                    left.append(task)  # a shorter one may still fit
                    continue
                arguments = (task, checkpoint, results.resolution, results.precision, ends)
                if pool is None:
                    future: Future = Future()
                    future.set_result(_measured(*arguments))
                else:
                    future = pool.submit(_measured, *arguments)
                running[future] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                task, record = running.pop(future), future.result()
                if record is None:
                    left.append(task)
                    continue
                results.put(task, record)
                pace.learn(task, record)
                done += 1
                score = sum(one["J&F"] for one in record["objects"]) / len(record["objects"])
                say(
                    f"{done} of {total}: {task.cell.name}, {task.clip.name}, seed {task.seed}: "
                    f"J&F {score:.3f}, {record['seconds']:.0f} s"
                )
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return left


def _there(spec: ClipSpec, ends: float, say: Callable[[str], None]) -> bool:
    """Whether the clip is whole; a long video is rendered here where it is not, as far as there is time."""
    if spec.kind != LONG or is_whole(spec):
        return True
    for number in render_missing(spec, lambda: time.time() > ends):
        if number % 500 == 0:
            say(f"rendered {number} frames of {spec.name}")
    return is_whole(spec)


def _measured(task: Task, checkpoint: Path, resolution: int, precision: str, ends: float) -> dict[str, Any] | None:
    """In the process that works; None where time was up."""
    from jobs.ablation.measure import OutOfTime, measure

    network = _network(checkpoint, precision)
    try:
        return measure(network, _clip(task.clip, resolution), task.settings, lambda: time.time() > ends)
    except OutOfTime:
        return None


@lru_cache(1)
def _network(checkpoint: Path, precision: str):
    import torch

    from jobs.ablation.measure import CountedNetwork
    from stcn_core.checkpoint import load_checkpoint

    torch.set_num_threads(1)
    return CountedNetwork(load_checkpoint(checkpoint)[0], precision=precision)


_clip = lru_cache(2)(open_clip)
