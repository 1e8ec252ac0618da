"""The building blocks of STCN. Attribute names are the official checkpoint's, so that its keys load as they are.

Sources: ResNet (He et al. 2016), CBAM (Woo et al. 2018), STM's and STCN's ResBlock without normalisation
(Oh et al. 2019; Cheng et al. 2021, section 3.3 and supplement).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """ResNet bottleneck, expansion 4, the stride on the 3x3 convolution (torchvision's variant)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class BasicBlock(nn.Module):
    """ResNet basic block. STCN's value encoder has biases in its convolutions, which `bias` turns on."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


def _projection(inputs: int, outputs: int, stride: int, bias: bool) -> nn.Sequential | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs))


def stage(block: type, inputs: int, width: int, depth: int, stride: int, bias: bool = False) -> nn.Sequential:
    """`depth` blocks, of which the first has the stride and the change of width."""
    outputs = width * block.expansion
    blocks = [block(inputs, width, stride, bias)]
    blocks += [block(outputs, width, 1, bias) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class ResBlock(nn.Module):
    """Pre-activated residual block without normalisation; the shortcut projects the un-activated input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = None if inputs == outputs else nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return shortcut + self.conv2(F.relu(self.conv1(F.relu(x))))


class ChannelGate(nn.Module):
    """CBAM's channel attention: one MLP on the average- and the max-pooled vector, summed."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        attention = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))  # [B, C]
        return x * torch.sigmoid(attention)[:, :, None, None]


class _BareConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class SpatialGate(nn.Module):
    """CBAM's spatial attention: a 7x7 convolution on the channel maximum and mean, in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _BareConv()

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.amax(1), x.mean(1)), 1)  # [B, 2, h, w]
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """Convolutional block attention module: channel gate, then spatial gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))
