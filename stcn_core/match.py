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

    def add(self, members: slice, positions: Sequence[int], top: TopK, queries: Tensor, affinity: str) -> None:
        """What top says of the frames `members`, whose queries are [b, Ck, h, w], for the objects at `positions`."""
        weight, count = top.weight, max(2, top.weight.shape[1])
        entropy = -torch.special.xlogy(weight, weight).sum(1) / math.log(count)  # [b * T]
        distance = -top.score[:, 0]
        if affinity == "l2":
            flat = queries.flatten(2).float()  # [b, Ck, T]
            distance = distance + flat.square().sum(1).flatten() * flat.shape[1] ** -0.5
        for target, found in ((self.entropy, entropy), (self.distance, distance.clamp(min=0))):
            for position in positions:  # a list as an index would be copied to the device, and waited for
                target[members, position] = found.view(len(queries), -1)
