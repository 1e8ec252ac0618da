"""From aggregated probabilities to labels and scores at the source's resolution, on their device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.host_copy import HostCopy
from stcn_core.label_sums import label_areas, label_sums, small_labels

UPSAMPLED_BYTES = 256 << 20  # of probabilities at the source's resolution that live at a time
# On a CPU torch upsamples three channels, and pictures of a few thousand pixels, by routines with other roundings.
# Groups of one size, at least this large, give the bits that all channels at once would at any size where groups are
# needed.
LEAST_TOGETHER = 8


def label_frame(probabilities: Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Aggregated probabilities [1 + K, h, w] -> labels uint8 or int32 [H, W] and scores float64 [K] at the source's
    size.

    Probabilities, not labels, are upsampled (bilinear, align_corners False), then argmax, on their device.
    """
    return begin_labels(probabilities, size).arrays()


def begin_labels(probabilities: Tensor, size: tuple[int, int]) -> HostCopy:
    """As `label_frame`, but not waited for."""
    best, labels = _best(probabilities, size)
    count = probabilities.shape[0]
    scores = label_sums(labels, (best,), count)[0] / label_areas(labels, count).clamp(min=1)
    return HostCopy(small_labels(labels, count), scores[1:])


def _best(probabilities: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The largest probability and its label [H, W], the lowest label among equals; a few objects at a time."""
    count = len(probabilities)
    step = min(count, max(LEAST_TOGETHER, UPSAMPLED_BYTES // (4 * size[0] * size[1])))
    best = labels = None
    for start in range(0, count, step):
        first = min(start, count - step)  # the last group reaches back, which changes no maximum
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
