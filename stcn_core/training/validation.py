"""Validation: J of plain causal propagation on rendered clips whose seeds training never sees."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stcn_core.aggregate import soft_aggregate
from stcn_core.frames import Padding, normalise
from stcn_core.network import STCN
from stcn_core.training.clips import VALIDATION
from stcn_core.training.renderer import render_instant
from stcn_core.training.scene import SceneOptions, random_scene

CLIPS = 20
FRAMES = 24
SECONDS_APART = 1 / 6
SIZE = (240, 320)
LEAST_AREA = 0.005  # share of the first frame that an object covers at least


@dataclass(frozen=True)
class ValidationClip:
    """frames uint8 [T, H, W, 3]; labels uint8 [T, H, W] of the objects that the first frame shows."""

    name: str
    frames: np.ndarray
    labels: np.ndarray


def validation_clips(count: int = CLIPS, frames: int = FRAMES) -> Iterator[ValidationClip]:
    """The frozen clips: always the same, one after the other."""
    for index in range(count):
        for attempt in range(50):
            options = SceneOptions(objects=1 + index % 3, size=SIZE)
            scene = random_scene((VALIDATION, index, attempt), options)
            _, first = render_instant(scene, 0.0)
            kept = [label for label in scene.labels if (first == label).mean() >= LEAST_AREA]
            if kept:
                break
        drawn = [render_instant(scene, i * SECONDS_APART) for i in range(frames)]
        labels = np.stack([labels for _, labels in drawn])
        labels[~np.isin(labels, kept)] = 0
        yield ValidationClip(f"rendered_{index:02d}", np.stack([frame for frame, _ in drawn]), labels)


@torch.inference_mode()
def propagate(network: STCN, frames: np.ndarray, first: np.ndarray, memory_every: int = 5, top: int = 20) -> np.ndarray:
    """Causal STCN as published: the first frame's labels stay in memory, every fifth frame is added.

    frames uint8 [T, H, W, 3], first uint8 [H, W] -> labels uint8 [T, H, W] with the ids of `first`.
    """
    ids = [int(i) for i in np.unique(first) if i]
    height, width = first.shape
    padding = Padding.to_multiple(height, width)
    device = next(network.parameters()).device
    given = torch.stack([torch.from_numpy(first == i).float() for i in ids])[None].to(device)  # [1, K, H, W]
    probabilities = padding.add(given)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    out = [first]
    table = torch.tensor([0, *ids], dtype=torch.uint8, device=device)
    for index in range(len(frames)):
        frame = padding.add(normalise(frames[index][None], device))
        features = network.encode_key(frame)
        if index > 0:
            readout = _read_top(torch.cat(keys, 1), torch.cat(values, 2), features.key[0], top)
            logits = network.decode(readout[None], features)
            aggregated = soft_aggregate(torch.sigmoid(logits.float()))  # [1, K + 1, H, W]
            probabilities = aggregated[:, 1:]
            out.append(table[padding.remove(aggregated[0]).argmax(0)].cpu().numpy())
        if index % memory_every == 0 and index < len(frames) - 1:
            value = network.encode_value(frame, features.f16, probabilities)[0]  # [K, Cv, h, w]
            keys.append(features.key[0].flatten(1))
            values.append(value.flatten(2))
    return np.stack(out)


def _read_top(keys: Tensor, values: Tensor, query: Tensor, top: int) -> Tensor:
    """keys [Ck, N], values [K, Cv, N], query [Ck, h, w] -> readout [K, Cv, h, w] from the `top` best elements."""
    channels, height, width = query.shape
    affinity = (2 * keys.T @ query.flatten(1) - keys.square().sum(0)[:, None]) / math.sqrt(channels)  # [N, hw]
    best, index = affinity.topk(min(top, len(affinity)), dim=0)
    weights = torch.softmax(best.float(), 0)  # [k, hw]
    gathered = values[:, :, index]  # [K, Cv, k, hw]
    return (gathered * weights).sum(2).unflatten(2, (height, width))


def jaccard(labels: np.ndarray, truth: np.ndarray) -> float:
    """Mean J over objects of the first true frame and over all frames but the first; both empty counts as 1.

    Pixels of 255 in the truth are void and do not count.
    """
    scores = []
    valid = truth[1:] != 255
    for i in np.unique(truth[0]):
        if i in (0, 255):
            continue
        found, wanted = (labels[1:] == i) & valid, truth[1:] == i
        union = (found | wanted).sum((1, 2))
        both = (found & wanted).sum((1, 2))
        scores.append(np.where(union > 0, both / np.maximum(union, 1), 1.0).mean())
    return float(np.mean(scores))


def validate(network: STCN, count: int = CLIPS, frames: int = FRAMES) -> dict[str, float]:
    """J of each frozen clip by name. The network should be in evaluation mode."""
    return {
        clip.name: jaccard(propagate(network, clip.frames, clip.labels[0]), clip.labels)
        for clip in validation_clips(count, frames)
    }
