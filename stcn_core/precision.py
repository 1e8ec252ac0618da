"""The number types that the network computes in, and which device multiplies them itself."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Instruction sets, as torch names them, that multiply bfloat16 numbers.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16")


def computes_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Does the device multiply such numbers itself? Every GPU does, of the CPUs some do so with bfloat16."""
    if device.type != "cpu":
        return True
    if dtype != torch.bfloat16:
        return False
    if hasattr(torch.cpu, "get_capabilities"):  # not in torch's older versions
        return any(torch.cpu.get_capabilities().get(name) for name in BF16_INSTRUCTIONS)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
