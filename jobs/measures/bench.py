"""What all sections share: settings, the network, the clips, the clock, the time that is left."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch.nn import Module

from cluster.frames.decoder import Decoder
from jobs.measures.bank_contents import BankContents
from jobs.measures.clip import Clip, given_clip, rendered_clip
from jobs.measures.clock import Budget, Clock
from jobs.measures.ours import Ours, filled_memory
from jobs.measures.random_weights import random_network, without_masks
from jobs.measures.rival import Rival, rival_network, why_not
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256, load_checkpoint, save_checkpoint
from stcn_core.inference import PreparedNetwork
from stcn_core.network import STCN, NetworkConfig
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

LAYOUTS = {"official": NetworkConfig.official, "small": NetworkConfig.small}


@dataclass(frozen=True)
class Case:
    """Shorter side of the picture and number of objects."""

    resolution: int
    objects: int

    def __str__(self) -> str:
        return f"{self.resolution}p, {self.objects} object{'s' * (self.objects > 1)}"


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is measured. pictures: different ones in a rendered clip; frames: those of its file that are annotated with
    the real network in one round, a multiple of group_frames; cheap_frames: with none. lengths: of the videos for the
    memory's flatness. clock: wall or processor. regions: region decoding too, at the last precision."""

    device: str
    threads: int
    cases: tuple[Case, ...]
    precisions: tuple[str, ...]
    rival_precision: str
    layout: str = "official"
    checkpoint: str | None = None
    video: str | None = None
    memory_frames: int = 128
    group_frames: int = 5
    pictures: int = 5
    frames: int = 5
    cheap_frames: int = 200
    lengths: tuple[int, ...] = (1_000, 10_000)
    object_counts: tuple[int, ...] = (1, 2, 5, 10)
    bank_sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    seconds: float = 480.0
    clock: str = "wall"
    regions: bool = False
    quick: bool = False

    def offline(self, **changes: object) -> OfflineSettings:
        """The algorithm's settings; all others are its defaults."""
        return OfflineSettings(**{**self.common(), **changes})

    def common(self) -> dict[str, float]:
        """What an annotate run and the parts of it are measured with, beside the defaults: a ring, which stcnbuf cannot
        do without, and given masks that weigh as much as others, as there."""
        both = {"recent_frames": 2, "prompt_weight": 1.0}
        return {"memory_frames": self.memory_frames, "group_frames": self.group_frames, **both}


@dataclass
class Bench:
    """One benchmark's tools. scratch is a folder that it may fill."""

    settings: BenchmarkSettings
    scratch: Path
    clock: Clock = field(init=False)
    budget: Budget = field(init=False)
    network: STCN = field(init=False)
    _clips: dict[int, Clip] = field(default_factory=dict)
    _prepared: dict[str, PreparedNetwork] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        self.budget, self.clock = Budget(settings.seconds), Clock(settings.device, settings.clock == "processor")
        if settings.checkpoint:
            network, _ = load_checkpoint(settings.checkpoint)
        else:
            network = random_network(LAYOUTS[settings.layout]())
        self.network = network  # plain, on the CPU
        self.decoder = Decoder()

    def close(self) -> None:
        """Ends the decoder's process."""
        self.decoder.close()

    @cached_property
    def checkpoint(self) -> Path:
        """The network as a file, for what loads it itself."""
        if self.settings.checkpoint:
            return Path(self.settings.checkpoint).absolute()
        path = self.scratch / "random.safetensors"
        save_checkpoint(self.network, path)
        return path

    @cached_property
    def rival_missing(self) -> str | None:
        """Why stcnbuf is not measured; None where it is."""
        return why_not(self.network.config)

    @cached_property
    def _rival_model(self) -> Module:
        return rival_network(self.network).to(self.settings.device)

    def clip(self, resolution: int) -> Clip:
        """The clip whose shorter side is `resolution`."""
        settings = self.settings
        if resolution not in self._clips:
            if settings.video:
                made = given_clip(Path(settings.video), resolution, settings.pictures, self.decoder)
            else:
                frames = max(settings.frames, settings.cheap_frames)
                path = self.scratch / f"clip-{resolution}.mp4"
                made = rendered_clip(path, resolution, settings.pictures, frames)
            self._clips[resolution] = made
        return self._clips[resolution]

    @cached_property
    def region_network(self) -> STCN:
        """For region decoding: random weights see objects everywhere, so that every box would be given up for the
        whole frame; with these none is."""
        return self.network if self.settings.checkpoint else without_masks(self.network)

    @cached_property
    def region_checkpoint(self) -> Path:
        """`region_network` as a file."""
        if self.settings.checkpoint:
            return self.checkpoint
        path = self.scratch / "random-regions.safetensors"
        save_checkpoint(self.region_network, path)
        return path

    def with_regions(self, case: Case) -> Ours:
        """One that decodes in regions, at the last precision."""
        settings, clip = self.settings.offline(region_decoding=True), self.clip(case.resolution)
        precision, device = self.settings.precisions[-1], self.settings.device
        network = PreparedNetwork(self.region_network, device=device, precision=precision)
        propagation = Propagation(network, clip.size, regions=True)
        memory = filled_memory(propagation, self.contents(case), settings, case.objects)
        return Ours(network, clip, memory, settings)

    def prepared(self, precision: str) -> PreparedNetwork:
        """The network ready for inference on the device."""
        if precision not in self._prepared:
            self._prepared[precision] = PreparedNetwork(self.network, device=self.settings.device, precision=precision)
        return self._prepared[precision]

    def contents(self, case: Case) -> BankContents:
        """What the case's memories are filled with: float32 keys and values."""
        return BankContents(self.prepared("fp32"), self.clip(case.resolution), case.objects)

    def ours(self, case: Case, **changes: object) -> dict[str, Ours]:
        """By precision; all share one memory, as it is kept in one precision. changes: of the algorithm's settings."""
        settings, clip = self.settings.offline(**changes), self.clip(case.resolution)
        propagation = Propagation(self.prepared("fp32"), clip.size)
        memory = filled_memory(propagation, self.contents(case), settings, case.objects)
        return {
            precision: Ours(self.prepared(precision), clip, memory, settings) for precision in self.settings.precisions
        }

    def rival(self, case: Case, memory_frames: int | None = None) -> Rival | None:
        """stcnbuf with the same memory; None where it is not to be had."""
        if self.rival_missing:
            return None
        offline = self.settings.offline()
        return Rival(
            self._rival_model,
            self.clip(case.resolution),
            self.contents(case),
            objects=case.objects,
            device=self.settings.device,
            precision=self.settings.rival_precision,
            memory_frames=memory_frames or offline.memory_frames,
            recent_frames=offline.recent_frames,
            top_k=offline.top_k,
        )

    def run_config(self, precision: str, **changes: object) -> RunConfig:
        """The settings of an annotate run."""
        path = self.region_checkpoint if changes.get("region_decoding") else self.checkpoint
        return RunConfig(path.name, file_sha256(path), precision=precision, **{**self.settings.common(), **changes})
