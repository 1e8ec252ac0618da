"""How well a frame's pixels found themselves in the memory: what the readout knows beside the values it gathers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stcn_core.readout import TopK


@dataclass
class MatchMaps:
    """Two maps [B, K, T] float32 over B frames, K objects and T pixels at stride 16, filled while the memory is read.

    entropy   of the softmax weights over the k best elements, divided by log k: 0 = one element, 1 = all k alike.
    distance  to the best element, |k - q|^2 / sqrt(C), the query's own term included; under `dot` minus the affinity.
    NaN where nothing was read.
    """

    entropy: Tensor
    distance: Tensor

    @staticmethod
    def unread(frames: int, objects: int, tokens: int, device: torch.device | str) -> "MatchMaps":
        """Maps of NaN."""
        shape = (frames, objects, tokens)
        return MatchMaps(*(torch.full(shape, float("nan"), device=device) for _ in range(2)))

    def add(
        self, members: slice, positions: Sequence[int], top: TopK, rows: Tensor, queries: Tensor, affinity: str
    ) -> None:
        """What top says of the memory's rows [N, Ck + 1] for the frames `members`, whose queries are [b, Ck, h, w], and
        the objects at `positions`."""
        weight, count = top.weight, max(2, top.weight.shape[1])
        entropy = -torch.special.xlogy(weight, weight).sum(1) / math.log(count)  # [b * T]
        flat = queries.flatten(2).transpose(1, 2).flatten(0, 1).float()  # [b * T, Ck]
        best = rows[top.index[:, 0], :-1]  # not from its score, which may carry the weight of prompts
        distance = (best - flat).square().sum(1) if affinity == "l2" else -(best * flat).sum(1)
        distance = distance * flat.shape[1] ** -0.5
        for target, found in ((self.entropy, entropy), (self.distance, distance.clamp(min=0))):
            for position in positions:  # a list as an index would be copied to the device, and waited for
                target[members, position] = found.view(len(queries), -1)
