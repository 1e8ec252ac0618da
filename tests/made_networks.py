"""Networks with random weights that behave like trained ones, and small videos of moving squares.

Default initialisation lets activations die or explode over the many blocks, so that every mask would be empty or full.
Here every layer keeps its variance, batch norms have statistics, and the decoder's bias balances fore- and background.
"""

import numpy as np
import torch
from torch import nn

from stcn_core.network import STCN, NetworkConfig

TINY = NetworkConfig(
    key_block="basic",
    key_width=8,
    key_depths=(1, 1, 1),
    value_width=8,
    value_depths=(1, 1, 1),
    value_conv_bias=False,
    key_dim=16,
    value_dim=32,
    decoder_dim=16,
)

# Sharper matching, masks that differ between objects, and logits on both sides of zero.
LOUDER = {
    "key_proj.key_proj.weight": 3.0,
    "value_encoder.conv1.weight": 2.0,
    "decoder.pred.weight": 2.5,
}


def randomise(network: nn.Module, seed: int) -> None:
    """Fills all parameters and buffers from a seed, in the order of the state dict."""
    draw = torch.Generator().manual_seed(seed)
    for key, tensor in network.state_dict().items():
        name = key.rsplit(".", 1)[1]
        if not tensor.is_floating_point():
            continue
        if name == "running_mean":
            tensor.normal_(0, 0.1, generator=draw)
        elif name == "running_var":
            tensor.uniform_(0.5, 1.5, generator=draw)
        elif name == "bias":
            tensor.normal_(0, 0.05, generator=draw)
        elif tensor.ndim == 1:  # a batch norm's scale
            tensor.uniform_(0.4, 0.8, generator=draw)
        else:
            fan_in = tensor[0].numel()
            tensor.normal_(0, (1.4 / fan_in) ** 0.5, generator=draw)
            tensor *= LOUDER.get(key, 1.0)
            if key == "value_encoder.conv1.weight":
                tensor[:, 3:] *= 3  # the masks' channels


def random_network(config: NetworkConfig = TINY, seed: int = 5) -> STCN:
    """In evaluation mode."""
    network = STCN(config)
    randomise(network, seed)
    return network.eval()


def moving_squares(
    frames: int, height: int = 48, width: int = 64, objects: int = 2, seed: int = 0, noise_seed: int = 0
) -> np.ndarray:
    """uint8 [frames, height, width, 3]: coloured squares that wander over a textured ground."""
    draw = np.random.default_rng(seed)
    ground = draw.integers(40, 120, (height, width, 3))
    video = np.repeat(ground[None], frames, 0).astype(np.uint8)
    for number, labels in enumerate(square_labels(frames, height, width, objects)):
        for k in range(objects):
            colour = np.array([(90 + 83 * k) % 256, (200 + 61 * k) % 256, (30 + 127 * k) % 256])
            video[number][labels == k + 1] = colour
    noise = np.random.default_rng(noise_seed).integers(0, 8, video.shape, dtype=np.uint8)
    return np.clip(video.astype(np.int16) + noise, 0, 255).astype(np.uint8)


def square_labels(frames: int, height: int = 48, width: int = 64, objects: int = 2) -> np.ndarray:
    """uint8 [frames, height, width] label maps of the same squares; later objects lie in front."""
    labels = np.zeros((frames, height, width), np.uint8)
    side = max(4, min(height, width) // 3)
    for number in range(frames):
        for k in range(objects):
            y = int((height - side) * (0.5 + 0.5 * np.sin(0.3 * number + 2 * k)))
            x = int((width - side) * (0.5 + 0.5 * np.cos(0.23 * number + 3 * k)))
            labels[number, y : y + side, x : x + side] = k + 1
    return labels
