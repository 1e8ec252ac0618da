"""How much work a video is: a number proportional to seconds, for order, packing, deadlines and time left. Pure.

It never changes a mask, so it may be wrong; the driver measures how many seconds a unit of it really takes.
"""

import math
from dataclasses import dataclass

from cluster.frames.probe import Probe
from cluster.frames.video import working_size
from schemas.run_config import RunConfig
from stcn_core.settings import parse_scales

# Seconds per megapixel and frame of the official layout, one object, bank of 128 frames, on two CPU cores. Only their
# proportions matter; they are about the same on a GPU and for the small layout.
KEY, READ, DECODER, VALUE = 1.15, 1.0, 2.5, 1.15
DECODE_FRAME = 0.003  # reading a frame from the file
START = 1.0  # opening, fetching, publishing: what a unit costs however short it is
# Where nothing is known but the size of the file: a 480p video of about 1 Mbit/s at 25 frames/s.
BYTES_PER_FRAME, USUAL_PIXELS = 5_000, 480 * 854


@dataclass(frozen=True)
class Cost:
    """Predicted work: of the burn-in (decode pass included) and of one frame of the final pass."""

    burn_in: float
    frame: float

    def final(self, frames: int) -> float:
        """Work of a stretch of the final pass."""
        return START + self.frame * frames


def annotated_frames(frames: int, start: int, end: int | None, stride: int) -> int:
    """How many frames of `frames` the range start to end (exclusive), every stride-th, holds."""
    stop = frames if end is None else min(end, frames)
    return max(0, -(-(stop - start) // stride))


def frames_known_or_guessed(probe: Probe, size: int | None) -> int:
    """The probe's count, otherwise a guess from the file's size in bytes."""
    return probe.frames or max(1, (size or 0) // BYTES_PER_FRAME)


def runs_of(config: RunConfig) -> float:
    """How many runs of the network at --resolution the run's scales and mirrored views are worth, by their pixels."""
    shares = [(scale.resolution / config.resolution) ** 2 for scale in parse_scales(config.scales)] or [1.0]
    return sum(shares) * (2 if config.flip else 1)


def visits_of(config: RunConfig, once: int, annotated: int) -> float:
    """How many visits of a frame the burn-in is worth; a pass visits `once` frames. The gates are those of
    stcn_core/gate.py."""
    gates, visits = config.burn_in_gate.split(","), float(config.burn_in_passes * once)
    different = min(annotated, visits)
    if config.memory_policy == "reservoir" and visits > config.memory_frames:
        # Frames that it turns away are not computed: the n-th is kept with probability memory_frames / n.
        visits = config.memory_frames * (1 + math.log(visits / config.memory_frames))
    if "two-way" in gates:
        visits *= 1 + DECODER / (KEY + READ + DECODER + VALUE)  # each visit answers for one prompted frame
    if "agreement" in gates:
        visits += different  # the rehearsal, which computes all
    if "relabel" in gates:
        visits += min(different, config.memory_frames)
    return visits


def value_share(config: RunConfig) -> float:
    """How many values the final pass, or a causal one, makes per frame and object."""
    if config.burn_in_passes:
        return 1 / config.group_frames if config.recent_frames else 0.0
    return 1.0 if config.recent_frames else 1 / config.memory_every


def predict(probe: Probe, frames: int, annotated: int, objects: int, config: RunConfig, visited: int | None) -> Cost:
    """frames are decoded, `annotated` of them segmented; visited is the limit per burn-in pass, None for all."""
    pixels = USUAL_PIXELS
    if probe.height and probe.width:
        height, width = working_size(probe.height, probe.width, config.resolution)
        pixels = height * width
    megapixels = pixels / 1e6 * runs_of(config)
    frame = DECODE_FRAME + megapixels * (KEY + READ + objects * (DECODER + VALUE * value_share(config)))
    once = min(annotated, annotated if visited is None else visited)
    visits = visits_of(config, once, annotated)
    visit = megapixels * (KEY + READ + objects * (DECODER + VALUE))
    burn_in = START + DECODE_FRAME * frames + visits * visit if config.burn_in_passes else 0.0
    return Cost(burn_in, frame)
