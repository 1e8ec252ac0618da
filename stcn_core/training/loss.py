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


def match_loss(weights: Tensor, memory_masks: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of the masks that the readout's weights alone carry from memory to query, at stride 16.

    It teaches the keys directly, long before values and decoder have learnt to pass anything on.
    weights [B, M * h * w, h * w], memory_masks 0/1 [B, M, K, H, W], masks 0/1 [B, K, H, W].
    """
    batch, frames, objects = memory_masks.shape[:3]
    known = F.avg_pool2d(memory_masks.flatten(0, 1), 16)  # [B * M, K, h, w]
    known = known.view(batch, frames, objects, -1).transpose(1, 2).flatten(2)  # [B, K, M * h * w]
    carried = known @ weights  # [B, K, h * w]
    wanted = F.avg_pool2d(masks, 16).flatten(2)
    carried = (
        torch.cat((1 - carried.sum(1, keepdim=True), carried), 1) + 1e-3
    )  # added, not clamped: what matches not at all must still be pulled
    wanted = torch.cat((1 - wanted.sum(1, keepdim=True), wanted), 1)
    entropy = -(wanted * carried.log()).sum(1)  # [B, h * w]
    share = wanted[:, 1:].sum(1).clamp(0, 1)  # objects and ground weigh the same, however small the object is
    inside = (entropy * share).sum(1) / (share.sum(1) + 1)
    outside = (entropy * (1 - share)).sum(1) / ((1 - share).sum(1) + 1)
    return (inside + outside).mean()
