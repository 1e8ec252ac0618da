"""Soft aggregation of per-object probabilities (STM, Oh et al. 2019, equation 5; STCN uses it unchanged)."""

import torch
from torch import Tensor

CLAMP = 1e-7  # as published; 1 - 1e-7 is 1 in half precision, so this runs in float32


def soft_aggregate(probabilities: Tensor) -> Tensor:
    """probabilities [..., K, H, W] in 0..1 -> [..., K + 1, H, W] float32 that sums to one, background first.

    Background = product of (1 - p). Odds p / (1 - p) are normalised over background and objects, which equals a
    softmax over their logits.
    """
    foreground = probabilities.float()
    background = (1 - foreground).prod(-3, keepdim=True)
    stack = torch.cat((background, foreground), -3).clamp(CLAMP, 1 - CLAMP)
    return torch.softmax(torch.log(stack) - torch.log1p(-stack), -3)
