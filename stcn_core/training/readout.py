"""Memory reading for training: the full softmax over the memory, differentiable (STCN, section 3.2)."""

import math

import torch
from torch import Tensor


def read_fully(memory_keys: Tensor, memory_values: Tensor, query_keys: Tensor) -> tuple[Tensor, Tensor]:
    """memory_keys [B, Ck, M, h, w], memory_values [B, K, Cv, M, h, w], query_keys [B, Ck, h, w]
    -> readout [B, K, Cv, h, w] and the weights [B, M * h * w, h * w], each column of which sums to one.
    The affinity is computed in float32."""
    batch, channels, height, width = query_keys.shape
    with torch.autocast(query_keys.device.type, enabled=False):
        keys = memory_keys.float().flatten(2)  # [B, Ck, N]
        query = query_keys.float().flatten(2)  # [B, Ck, hw]
        affinity = 2 * keys.transpose(1, 2) @ query - keys.square().sum(1)[:, :, None]  # [B, N, hw]
        weights = torch.softmax(affinity / math.sqrt(channels), 1)
    values = memory_values.flatten(3).flatten(1, 2)  # [B, K * Cv, N]
    readout = values @ weights.to(values.dtype)
    return readout.view(batch, *memory_values.shape[1:3], height, width), weights
