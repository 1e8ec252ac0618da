"""This project's own steps on one clip, one at a time."""

import numpy as np
import torch
from torch import Tensor

from jobs.measures.bank_contents import BankContents
from jobs.measures.clip import Clip
from stcn_core.inference import PreparedNetwork
from stcn_core.labels import label_frame
from stcn_core.memory import MemoryBank
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

FAR = 1_000_000  # frame numbers of the bank's frames: the clip's own are below, so that none is left out of a read


class PrecomputedRead:
    """Stands in for a memory whose readouts are known: what is left of `segment` is the decoder and the
    aggregation."""

    def __init__(self, readouts: Tensor) -> None:
        self._readouts = readouts

    def read_batch(self, *_query: object) -> Tensor:
        """The readouts [B, K, Cv, h, w]."""
        return self._readouts


class Ours:
    """One contender: the network at one precision, a filled bank and a group of frames."""

    def __init__(self, network: PreparedNetwork, clip: Clip, memory: MemoryBank, settings: OfflineSettings) -> None:
        self.clip, self.memory, self.objects = clip, memory, range(memory.objects)
        self.propagation = Propagation(network, clip.size, regions=settings.region_decoding)
        self.members = list(range(settings.group_frames))
        self.pictures = [clip.picture(number) for number in self.members]
        self.encoded = self.propagation.encode(self.members, self.pictures)
        self.readouts = self.read()
        self.probabilities = self.decode()

    def encode(self) -> object:
        """Key path of a group of frames, with normalisation."""
        return self.propagation.encode(self.members, self.pictures)

    def read(self) -> Tensor:
        """Readouts of one group's frames."""
        with torch.inference_mode():
            return self.memory.read_batch(self.encoded.features.key, self.members, self.objects)

    def read_one(self) -> Tensor:
        """The readout of one frame."""
        with torch.inference_mode():
            return self.memory.read(self.encoded.features.key[0], 0, self.objects)

    def decode(self) -> Tensor:
        """Decoder and soft aggregation of a group's frames."""
        return self.propagation.segment(self.encoded, PrecomputedRead(self.readouts), self.objects)

    def value(self) -> Tensor:
        """Values of one frame."""
        return self.propagation.value(self.encoded[0], self.probabilities[0, 1:])

    def frame(self) -> Tensor:
        """Key path, read and decoder of one frame."""
        encoded = self.propagation.encode([0], self.pictures[:1])
        return self.propagation.segment(encoded, self.memory, self.objects)

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Upsampling to the source's size and argmax of one frame."""
        with torch.inference_mode():
            return label_frame(self.propagation.unpad(self.probabilities[0]), self.clip.source)


def filled_memory(
    propagation: Propagation, contents: BankContents, settings: OfflineSettings, objects: int
) -> MemoryBank:
    """A bank as it is in the final pass: a pinned prompt, `memory_frames` frames and a full ring."""
    config = propagation.network.config
    memory = MemoryBank(
        settings,
        propagation.grid,
        objects,
        config.key_dim,
        propagation.value_dim,
        pinned=1,
        bank=settings.memory_frames,
        name="benchmark",
        device=propagation.device,
    )
    fill(memory, contents)
    return memory


def fill(memory: MemoryBank, contents: BankContents) -> None:
    """Fills what is empty: the pinned slot, the bank, the ring."""
    everyone = [True] * memory.objects
    settings = memory.settings
    pinned = not memory.pinned_frames()
    frames = contents.frames(1 + settings.memory_frames + settings.recent_frames, settings.region_decoding)
    for number, (key, values) in enumerate(frames):
        if number == 0:
            if pinned:
                memory.pin(FAR, key, values, everyone)
        elif number <= settings.memory_frames:
            memory.memorise(memory.admit(FAR + number), FAR + number, key, values, everyone)
        else:
            memory.remember_recent(FAR + number, key, values, everyone)
