"""STCN: one key encoder for memory and query, a light value encoder, one decoder.

Source: Cheng, Tai, Tang, "Rethinking Space-Time Networks with Improved Memory Coverage for Efficient Video
Object Segmentation", NeurIPS 2021. The official layout has exactly the 405 tensors of the published
checkpoint; other widths and depths are the same class with another NetworkConfig. Nothing is downloaded.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stcn_core.blocks import CBAM, BasicBlock, Bottleneck, ResBlock, stage
from stcn_core.efficientnet import TRUNKS, EfficientEncoder, EfficientValueEncoder, trunk_channels

BLOCKS = {"bottleneck": Bottleneck, "basic": BasicBlock}


@dataclass(frozen=True)
class NetworkConfig:
    """Backbones and widths. Strides are fixed: 4, 8, 16 for the three stages, keys and values at 16.

    encoder: "resnet", shaped by the fields key_block to value_conv_bias, or an EfficientNetV2 (efficientnet.py) for key
    and value, with `expansion` channels behind it. Raises ValueError for one that is not known.
    """

    key_block: Literal["bottleneck", "basic"] = "bottleneck"
    key_width: int = 64
    key_depths: tuple[int, int, int] = (3, 4, 6)
    value_width: int = 64
    value_depths: tuple[int, int, int] = (2, 2, 2)
    value_conv_bias: bool = True
    key_dim: int = 64
    value_dim: int = 512
    decoder_dim: int = 256
    cbam: bool = True
    encoder: str = "resnet"
    expansion: int = 512

    def __post_init__(self) -> None:
        if self.encoder not in ("resnet", *TRUNKS):
            raise ValueError(f"encoder is one of resnet, {', '.join(TRUNKS)}, not {self.encoder!r}")

    @property
    def feature_channels(self) -> tuple[int, int, int]:
        """Channels of f4, f8 and f16."""
        if self.encoder != "resnet":
            return trunk_channels(self.encoder, self.expansion)
        f4 = self.key_width * BLOCKS[self.key_block].expansion
        return f4, f4 * 2, f4 * 4

    @staticmethod
    def official() -> "NetworkConfig":
        """ResNet-50 key encoder, ResNet-18 value encoder: 54.4 M parameters."""
        return NetworkConfig()

    @staticmethod
    def small() -> "NetworkConfig":
        """The bundled checkpoint's layout: basic blocks at half width, about 3.7 M parameters."""
        return NetworkConfig(
            key_block="basic",
            key_width=32,
            key_depths=(2, 2, 2),
            value_width=32,
            value_conv_bias=False,
            value_dim=128,
            decoder_dim=64,
        )

    @staticmethod
    def no_cbam() -> "NetworkConfig":
        """The official layout without the value encoder's attention (STCN's branch of that name)."""
        return NetworkConfig(cbam=False)

    @staticmethod
    def efficient(encoder: str) -> "NetworkConfig":
        """EamStcn's: EfficientNetV2 twice, 512 channels behind it, no attention, STCN's decoder."""
        return NetworkConfig(encoder=encoder, cbam=False)

    @staticmethod
    def from_json(record: dict) -> "NetworkConfig":
        """The config that `to_json` wrote. Raises TypeError on unknown names."""
        lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
        return NetworkConfig(**{**record, **lists})

    def to_json(self) -> dict:
        """Plain values; what earlier versions did not know is left out where it has no effect."""
        record = asdict(self)
        if self.encoder == "resnet":
            del record["encoder"], record["expansion"]
        return record


@dataclass(frozen=True)
class KeyFeatures:
    """What the key encoder makes of a batch of frames; depends on no mask and no object.

    key [B, Ck, h, w], thin [B, Cv, h, w] (the query's own value), f16 [B, C, h, w], f8 at stride 8 and f4 at
    stride 4, with h = H / 16 and w = W / 16.
    """

    key: Tensor
    thin: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor

    def __getitem__(self, index: slice) -> "KeyFeatures":
        return KeyFeatures(self.key[index], self.thin[index], self.f16[index], self.f8[index], self.f4[index])


class KeyEncoder(nn.Module):
    """ResNet stem and three stages; returns f16, f8, f4."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        block, width = BLOCKS[config.key_block], config.key_width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        grow = block.expansion
        self.res2 = stage(block, width, width, config.key_depths[0], 1)
        self.layer2 = stage(block, width * grow, width * 2, config.key_depths[1], 2)
        self.layer3 = stage(block, width * 2 * grow, width * 4, config.key_depths[2], 2)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(frames))), 3, 2, 1)
        f4 = self.res2(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class FeatureFusion(nn.Module):
    """Mask features and the key encoder's f16 become one value map."""

    def __init__(self, inputs: int, outputs: int, cbam: bool) -> None:
        super().__init__()
        self.block1 = ResBlock(inputs, outputs)
        self.attention = CBAM(outputs) if cbam else None
        self.block2 = ResBlock(outputs, outputs)

    def forward(self, x: Tensor, f16: Tensor) -> Tensor:
        x = self.block1(torch.cat((x, f16), 1))
        if self.attention is not None:
            x = x + self.attention(x)
        return self.block2(x)


class ValueEncoder(nn.Module):
    """ResNet on frame + this object's mask + the sum of the other objects' masks (5 channels)."""

    def __init__(self, config: NetworkConfig, f16_channels: int) -> None:
        super().__init__()
        width, bias = config.value_width, config.value_conv_bias
        self.conv1 = nn.Conv2d(5, width, 7, 2, 3, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(BasicBlock, width, width, config.value_depths[0], 1, bias)
        self.layer2 = stage(BasicBlock, width, width * 2, config.value_depths[1], 2, bias)
        self.layer3 = stage(BasicBlock, width * 2, width * 4, config.value_depths[2], 2, bias)
        self.fuser = FeatureFusion(width * 4 + f16_channels, config.value_dim, config.cbam)

    def trunk_features(self, x: Tensor) -> Tensor:
        """x [B, 5, H, W] -> [B, C, h, w], before the key's features come in."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer3(self.layer2(self.layer1(x)))

    def forward(self, x: Tensor, f16: Tensor) -> Tensor:
        return self.fuser(self.trunk_features(x), f16)


class KeyProjection(nn.Module):
    """One 3x3 convolution to the key space, orthogonal at the start (paper, supplement)."""

    def __init__(self, inputs: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.key_proj(x)


class UpsampleBlock(nn.Module):
    """Adds a projected skip connection to the upsampled map below it."""

    def __init__(self, skip: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = ResBlock(inputs, outputs)

    def forward(self, skip: Tensor, x: Tensor, objects: int) -> Tensor:
        """skip [B, C, 2h, 2w], x [B * objects, C', h, w]; the skip is convolved once per frame."""
        skip = self.skip_conv(skip).repeat_interleave(objects, 0)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out_conv(skip + x)


class Decoder(nn.Module):
    """Readout and query value to a logit at stride 4."""

    def __init__(self, config: NetworkConfig, f8_channels: int, f4_channels: int) -> None:
        super().__init__()
        value, width = config.value_dim, config.decoder_dim
        self.compress = ResBlock(value * 2, value)
        self.up_16_8 = UpsampleBlock(f8_channels, value, width)
        self.up_8_4 = UpsampleBlock(f4_channels, width, width)
        self.pred = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        batch, objects = readout.shape[:2]
        thin = features.thin.repeat_interleave(objects, 0)  # [B * K, Cv, h, w]
        x = self.compress(torch.cat((readout.flatten(0, 1), thin), 1))
        x = self.up_16_8(features.f8, x, objects)
        x = self.up_8_4(features.f4, x, objects)
        logit = self.pred(F.relu(x))  # [B * K, 1, H / 4, W / 4]
        logit = F.interpolate(logit, scale_factor=4, mode="bilinear", align_corners=False)
        return logit.unflatten(0, (batch, objects)).squeeze(2)  # [B, K, H, W]


class STCN(nn.Module):
    """The whole network. Its three calls are independent of where keys and values are kept."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        f4, f8, f16 = config.feature_channels
        if config.encoder == "resnet":
            self.key_encoder = KeyEncoder(config)
            self.value_encoder = ValueEncoder(config, f16)
        else:
            self.key_encoder = EfficientEncoder(config.encoder, 3, config.expansion)
            fuser = FeatureFusion(f16 * 2, config.value_dim, config.cbam)
            self.value_encoder = EfficientValueEncoder(config.encoder, config.expansion, fuser)
        self.key_proj = KeyProjection(f16, config.key_dim)
        self.key_comp = nn.Conv2d(f16, config.value_dim, 3, padding=1)
        self.decoder = Decoder(config, f8, f4)

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """frames: normalised RGB [B, 3, H, W], H and W multiples of 16."""
        f16, f8, f4 = self.key_encoder(frames)
        return KeyFeatures(self.key_proj(f16), self.key_comp(f16), f16, f8, f4)

    def encode_value(self, frames: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """frames [B, 3, H, W], f16 [B, C, h, w], masks [B, K, H, W] in 0..1 -> values [B, K, Cv, h, w].

        The fifth channel is the plain sum of the other objects' masks, not clamped (as published).
        """
        batch, objects = masks.shape[:2]
        others = masks.sum(1, keepdim=True) - masks  # [B, K, H, W]
        planes = torch.stack((masks, others), 2).flatten(0, 1)  # [B * K, 2, H, W]
        x = torch.cat((frames.repeat_interleave(objects, 0), planes.to(frames.dtype)), 1)
        values = self.value_encoder(x, f16.repeat_interleave(objects, 0))
        return values.unflatten(0, (batch, objects))

    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """readout [B, K, Cv, h, w] -> one logit per object and pixel [B, K, H, W]."""
        return self.decoder(readout, features)
