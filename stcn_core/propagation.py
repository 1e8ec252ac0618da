"""A batch of frames against one memory: the step that every pass, offline or online, is made of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stcn_core.aggregate import soft_aggregate
from stcn_core.frames import Padding, normalise
from stcn_core.inference import PreparedNetwork
from stcn_core.match import MatchMaps
from stcn_core.memory import MemoryBank
from stcn_core.network import STCN, KeyFeatures
from stcn_core.precision import Precision
from stcn_core.prompts import found_again
from stcn_core.region import boxes_of, coverage, decode_regions


@dataclass(frozen=True)
class EncodedFrames:
    """A batch of frames, normalised and padded [B, 3, H, W], with its key features and frame numbers."""

    frames: tuple[int, ...]
    pixels: Tensor
    features: KeyFeatures

    def __getitem__(self, index: int) -> "EncodedFrames":
        one = slice(index, index + 1)
        return EncodedFrames(self.frames[one], self.pixels[one], self.features[one])


class Propagation:
    """The network on one device at one precision, for frames of one size.

    size is the working (height, width) of the frames; they are padded to multiples of 16 here and only here.
    regions: decode only where the memory says that an object can be. The memory must be made for `value_dim` channels.
    """

    def __init__(
        self,
        network: STCN | PreparedNetwork,
        size: tuple[int, int],
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        regions: bool = False,
    ) -> None:
        """A plain network is copied and prepared; one that is prepared already brings its own device and precision."""
        if isinstance(network, STCN):
            network = PreparedNetwork(network, device=device, precision=precision)
        self.network = network
        self.regions = regions
        # Under regions the memory tells where objects are by one channel more.
        self.value_dim = network.config.value_dim + regions
        self.device = network.device
        self.padding = Padding.to_multiple(*size)
        height = size[0] + self.padding.top + self.padding.bottom
        width = size[1] + self.padding.left + self.padding.right
        self.padded_size = (height, width)
        self.grid = (height // 16, width // 16)

    @torch.inference_mode()
    def encode(self, frames: Sequence[int], pictures: Sequence[np.ndarray]) -> EncodedFrames:
        """pictures: uint8 RGB [h, w, 3] of the working size, one per frame number."""
        pixels = self.padding.add(normalise(np.stack(pictures), self.device))  # [B, 3, H, W]
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return EncodedFrames(tuple(frames), pixels, self.network.encode_key(pixels))

    @torch.inference_mode()
    def segment(
        self,
        encoded: EncodedFrames,
        memory: MemoryBank,
        objects: Sequence[int],
        match: MatchMaps | None = None,
        without: Collection[int] = (),
    ) -> Tensor:
        """Aggregated probabilities [B, 1 + len(objects), H, W] float32, background first, padded.

        objects: which of the memory's objects to look for; each must be known in it. match and without are those of
        `MemoryBank.read_batch`.
        """
        if not objects:
            return torch.ones(len(encoded.frames), 1, *self.padded_size, device=self.device)
        readout = memory.read_batch(encoded.features.key, encoded.frames, objects, match, without)  # [B, K, Cv, h, w]
        if self.regions:
            boxes = boxes_of(readout[:, :, -1])
            logits = decode_regions(self.network, readout[:, :, :-1], encoded.features, boxes)
        else:
            logits = self.network.decode(readout, encoded.features)  # [B, K, H, W]
        return soft_aggregate(torch.sigmoid(logits))

    def finds(
        self,
        encoded: EncodedFrames,
        memory: MemoryBank,
        objects: Sequence[int],
        guesses: Mapping[int, np.ndarray],
        without: Collection[int] = (),
    ) -> set[int]:
        """Those of the guessed objects (object -> uint8 [h, w]) that the memory finds on one frame where the guesses
        are. objects and without: as `segment` has them; the objects share the pixels."""
        probabilities = self.segment(encoded, memory, objects, without=without)[0]
        labels = self.unpad(probabilities).argmax(0).cpu().numpy()
        return {k for n, k in enumerate(objects, 1) if k in guesses and found_again(labels == n, guesses[k])}

    @torch.inference_mode()
    def value(self, encoded: EncodedFrames, masks: Tensor) -> Tensor:
        """One frame and its objects' soft masks [K, H, W], padded -> values [K, value_dim, h, w] for the memory."""
        values = self.network.encode_value(encoded.pixels, encoded.features.f16, masks[None])[0]
        if self.regions:
            values = torch.cat((values, coverage(masks)[:, None].to(values.dtype)), 1)
        return values

    def given(self, masks: np.ndarray | Tensor) -> Tensor:
        """Hard masks [K, h, w] of the working size -> padded soft masks [K, H, W], aggregated as STCN does."""
        padded = self.padding.add(torch.as_tensor(masks, device=self.device).float())
        return soft_aggregate(padded)[1:]

    def unpad(self, probabilities: Tensor) -> Tensor:
        """[..., H, W] -> [..., h, w]."""
        return self.padding.remove(probabilities)
