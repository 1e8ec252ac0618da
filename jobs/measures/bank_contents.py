"""What the memories of all contenders are filled with: the same keys and values, frame by frame."""

from collections.abc import Iterator

import torch
from torch import Tensor

from jobs.measures.clip import Clip
from stcn_core.inference import PreparedNetwork
from stcn_core.propagation import Propagation
from stcn_core.region import coverage

KEY_NOISE = 0.05  # of the keys' deviation: a frame that comes again has other keys


class BankContents:
    """Keys [Ck, h, w] of the clip's pictures by the network itself, each with noise of its own where they come again,
    and values [K, Cv, h, w] of one picture with noise; float32 on the device, keys rounded as a network in bfloat16
    makes them, for all contenders. Filling 128 frames would otherwise take longer than all that is measured; what is in
    a value changes no time."""

    def __init__(self, network: PreparedNetwork, clip: Clip, objects: int) -> None:
        propagation = Propagation(network, clip.size)
        keys, covered = [], []
        for number, picture in enumerate(clip.pictures):
            encoded = propagation.encode([number], [picture])
            keys.append(encoded.features.key[0].float())
            covered.append(coverage(propagation.given(clip.masks(number, objects))).float())
            if number == 0:
                given = propagation.given(clip.masks(0, objects))
                self._value = propagation.value(encoded, given).float().contiguous()
        self._keys, self._covered = torch.stack(keys).contiguous(), torch.stack(covered)
        self._deviation = self._keys.std().item()

    def frames(self, count: int, regions: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """(key, values) of that many frames; the same ones at every call. regions: the values have the channel more
        that region decoding keeps, of the object's true mask on that picture."""
        draw = torch.Generator(self._keys.device).manual_seed(0)
        for number in range(count):
            key = self._keys[number % len(self._keys)]
            noise = torch.randn(key.shape, generator=draw, device=key.device)
            strength = 0 if number < len(self._keys) else KEY_NOISE * self._deviation
            scale = 1 + 0.1 * torch.randn((), generator=draw, device=key.device)
            values = self._value * scale
            if regions:
                values = torch.cat((values, self._covered[number % len(self._keys)][:, None]), 1)
            yield (key + strength * noise).bfloat16().float(), values
