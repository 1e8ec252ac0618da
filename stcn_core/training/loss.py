"""The training loss: bootstrapped cross-entropy (STCN, section 4 and supplement) plus dice."""

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6


def aggregate_log_probabilities(logits: Tensor, present: Tensor) -> Tensor:
    """Log of the soft aggregation of per-object logits [B, K, H, W]: [B, K + 1, H, W], background first.

    The same as `stcn_core.aggregate.soft_aggregate` of the sigmoids, in a form that keeps its gradient where it
    saturates. present bool [B, K]: objects that a sample does not have get no probability.
    """
    logits = logits.float().masked_fill(~present[:, :, None, None], -15.0)
    log_background = -F.softplus(logits).sum(1, keepdim=True)  # log of the product of (1 - p)
    odds = log_background - torch.log(-torch.expm1(log_background.clamp(max=-FLOOR)))
    return F.log_softmax(torch.cat((odds.clamp(-15, 15), logits.clamp(-15, 15)), 1), 1)


def bootstrap_share(step: int, start: int, end: int, final: float) -> float:
    """Share of the hardest pixels that count: all of them until `start`, falling linearly to `final` at `end`."""
    if step <= start:
        return 1.0
    return max(final, 1 - (1 - final) * (step - start) / max(end - start, 1))


def mask_loss(log_probabilities: Tensor, masks: Tensor, present: Tensor, share: float) -> Tensor:
    """log_probabilities [B, K + 1, H, W], masks 0/1 [B, K, H, W], present bool [B, K] -> scalar."""
    target = sum(masks[:, k] * (k + 1) for k in range(masks.shape[1])).long()  # [B, H, W]; masks do not overlap
    entropy = F.nll_loss(log_probabilities, target, reduction="none").flatten(1)  # [B, H * W]
    if share < 1:
        entropy = entropy.topk(max(1, int(share * entropy.shape[1])), dim=1).values
    probabilities = log_probabilities[:, 1:].exp().flatten(2)  # [B, K, H * W]
    truth = masks.flatten(2)
    overlap = 2 * (probabilities * truth).sum(2) + 1
    dice = 1 - overlap / (probabilities.sum(2) + truth.sum(2) + 1)  # [B, K]
    weight = present.float()
    return entropy.mean() + (dice * weight).sum() / weight.sum().clamp(min=1)
