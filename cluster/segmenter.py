"""What a unit needs of the science, as protocols, and the real thing. Importing this file imports no torch."""

import contextlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from schemas.run_config import RunConfig
from stcn_core.masks import ObjectMask
from stcn_core.prompts import PromptSet
from stcn_core.settings import OfflineSettings

Picture = tuple[int, np.ndarray]  # frame number, uint8 RGB [h, w, 3] of the working size
FrameMasks = tuple[int, list[ObjectMask]]


@dataclass(frozen=True)
class VideoFacts:
    """What a segmenter must know of its video: source (H, W) of the masks, size (h, w) of the pictures, and how many
    frames the burn-in visits (None: not known, as in a causal run)."""

    source: tuple[int, int]
    size: tuple[int, int]
    video_id: str
    visited: int | None = None


class Segmenter(Protocol):
    """One video's way through the passes; `stcn_core.offline.OfflineSegmenter` is one."""

    @property
    def ring_frames(self) -> int:
        """How many frames before a segment its ring is rebuilt from (fewer at the video's start)."""

    def memorise_prompts(self, picture: Callable[[int], np.ndarray]) -> None:
        """picture(frame) gives each prompted frame."""

    def burn_in(self, order: Iterable[int], picture: Callable[[int], np.ndarray]) -> Iterator[int]:
        """Visits the frames in that order; yields each when it is done."""

    def final_pass(self, pictures: Iterable[Picture], before: Iterable[Picture] = ()) -> Iterator[FrameMasks]:
        """All frames in order -> their masks in order. before: the last `ring_frames` frames before a later segment."""

    def causal_pass(self, pictures: Iterable[Picture]) -> Iterator[FrameMasks]:
        """Frame by frame, instead of the three above."""

    def save_bank(self, path: Path) -> None:
        """What the burn-in left. Raises OSError."""

    def load_bank(self, path: Path) -> None:
        """In place of prompts and burn-in: `final_pass` then gives what it would have given before saving.

        Raises ValueError that says what is wrong with the file.
        """


class Segmenters(Protocol):
    """One actor's network or its stand-in. Goes to the actor pickled, before `load`."""

    def load(self, config: RunConfig, device: str, threads: int, scratch: Path, input_options: dict) -> None:
        """Makes ready on this machine. device is cpu or cuda. Raises RuntimeError, OSError, CheckpointError."""

    def begin(self, settings: OfflineSettings, prompts: PromptSet, video: VideoFacts) -> Segmenter:
        """A video's segmenter."""

    def device_profile(self) -> str:
        """What masks are promised equal for, as one line of JSON."""

    def error_class(self, error: BaseException) -> str | None:
        """device-out-of-memory, out-of-memory, device (the process is no good any more), or None: not known here."""


class StcnSegmenters:
    """The network. checkpoint is its URL, or "" for the bundled one."""

    def __init__(self, checkpoint: str = "") -> None:
        self.checkpoint = checkpoint
        self._network = None

    def load(self, config: RunConfig, device: str, threads: int, scratch: Path, input_options: dict) -> None:
        """The network on its device; refuses another checkpoint than the driver read."""
        import torch

        from cluster.stores.checkpoint_fetch import fetch_checkpoint
        from stcn_core.inference import PreparedNetwork

        torch.set_num_threads(threads)  # Ray sets OMP_NUM_THREADS=1 where an actor asks for no CPU
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("a GPU was assigned, but torch sees none (driver too old for this torch?)")
        network, info = fetch_checkpoint(self.checkpoint, scratch, input_options)
        if info.sha256 != config.checkpoint_sha256:
            raise RuntimeError(
                f"checkpoint {info.name} has SHA-256 {info.sha256[:12]} here, "
                f"{config.checkpoint_sha256[:12]} at the driver: give a URL that all nodes read alike"
            )
        self._network = PreparedNetwork(network, device=device, precision=config.precision)
        self._device, self._threads, self._precision = device, threads, config.precision

    def begin(self, settings: OfflineSettings, prompts: PromptSet, video: VideoFacts) -> Segmenter:
        """An OfflineSegmenter, or several of them averaged. Raises RuntimeError before `load`."""
        if self._network is None:
            raise RuntimeError("the network is not loaded yet: call load first")
        from stcn_core.multi_scale import MultiScaleSegmenter
        from stcn_core.offline import OfflineSegmenter
        from stcn_core.propagation import Propagation

        def propagation(shape: tuple[int, int]) -> Propagation:
            return Propagation(self._network, shape, regions=settings.region_decoding)

        if settings.scales or settings.flip:
            return MultiScaleSegmenter(propagation, settings, prompts, **asdict(video))
        return OfflineSegmenter(propagation(video.size), settings, prompts, **asdict(video))

    def device_profile(self) -> str:
        """Device model, threads, precision, versions."""
        import torch

        model = torch.cuda.get_device_name() if self._device.startswith("cuda") else cpu_model()
        profile = {"device": model, "threads": self._threads, "precision": self._precision}
        profile |= {name: version(name) for name in ("torch", "framepump", "av", "numpy")}
        return json.dumps(profile, sort_keys=True)

    def error_class(self, error: BaseException) -> str | None:
        """A full device's and a broken device's errors, and torch's own words for too little host memory."""
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            return "device-out-of-memory"
        if isinstance(error, RuntimeError):
            if "CUDA error" in str(error) or "cuDNN error" in str(error):
                return "device"  # sticky: every later call of this process fails too
            if "DefaultCPUAllocator" in str(error):
                return "out-of-memory"
        return None


def cpu_model() -> str:
    """The processor's name where the system tells it, otherwise its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
