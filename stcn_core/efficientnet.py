"""EfficientNetV2 encoders, cut after stride 16, with EamStcn's feature expansion.

Blocks are torchvision's (Tan and Le 2021, "EfficientNetV2"); its own `efficientnet_v2_s` has the same names
`features.0` to `features.5`, so that its weights fit. b1 and b3 are the paper's base network with its width and depth
multipliers, which torchvision does not build. Nothing is downloaded.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torchvision.models.efficientnet import FusedMBConv, FusedMBConvConfig, MBConv, MBConvConfig
from torchvision.ops import StochasticDepth
from torchvision.ops.misc import Conv2dNormActivation

EPSILON = 1e-3  # of its batch norms
DROP_EXPANSION = 0.2  # share of samples for which the expansion's second block is skipped in training
DROP_DEEPEST = 0.2  # the same for the last block of the trunk, rising to it from 0


@dataclass(frozen=True)
class Trunk:
    """stem channels; per stage (expansion, stride, channels, blocks); the first `fused` stages are fused."""

    stem: int
    stages: tuple[tuple[int, int, int, int], ...]
    fused: int = 3

    def channels(self) -> tuple[int, int, int]:
        """At strides 4, 8 and 16."""
        return self.stages[1][2], self.stages[2][2], self.stages[4][2]


TRUNKS = {
    "efficientnet-v2-b1": Trunk(32, ((1, 1, 16, 2), (4, 2, 32, 3), (4, 2, 48, 3), (4, 2, 96, 4), (6, 1, 112, 6))),
    "efficientnet-v2-b3": Trunk(40, ((1, 1, 16, 2), (4, 2, 40, 3), (4, 2, 56, 3), (4, 2, 112, 5), (6, 1, 136, 7))),
    "efficientnet-v2-s": Trunk(24, ((1, 1, 24, 2), (4, 2, 48, 4), (4, 2, 64, 4), (4, 2, 128, 6), (6, 1, 160, 9))),
}


class EfficientEncoder(nn.Module):
    """inputs channels [B, inputs, H, W] -> f16, f8, f4; f16 has `expansion` channels, those of the trunk where it is 0.

    channels: those of f16.
    """

    def __init__(self, name: str, inputs: int, expansion: int) -> None:
        super().__init__()
        trunk = TRUNKS[name]
        norm = partial(nn.BatchNorm2d, eps=EPSILON)
        stages: list[nn.Module] = [
            Conv2dNormActivation(inputs, trunk.stem, 3, 2, norm_layer=norm, activation_layer=nn.SiLU)
        ]
        before, done, blocks = trunk.stem, 0, sum(stage[3] for stage in trunk.stages)
        for number, (grow, stride, width, depth) in enumerate(trunk.stages):
            config, block = (FusedMBConvConfig, FusedMBConv) if number < trunk.fused else (MBConvConfig, MBConv)
            members = []
            for index in range(depth):
                first = index == 0
                shape = config(grow, 3, stride if first else 1, before if first else width, width, 1)
                members.append(block(shape, DROP_DEEPEST * done / blocks, norm))
                done += 1
            stages.append(nn.Sequential(*members))
            before = width
        self.features = nn.Sequential(*stages)
        self.expansion = _Expansion(before, expansion) if expansion else None
        self.channels = expansion or before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f4 = self.features[:3](x)
        f8 = self.features[3](f4)
        f16 = self.features[4:](f8)
        return (f16 if self.expansion is None else self.expansion(f16)), f8, f4


class _Expansion(nn.Module):
    """EamStcn's two blocks behind the trunk, both of expansion 1: a 3x3 convolution to `outputs` channels, then a
    depthwise 3x3 and a 1x1 convolution around a shortcut, without squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        conv = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=EPSILON))
        self.widen = conv(inputs, outputs, 3, activation_layer=nn.SiLU)
        self.block = nn.Sequential(
            conv(outputs, outputs, 3, groups=outputs, activation_layer=nn.SiLU),
            conv(outputs, outputs, 1, activation_layer=None),
        )
        self.drop = StochasticDepth(DROP_EXPANSION, "row")

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        return x + self.drop(self.block(x))


class EfficientValueEncoder(nn.Module):
    """The value encoder's counterpart: frame + this object's mask + the others' (5 channels) and the key's f16."""

    def __init__(self, name: str, expansion: int, fuser: nn.Module) -> None:
        super().__init__()
        self.trunk = EfficientEncoder(name, 5, expansion)
        self.fuser = fuser

    def trunk_features(self, x: Tensor) -> Tensor:
        """x [B, 5, H, W] -> [B, C, h, w], before the key's features come in."""
        return self.trunk(x)[0]

    def forward(self, x: Tensor, f16: Tensor) -> Tensor:
        return self.fuser(self.trunk_features(x), f16)


def trunk_channels(name: str, expansion: int) -> tuple[int, int, int]:
    """Channels of f4, f8 and f16."""
    f4, f8, f16 = TRUNKS[name].channels()
    return f4, f8, expansion or f16
