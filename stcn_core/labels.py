"""From aggregated probabilities to labels and scores at the source's resolution, on their device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCORE_STEPS = 1 << 24


def label_frame(probabilities: Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Aggregated probabilities [1 + K, h, w] -> labels uint8 or int32 [H, W] and scores [K] at the source's size.

    Probabilities, not labels, are upsampled (bilinear, align_corners False), then argmax, on their device.
    """
    if tuple(probabilities.shape[-2:]) != tuple(size):
        probabilities = F.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]
    best, labels = probabilities.max(0)  # [H, W]
    count = probabilities.shape[0]
    flat = labels.flatten()
    area = torch.bincount(flat, minlength=count)
    # Sums of whole numbers are exact in any order, so that a device's atomic additions cannot change a score.
    steps = (best.flatten().double() * SCORE_STEPS).round()
    total = torch.bincount(flat, weights=steps, minlength=count) / SCORE_STEPS
    scores = (total / area.clamp(min=1)).cpu().numpy()[1:]
    kind = torch.uint8 if count <= 256 else torch.int32
    return labels.to(kind).cpu().numpy(), scores
