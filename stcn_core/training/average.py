"""Exponential moving average of a network's weights: what is validated and exported."""

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages parameters and buffers; early on the decay is small, so that the random start is forgotten."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {key: tensor.clone() for key, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.state[key].lerp_(tensor, 1 - decay)
            else:
                self.state[key].copy_(tensor)
