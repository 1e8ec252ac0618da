"""STCN made ready for inference on one device at one precision.

The same network, computed with less: batch norms are folded into the convolutions before them; what depends on the
frame alone (its half of the fuser's and of the decoder's first block, the skip connections) is convolved once per frame
and added for every object; half precision means half-precision weights where the device computes in it. Equal to the
plain network up to rounding. The plain network stays as it is, for training and for checkpoints.
"""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stcn_core.blocks import ResBlock
from stcn_core.network import STCN, KeyFeatures
from stcn_core.precision import HALF, Precision, computes_in

# Bytes of a largest activation that live at a time: more objects and frames are computed in turns. A CPU gains nothing
# from larger batches.
ACTIVATION_BYTES_CPU = 32 << 20
ACTIVATION_BYTES_DEVICE = 1 << 30

# What SharedResBlock makes of a frame's map: the inner sum's half and the shortcut's, both [B, outputs, h, w].
SharedPart = tuple[Tensor, Tensor]


class PreparedNetwork:
    """The three calls of STCN, without gradients, for normalised float32 frames on the device.

    Makes a copy of the network's weights.
    """

    def __init__(self, network: STCN, *, device: torch.device | str = "cpu", precision: Precision = "fp32") -> None:
        self.config = network.config
        self.device = torch.device(device)
        self.precision = precision
        half = HALF.get(precision)
        native = half is not None and computes_in(half, self.device)
        self.dtype = half if native else torch.float32
        # Where the processor has no instructions for it, torch rounds operation by operation.
        self._autocast_to = None if native else half
        if self.device.type == "cuda":
            if precision == "fp32":
                # torch's default rounds convolutions to TF32; fp32 here means fp32.
                torch.backends.cudnn.allow_tf32 = False
            # The memory read relies on sums in float32 (stcn_core/score_product.py).
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        network = fold_batch_norms(network)
        fuser, decoder = network.value_encoder.fuser, network.decoder
        f16 = self.config.feature_channels[2]
        fuser.block1 = SharedResBlock(fuser.block1, fuser.block1.conv1.in_channels - f16)
        decoder.compress = SharedResBlock(decoder.compress, self.config.value_dim)
        network.to(self.device, self.dtype, memory_format=torch.channels_last).requires_grad_(False)
        self._network = network
        self.decoder = decoder

    @torch.inference_mode()
    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """frames: normalised RGB [B, 3, H, W], H and W multiples of 16."""
        with self.autocast():
            return self._network.encode_key(self.laid_out(frames))

    @torch.inference_mode()
    def encode_value(self, frames: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """frames [B, 3, H, W], f16 [B, C, h, w], masks [B, K, H, W] in 0..1 -> values [B, K, Cv, h, w]."""
        batch, objects, height, width = masks.shape
        others = masks.sum(1, keepdim=True) - masks  # [B, K, H, W]
        values = []
        with self.autocast():
            for b in range(batch):
                fused = self._network.value_encoder.fuser.block1.shared(f16[b : b + 1])
                for some in self._turns(objects, self.config.value_width * height * width // 4):
                    count = some.stop - some.start
                    x = torch.empty(
                        (count, 5, height, width),
                        dtype=self.dtype,
                        device=self.device,
                        memory_format=torch.channels_last,
                    )
                    x[:, :3], x[:, 3], x[:, 4] = frames[b], masks[b, some], others[b, some]
                    values.append(self._encode_value(x, fused))
        return torch.cat(values).unflatten(0, (batch, objects))

    @torch.inference_mode()
    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """readout [B, K, Cv, h, w] -> one logit per object and pixel [B, K, H, W] float32."""
        batch, objects = readout.shape[:2]
        height, width = features.f4.shape[2:]
        per_object = self.config.decoder_dim * height * width
        logits = torch.empty(batch, objects, height * 4, width * 4, device=self.device)
        with self.autocast():
            for frames in self._turns(batch, per_object * objects):
                shared = self.frame_part(features.thin[frames], features.f8[frames], features.f4[frames])
                for some in self._turns(objects, per_object * (frames.stop - frames.start)):
                    logits[frames, some] = self._decode(readout[frames, some], shared)
        return logits

    def frame_part(self, thin: Tensor, f8: Tensor, f4: Tensor) -> tuple[SharedPart, Tensor, Tensor]:
        """What the decoder computes from the frames alone: for `compress`, and the skip connections at 8 and 4."""
        decoder = self.decoder
        return decoder.compress.shared(thin), decoder.up_16_8.skip_conv(f8), decoder.up_8_4.skip_conv(f4)

    def _encode_value(self, x: Tensor, fused: SharedPart) -> Tensor:
        """x [K, 5, H, W] of one frame -> [K, Cv, h, w]."""
        encoder = self._network.value_encoder
        x = encoder.trunk_features(x)
        x = encoder.fuser.block1(x, fused, len(x))
        if encoder.fuser.attention is not None:
            x = x + encoder.fuser.attention(x)
        return encoder.fuser.block2(x)

    def _decode(self, readout: Tensor, shared: tuple[SharedPart, Tensor, Tensor]) -> Tensor:
        """readout [B, K, Cv, h, w] and what `frame_part` made of the B frames -> logits [B, K, H, W] float32."""
        batch, objects = readout.shape[:2]
        compress, skip8, skip4 = shared
        decoder = self.decoder
        x = decoder.compress(self.laid_out(readout.flatten(0, 1)), compress, objects)
        x = decoder.up_16_8.out_conv(upsampled_plus(x, skip8, objects))
        x = decoder.up_8_4.out_conv(upsampled_plus(x, skip4, objects))
        logit = decoder.pred(F.relu(x)).float()  # [B * K, 1, H / 4, W / 4]
        logit = F.interpolate(logit, scale_factor=4, mode="bilinear", align_corners=False)
        return logit.view(batch, objects, *logit.shape[2:])

    def autocast(self) -> torch.autocast:
        """Around every computation; does nothing where the weights are of the precision asked for."""
        return torch.autocast(self.device.type, dtype=self._autocast_to, enabled=self._autocast_to is not None)

    def laid_out(self, x: Tensor) -> Tensor:
        """x [B, C, h, w] in the network's type and memory format."""
        return x.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _turns(self, count: int, elements: int) -> Iterator[slice]:
        """Slices of `count` items, each of which has a largest activation of so many elements."""
        most = ACTIVATION_BYTES_CPU if self.device.type == "cpu" else ACTIVATION_BYTES_DEVICE
        step = max(1, most // (elements * self.dtype.itemsize))
        for start in range(0, count, step):
            yield slice(start, min(start + step, count))


class SharedResBlock(nn.Module):
    """A ResBlock on the concatenation of an object's own map and its frame's, the frame's half convolved once.

    own: how many of the input channels are the object's; they come first.
    """

    def __init__(self, block: ResBlock, own: int) -> None:
        super().__init__()
        self.conv1, self.shared_conv1 = _halves(block.conv1, own)
        self.downsample = None
        if block.downsample is not None:
            self.downsample, self.shared_downsample = _halves(block.downsample, own)
        self.conv2 = block.conv2

    def shared(self, frames: Tensor) -> SharedPart:
        """frames [B, C, h, w] -> what `forward` takes for them."""
        shortcut = frames if self.downsample is None else self.shared_downsample(frames)
        return self.shared_conv1(F.relu(frames)), shortcut

    def forward(self, x: Tensor, shared: SharedPart, objects: int) -> Tensor:
        """x [B * objects, own, h, w] -> [B * objects, outputs, h, w]."""
        inner, shortcut = shared
        inner = _added(self.conv1(F.relu(x)), inner, objects)
        if self.downsample is None:
            shortcut = torch.cat((x, shortcut.repeat_interleave(objects, 0)), 1)
        else:
            shortcut = _added(self.downsample(x), shortcut, objects)
        return self.conv2(inner.relu_()).add_(shortcut)


def upsampled_plus(x: Tensor, skip: Tensor, objects: int) -> Tensor:
    """x [B * objects, C, h, w], skip [B, C, 2h, 2w] -> their sum at the skip's size."""
    return _added(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), skip, objects)


def fold_batch_norms(network: STCN) -> STCN:
    """A copy in evaluation mode whose batch norms are part of the convolutions before them."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            names = [name for name, _ in module.named_children()]
            pairs = list(zip(names, names[1:], strict=False))
        else:
            pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
        for conv, norm in pairs:
            if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    return network


def _halves(conv: nn.Conv2d, own: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A convolution as the sum of two: of the first `own` input channels, and of the others; these have the bias."""
    halves = []
    for weight, bias in ((conv.weight[:, :own], None), (conv.weight[:, own:], conv.bias)):
        inputs, has_bias = weight.shape[1], bias is not None
        half = nn.Conv2d(inputs, conv.out_channels, conv.kernel_size, padding=conv.padding, bias=has_bias)
        half.weight = nn.Parameter(weight.detach().clone())
        if has_bias:
            half.bias = nn.Parameter(bias.detach().clone())
        halves.append(half)
    return halves[0], halves[1]


def _added(x: Tensor, frames: Tensor, objects: int) -> Tensor:
    """x [B * objects, C, h, w] plus its frame's map [B, C, h, w], in x's memory."""
    x.unflatten(0, (-1, objects)).add_(frames[:, None])
    return x
