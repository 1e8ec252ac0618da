"""From aggregated probabilities to labels and scores at the source's resolution, on their device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCORE_STEPS = 1 << 24
UPSAMPLED_BYTES = 256 << 20  # of probabilities at the source's resolution that live at a time


def label_frame(probabilities: Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Aggregated probabilities [1 + K, h, w] -> labels uint8 or int32 [H, W] and scores [K] at the source's size.

    Probabilities, not labels, are upsampled (bilinear, align_corners False), then argmax, on their device.
    """
    best, labels = _best(probabilities, size)
    count = probabilities.shape[0]
    flat = labels.flatten()
    area = torch.bincount(flat, minlength=count)
    # Sums of whole numbers are exact in any order, so that a device's atomic additions cannot change a score.
    steps = (best.flatten().double() * SCORE_STEPS).round()
    total = torch.bincount(flat, weights=steps, minlength=count) / SCORE_STEPS
    scores = (total / area.clamp(min=1)).cpu().numpy()[1:]
    kind = torch.uint8 if count <= 256 else torch.int32
    return labels.to(kind).cpu().numpy(), scores


def _best(probabilities: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The largest probability and its label [H, W], the lowest label among equals; a few objects at a time."""
    step = max(1, UPSAMPLED_BYTES // (4 * size[0] * size[1]))
    best = labels = None
    for first in range(0, len(probabilities), step):
        part = probabilities[first : first + step]
        if tuple(part.shape[-2:]) != tuple(size):
            part = F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0]
        largest, position = part.max(0)
        if best is None:
            best, labels = largest, position
        else:
            better = largest > best
            best = torch.where(better, largest, best)
            labels = torch.where(better, position + first, labels)
    return best, labels
