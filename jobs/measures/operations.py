"""Operations of the plain network, counted on its shapes alone."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from stcn_core.network import STCN, KeyFeatures, NetworkConfig


@dataclass(frozen=True)
class Operations:
    """Floating-point operations (two per multiply-add) of the network as published, per frame: key path, decoder of
    all objects, values of all objects. What is shared between objects or left out counts as if it were computed."""

    key: int
    decoder: int
    value: int


def count_operations(config: NetworkConfig, padded: tuple[int, int], objects: int) -> Operations:
    """padded: (height, width), multiples of 16."""
    height, width = padded
    counts = []
    with torch.device("meta"), torch.inference_mode():
        network = STCN(config).eval()
        frames = torch.zeros(1, 3, height, width)
        features: KeyFeatures = network.encode_key(frames)
        readout = torch.zeros(1, objects, config.value_dim, height // 16, width // 16)
        masks = torch.zeros(1, objects, height, width)
        for step in (
            lambda: network.encode_key(frames),
            lambda: network.decode(readout, features),
            lambda: network.encode_value(frames, features.f16, masks),
        ):
            with FlopCounterMode(display=False) as counter:
                step()
            counts.append(counter.get_total_flops())
    return Operations(*counts)
