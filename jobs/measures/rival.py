"""stcnbuf, where it is installed (extra `benchmark`): the same weights, the same memory, its own code.

It downloads ImageNet weights when it builds its network; that is patched away. It is run as its command line runs it
(inference mode; fp16 autocast on a GPU, on a CPU float32), except that it is not scripted and that its frames come one
by one: batches fail there with several objects.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from unittest import mock

import framepump
import numpy as np
import rlemasklib
import torch
from torch import Tensor

from jobs.measures.bank_contents import BankContents
from jobs.measures.clip import Clip
from jobs.measures.peak import DTYPES
from stcn_core.network import STCN, NetworkConfig

NAME = "stcnbuf"


def why_not(config: NetworkConfig) -> str | None:
    """None where it can be measured with this layout."""
    try:
        import stcnbuf.model.eval_network  # noqa: F401
    except ImportError:
        return "stcnbuf is not installed (extra `benchmark`)"
    return None if config == NetworkConfig.official() else "stcnbuf knows the official layout only"


class Rival:
    """stcnbuf's network, memory and steps on one clip. precision: fp32, or the dtype of its autocast."""

    def __init__(
        self,
        model: torch.nn.Module,
        clip: Clip,
        contents: BankContents,
        *,
        objects: int,
        device: str,
        precision: str,
        memory_frames: int,
        recent_frames: int,
        top_k: int,
    ) -> None:
        from stcnbuf.model import eval_network

        self.clip, self.objects, self.device = clip, objects, device
        self._aggregate, self._pad = eval_network.aggregate, eval_network.pad_divide_by
        self._dtype = None if precision == "fp32" else DTYPES[precision]
        self.model = model
        # One frame more than our bank: it keeps the prompt there, we keep it beside.
        inference = eval_network.STCNInference(self.model, memory_frames + 1, recent_frames, top_k, None).eval()
        bank = eval_network.MemoryBank(objects, top_k, memory_frames + 1, recent_frames)
        self.inference, inference.memory_bank = inference, bank
        self._keep(bank, contents, memory_frames + 1, recent_frames)
        with self._running():
            self.frame = self._pixels(clip.picture(0))
            self.features = self.model.encode_key(self.frame)  # k16, thin, f16, f8, f4
            self.readout = self.read()
            self.probabilities = self.decode()

    def encode(self) -> object:
        """Key path of one frame, with its transform."""
        with self._running():
            return self.model.encode_key(self._pixels(self.clip.picture(0)))

    def read(self) -> Tensor:
        """Readout [K, 1, Cv, h, w] of one frame."""
        with self._running():
            return self.inference.memory_bank.match_memory(self.features[0])

    def decode(self) -> Tensor:
        """Decoder and soft aggregation of one frame."""
        k16, thin, _, f8, f4 = self.features
        with self._running():
            return self._aggregate(self.model.segment_with_query(self.readout.contiguous(), f8, f4, k16, thin))

    def value(self) -> Tensor:
        """Values of one frame."""
        with self._running():
            return self.model.encode_value(self.frame, self.features[2], self.probabilities[1:, -1:])

    def labels(self) -> np.ndarray:
        """Argmax of one frame; it does not upsample."""
        with torch.inference_mode():
            return self.probabilities[:, 0].argmax(0).cpu().numpy().astype(np.uint8)

    def frame_masks(self, picture: np.ndarray, remember: bool) -> list[dict]:
        """All it does with one picture uint8 [h, w, 3] in its main pass, and the frame's masks as it keeps them.

        remember: this frame goes into its ring."""
        with self._running():
            batch = self.inference.im_transform(picture)[None].to(self.device)
            probabilities = self.inference.predict_batch(batch, remember, True)  # [1 + K, 1, h, w]
            labels = probabilities.argmax(0).cpu().numpy().astype(np.uint8)[0]
        return encoded(labels, self.objects)

    @contextmanager
    def _running(self) -> Iterator[None]:
        kind = self.device.partition(":")[0]
        with torch.inference_mode(), torch.autocast(kind, self._dtype, enabled=self._dtype is not None):
            yield

    def _pixels(self, picture: np.ndarray) -> Tensor:
        return self._pad(self.inference.im_transform(picture)[None].to(self.device), 16)[0]

    def _keep(self, bank: torch.nn.Module, contents: BankContents, frames: int, recent: int) -> None:
        """Writes the contents into its bank and ring; by its own call each frame would copy the whole bank."""
        kept = [(key.flatten(1), values.flatten(2)) for key, values in contents.frames(frames + recent)]
        if self._dtype is not None:  # as its own network leaves them there
            kept = [(key.to(self._dtype), values.to(self._dtype)) for key, values in kept]
        bank.mem_k = torch.cat([key for key, _ in kept[:frames]], 1)[None]
        bank.mem_v = torch.cat([values for _, values in kept[:frames]], 2)
        bank.has_mem = True
        bank.CK, bank.CV = bank.mem_k.shape[1], bank.mem_v.shape[1]
        if recent:
            bank.temp_k = torch.cat([key for key, _ in kept[frames:]], 1)[None]
            bank.temp_v = torch.cat([values for _, values in kept[frames:]], 2)
            bank.has_temp_mem = True


def encoded(labels: np.ndarray, objects: int) -> list[dict]:
    """A label map's masks by the call that stcnbuf uses."""
    return [rlemasklib.encode(labels == k + 1) for k in range(objects)]


def decoded(path: Path, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """The first frames, decoded and resized as stcnbuf does."""
    return list(islice(framepump.VideoFrames(str(path), constant_framerate=True).resized(size), count))


def rival_network(ours: STCN) -> torch.nn.Module:
    """stcnbuf's network with the weights of ours, in evaluation mode, on the CPU."""
    from stcnbuf.model import eval_network, mod_resnet, modules

    resnet50 = modules.models.resnet50
    with (
        mock.patch.object(modules.models, "resnet50", lambda weights: resnet50(weights=None)),
        mock.patch.object(mod_resnet.model_zoo, "load_url", lambda url: {}),
    ):
        theirs = eval_network.STCN().eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs
