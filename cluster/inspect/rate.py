"""How fast the network runs on this machine: a few seconds of the real thing on made pictures. Imports torch."""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cluster.cost import DECODE_FRAME, predict
from cluster.frames.probe import Probe
from cluster.inspect.forecast import Rate
from cluster.segmenter import Segmenter, StcnSegmenters, VideoFacts
from cluster.workbench import offline_settings
from schemas.run_config import RunConfig
from stcn_core.multi_scale import MultiScaleSegmenter
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet

SECONDS = 4.0
KEY_NOISE = 0.1  # of the keys' deviation
MOST_SLOTS = 512  # an unbounded bank is measured with so many


def measure_rate(
    checkpoint: str, config: RunConfig, size: tuple[int, int], visited: int, *, device: str, threads: int
) -> Rate:
    """One object at working size (h, w) against a bank as full as a burn-in of `visited` frames leaves it.

    Decoding and writing run beside the network and are not in it. Raises RuntimeError, OSError, CheckpointError.
    """
    segmenters = StcnSegmenters(checkpoint)
    with tempfile.TemporaryDirectory(prefix="stcn-rate-") as scratch:
        segmenters.load(config, device, threads, Path(scratch), {})
    mask = np.zeros(size, np.uint8)
    mask[: size[0] // 3 + 1, : size[1] // 3 + 1] = 1
    prompts = PromptSet((1,), {0: FramePrompts(given={1: mask})})
    facts = VideoFacts(size, size, "rate", min(visited, MOST_SLOTS))
    segmenter = segmenters.begin(offline_settings(config), prompts, facts)
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    pictures = ((frame, picture) for frame in itertools.count())
    if config.burn_in_passes:
        segmenter.memorise_prompts(lambda frame: picture)
        slots = max(_fill(part, view) for part, view in _parts(segmenter, picture))
        results = segmenter.final_pass(pictures)
        frames, seconds = _timed(results, config.group_frames)
    else:
        slots = 1
        frames, seconds = _timed(segmenter.causal_pass(pictures), config.memory_every)
    work = predict(Probe(height=size[0], width=size[1]), 1, 1, 1, config, visited).frame - DECODE_FRAME
    network = _parts(segmenter, picture)[0][0].propagation.network.config
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {threads} thread(s)"
    source = (
        f"measured on this machine ({where}): {frames / seconds:.3g} frames/s for one object at {size[1]}x{size[0]} "
        f"with {slots} memory frames; give --frames-per-second for another machine"
    )
    return Rate(seconds / frames / work, source, network.key_dim, network.value_dim)


def _parts(segmenter: Segmenter, picture: np.ndarray) -> list[tuple[OfflineSegmenter, np.ndarray]]:
    """The runs that are averaged, each with its view of the picture; or the only one."""
    if isinstance(segmenter, MultiScaleSegmenter):
        return [(run.segmenter, run.view(picture)) for run in segmenter.runs]
    return [(segmenter, picture)]


@torch.inference_mode()
def _fill(segmenter: OfflineSegmenter, picture: np.ndarray) -> int:
    """Puts copies of one frame into every slot of the bank, each with noise of its own, since frames that are equal bit
    by bit are slower to read than real ones. Returns the frames held."""
    encoded = segmenter.propagation.encode([0], [picture])
    given = segmenter.propagation.given(np.ones((1, *segmenter.size), np.uint8))
    values = segmenter.propagation.value(encoded, given)
    key, draw = encoded.features.key[0].float(), torch.Generator().manual_seed(0)
    strength = KEY_NOISE * key.std()
    for frame in range(1, min(segmenter.memory.capacity, MOST_SLOTS) + 1):
        position = segmenter.memory.admit(frame)
        if position is not None:
            noise = torch.randn(key.shape, generator=draw).to(key.device)
            noisy = (key + strength * noise).to(encoded.features.key.dtype)
            segmenter.memory.memorise(position, frame, noisy, values, [True])
    return len(segmenter.memory.bank_frames())


def _timed(results: Iterator, group: int) -> tuple[int, float]:
    """(frames, seconds) of whole groups. The first warms up, and counts only where it is slow."""
    started = time.monotonic()
    for _ in range(group):
        next(results)
    seconds = time.monotonic() - started
    if seconds > SECONDS:
        return group, seconds
    frames, started = 0, time.monotonic()
    while True:
        for _ in range(group):
            next(results)
        frames += group
        seconds = time.monotonic() - started
        if seconds > SECONDS:
            return frames, seconds
