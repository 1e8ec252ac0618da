"""One cell on one clip: the passes on all frames, J and F against the true masks, and what the network was asked."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rlemasklib import RLEMask
from torch import Tensor

from jobs.ablation.clips import Clip
from stcn_core.burn_in import sampled_choice
from stcn_core.inference import PreparedNetwork
from stcn_core.masks import ObjectMask
from stcn_core.metrics import VideoMetrics
from stcn_core.network import KeyFeatures
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings


class OutOfTime(Exception):
    """The measurement was given up; nothing is known of it."""


class CountedNetwork(PreparedNetwork):
    """Counts what it is asked: frames (key), frames x objects (value, decoder)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = {"key": 0, "value": 0, "decoder": 0}

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        self.asked["key"] += len(frames)
        return super().encode_key(frames)

    def encode_value(self, frames: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        self.asked["value"] += masks.shape[0] * masks.shape[1]
        return super().encode_value(frames, f16, masks)

    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        self.asked["decoder"] += readout.shape[0] * readout.shape[1]
        return super().decode(readout, features)


def measure(
    network: CountedNetwork, clip: Clip, settings: OfflineSettings, out_of_time: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Per object of the prompt J, F, J&F and their decay, and J by frame; evaluations and seconds.

    The first and last frame compared are dropped, as DAVIS does. Raises OutOfTime.
    """
    asked = dict(network.asked)
    wall, cpu = time.monotonic(), time.process_time()
    metrics = VideoMetrics()
    for frame, masks in segment(network, clip, settings):
        if out_of_time():
            raise OutOfTime
        if frame >= 0 and frame % clip.spec.every == 0:
            truth = clip.labels(frame)
            true = {object_id: truth == object_id for object_id in clip.objects}
            metrics.add({mask.object_id: decoded(mask) for mask in masks}, true)
    objects = [
        {
            "object_id": scores.object_id,
            "frames": scores.frames,
            "J": scores.j.mean,
            "F": scores.f.mean,
            "J&F": scores.jf,
            "J_decay": scores.j.decay,
            "F_decay": scores.f.decay,
            "J_by_frame": [round(j, 3) for j in metrics.per_frame(scores.object_id)[0]],
        }
        for scores in metrics.scores(objects=clip.objects)
    ]
    return {
        "frames": clip.frames,
        "size": list(clip.size),
        "compared_every": clip.spec.every,
        "objects": objects,
        "evaluations": {name: network.asked[name] - before for name, before in asked.items()},
        "seconds": time.monotonic() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def segment(network: PreparedNetwork, clip: Clip, settings: OfflineSettings):
    """(frame, list[ObjectMask]) of all frames, as jobs.annotate makes them from these pictures and the first mask.

    Frames of the burn-in, which come before, are yielded as (-1, []).
    """
    first = clip.labels(0)
    given = {object_id: (first == object_id).astype(np.uint8) for object_id in clip.objects}
    prompts = PromptSet(clip.objects, {0: FramePrompts(given)})
    choice = None
    if settings.burn_in_passes:
        choice = sampled_choice(settings, clip.spec.name)
        for frame in range(settings.pin_prompts, clip.frames):  # a pinned frame is in the memory already
            choice.offer(frame)
    segmenter = OfflineSegmenter(
        Propagation(network, clip.size),
        settings,
        prompts,
        source=clip.size,
        size=clip.size,
        video_id=clip.spec.name,
        visited=None if choice is None else len(choice),
    )
    pictures = ((frame, clip.picture(frame)) for frame in range(clip.frames))
    if choice is None:
        yield from segmenter.causal_pass(pictures)
        return
    segmenter.memorise_prompts(clip.picture)
    for _ in segmenter.burn_in(choice.order(prompts.shown_frames), clip.picture):
        yield -1, []
    yield from segmenter.final_pass(pictures)


def decoded(mask: ObjectMask) -> np.ndarray:
    """bool [h, w]."""
    rle = RLEMask.from_dict({"size": [mask.height, mask.width], "counts": mask.counts})
    return rle.to_array(order="C").astype(bool)
