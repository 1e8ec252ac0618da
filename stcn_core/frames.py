"""From decoded pixels to network input and back."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.image_change import MEAN, STD


@dataclass(frozen=True)
class Padding:
    """Rows and columns added around a frame: total (-n) mod 16, floor(half) before, the rest after."""

    top: int
    bottom: int
    left: int
    right: int

    @staticmethod
    def to_multiple(height: int, width: int, multiple: int = 16) -> "Padding":
        rows, columns = -height % multiple, -width % multiple
        return Padding(rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)

    def add(self, x: Tensor) -> Tensor:
        """Zeros around the last two axes. After normalisation a zero is the mean colour."""
        return F.pad(x, (self.left, self.right, self.top, self.bottom))

    def remove(self, x: Tensor) -> Tensor:
        """[..., H + top + bottom, W + left + right] -> [..., H, W]."""
        height, width = x.shape[-2:]
        return x[..., self.top : height - self.bottom, self.left : width - self.right]


def normalise(frames: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 RGB [B, H, W, 3] -> float32 [B, 3, H, W], channels_last, ImageNet mean and deviation."""
    pixels = torch.as_tensor(frames)
    if torch.device(device).type == "cuda" and not pixels.is_cuda:
        # From pinned memory the copy runs beside what the device still computes.
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    pixels = pixels.to(device).permute(0, 3, 1, 2).float()  # keeps channels_last
    mean, std = _statistics(torch.device(device))
    return (pixels - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1, 3, 1, 1] in steps of uint8, on the device: copied there for every frame, they would make
    the host wait each time for all that is queued."""
    with torch.inference_mode(False):
        return tuple(torch.tensor(numbers, device=device).view(1, 3, 1, 1) * 255 for numbers in (MEAN, STD))
