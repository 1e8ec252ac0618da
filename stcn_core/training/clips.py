"""Rendered clips for training, by number: clip i of seed s is always the same, whoever renders it and when."""

import math
import multiprocessing
import queue
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from stcn_core.training.renderer import render_times
from stcn_core.training.scene import SceneOptions, random_scene

TRAINING, VALIDATION = 1, 2  # first number of a scene's seed: the two never meet
INSTANTS = 8  # frames of a training clip
SIZES = ((256, 320), (256, 256), (240, 400), (320, 256))
CANCEL_SECONDS = 120.0


@dataclass(frozen=True)
class Clip:
    """frames uint8 [T, H, W, 3], labels uint8 [T, H, W], in order of time, at uneven distances."""

    frames: np.ndarray
    labels: np.ndarray


def training_clip(seed: int, index: int) -> Clip:
    """Some instants of one scene, from a third of a second to a quarter of a minute apart in all."""
    rng = np.random.default_rng([TRAINING, seed, index])
    objects = int(rng.choice((1, 2, 3), p=(0.25, 0.5, 0.25)))
    size = SIZES[int(rng.integers(len(SIZES)))]
    scene = random_scene((TRAINING, seed, index, 1), SceneOptions(objects=objects, size=size))
    span = math.exp(rng.uniform(math.log(0.4), math.log(16.0)))
    times = np.sort(rng.uniform(0, span, INSTANTS))
    return Clip(*render_times(scene, times.tolist()))


def clip_stream(seed: int, first: int, workers: int) -> Iterator[Clip]:
    """Clips first, first + 1, ... in order, rendered ahead by `workers` processes (0: here, when asked for).

    Closing the generator ends its processes.
    """
    if workers == 0:
        index = first
        while True:
            yield training_clip(seed, index)
            index += 1
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=4) for _ in range(workers)]
    processes = [
        context.Process(target=_render_forever, args=(seed, first + i, workers, queues[i]), daemon=True)
        for i in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        turn = 0
        while True:
            yield Clip(*_next(queues[turn], processes[turn]))
            turn = (turn + 1) % workers
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _next(results: multiprocessing.Queue, process: multiprocessing.Process) -> tuple[np.ndarray, np.ndarray]:
    waited = 0.0
    while True:
        try:
            return results.get(timeout=2.0)
        except queue.Empty:
            waited += 2.0
            if not process.is_alive() or waited > CANCEL_SECONDS:
                raise RuntimeError(
                    f"the rendering process ended or stalled (exit code {process.exitcode}); "
                    "try --workers 0, which renders in the trainer itself"
                ) from None


def _render_forever(seed: int, index: int, stride: int, results: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    results.cancel_join_thread()  # else an orphan waits for ever for someone to read its last clips
    while multiprocessing.parent_process().is_alive():
        clip = training_clip(seed, index)
        while multiprocessing.parent_process().is_alive():
            try:
                results.put((clip.frames, clip.labels), timeout=2.0)
                break
            except queue.Full:
                continue
        index += stride


class ClipPool:
    """A sliding window over the stream of clips, whose place depends on the step alone: so runs can be resumed.

    At step s it holds clips [hi - capacity, hi) with hi = first_fill + floor(s * rate); each clip is used many
    times while it is there, cut, turned, coloured and paired differently every time.
    """

    def __init__(self, seed: int, workers: int, capacity: int, first_fill: int, rate: float) -> None:
        self.seed, self.workers = seed, workers
        self.capacity, self.first_fill, self.rate = capacity, first_fill, rate
        self._clips: list[Clip] = []
        self._low = 0
        self._stream: Iterator[Clip] | None = None

    def at_step(self, step: int) -> list[Clip]:
        """The window of this step; renders what is missing. Steps must not go back."""
        high = self.first_fill + int(step * self.rate)
        low = max(0, high - self.capacity)
        if self._stream is None:
            self._low = low
            self._stream = clip_stream(self.seed, low, self.workers)
        while self._low + len(self._clips) < high:
            self._clips.append(next(self._stream))
        del self._clips[: low - self._low]
        self._low = low
        return self._clips

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
