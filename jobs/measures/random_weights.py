"""A network of random weights whose activations keep their scale through all layers: as fast as a trained one."""

import copy

import torch
from torch import nn

from stcn_core.network import STCN, NetworkConfig

GAIN = 1.4  # of a convolution before a ReLU; 2 would be He's, but the residual branches add up
FAR_BELOW = 1000.0
SHARPER_KEYS = 3.0  # so that the best matches differ from the others


def random_network(config: NetworkConfig, seed: int = 0) -> STCN:
    """In evaluation mode, float32, on the CPU; the same seed gives the same weights."""
    network = STCN(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (GAIN / fan_in) ** 0.5, generator=draw)
                if module.bias is not None:
                    module.bias.normal_(0, 0.05, generator=draw)
            elif isinstance(module, nn.BatchNorm2d):
                # A residual sum would grow from block to block with a scale of 1.
                module.weight.uniform_(0.4, 0.8, generator=draw)
                module.bias.normal_(0, 0.05, generator=draw)
                module.running_mean.normal_(0, 0.1, generator=draw)
                module.running_var.uniform_(0.5, 1.5, generator=draw)
        network.key_proj.key_proj.weight *= SHARPER_KEYS
    return network


def without_masks(network: STCN) -> STCN:
    """A copy whose logits are all far below zero."""
    quiet = copy.deepcopy(network)
    with torch.no_grad():
        quiet.decoder.pred.bias -= FAR_BELOW
    return quiet
