"""What block compression does to a picture: the lossy steps of JPEG (ITU-T T.81, annexes A and K), without coding."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Annex K.1: luminance quantisation table; one table for colour too, but doubled, is close to what codecs use
TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


@functools.cache
def _cosines() -> Tensor:
    """The orthonormal 8-point cosine transform, [8, 8]."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def compressed(pixels: Tensor, quality: int) -> Tensor:
    """uint8 RGB [3, H, W] as it comes back from a JPEG of this quality (1 to 100), colour at half resolution."""
    height, width = pixels.shape[1:]
    ycc = torch.einsum("cd,dhw->chw", TO_YCC, pixels.float())
    ycc[0] -= 128
    ycc = F.pad(ycc[None], (0, -width % 16, 0, -height % 16), mode="replicate")[0]
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    table = (torch.tensor(TABLE) * factor).clamp(min=1)
    luma = _through_blocks(ycc[:1], table)
    chroma = _through_blocks(F.avg_pool2d(ycc[1:], 2), table * 1.5)
    chroma = F.interpolate(chroma[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    rgb = torch.einsum("cd,dhw->chw", torch.linalg.inv(TO_YCC), torch.cat((luma + 128, chroma)))
    return (rgb[:, :height, :width].clamp_(0, 255) + 0.5).to(torch.uint8)


def _through_blocks(planes: Tensor, table: Tensor) -> Tensor:
    """Rounds the cosine coefficients of each 8x8 block of [C, H, W] to multiples of the table."""
    channels, height, width = planes.shape
    cosines = _cosines()
    blocks = planes.view(channels, height // 8, 8, width // 8, 8).transpose(2, 3)  # [C, H/8, W/8, 8, 8]
    coefficients = cosines @ blocks @ cosines.T
    coefficients = (coefficients / table).round_() * table
    blocks = cosines.T @ coefficients @ cosines
    return blocks.transpose(2, 3).reshape(channels, height, width)
