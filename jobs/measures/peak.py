"""The machine's own peak: its best time for one large matrix product and for one large convolution."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def peak_works(precision: str, device: str, quick: bool = False) -> dict[str, tuple[Callable[[], object], float]]:
    """Name -> (call, its floating-point operations). The convolution is the decoder's largest layer (3x3, 256 -> 256
    channels, stride 4 of 480x864), channels_last; on a GPU sixteen of them at a time."""
    dtype, cuda = DTYPES[precision], device.startswith("cuda")
    side = 256 if quick else 8192 if cuda else 2048
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, dtype=dtype, device=device)
    channels, batch, height, width = (32, 1, 30, 54) if quick else (256, 16 if cuda else 1, 120, 216)
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype)
    conv = conv.to(memory_format=torch.channels_last)
    picture = torch.randn(batch, channels, height, width, device=device).to(dtype)
    picture = picture.contiguous(memory_format=torch.channels_last)

    def product() -> None:
        with torch.inference_mode():
            torch.mm(left, right, out=out)

    def convolution() -> None:
        with torch.inference_mode():
            F.conv2d(picture, conv.weight, padding=1)

    return {
        f"peak matmul {precision}": (product, 2.0 * side**3),
        f"peak conv {precision}": (convolution, 2.0 * 9 * channels**2 * batch * height * width),
    }
