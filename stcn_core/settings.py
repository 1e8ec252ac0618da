"""The settings of the offline algorithm. Each one changes masks; how fast they are made is set elsewhere."""

from dataclasses import dataclass
from typing import Literal, get_args

MemoryPolicy = Literal["fifo", "random-frame", "reservoir", "random-token", "unbounded"]
MEMORY_POLICIES: tuple[str, ...] = get_args(MemoryPolicy)
AFFINITIES = ("l2", "dot")


@dataclass(frozen=True)
class OfflineSettings:
    """Names are those of the command line. Raises ValueError that names the option and its range."""

    burn_in_passes: int = 1  # 0 = a causal run: in order, memorising every `memory_every` frames
    burn_in_frames: int | None = None  # visited per pass; None = 4 x memory_frames, 0 = all
    memory_frames: int = 128
    memory_policy: MemoryPolicy = "fifo"
    memory_every: int = 5  # causal runs only
    recent_frames: int = 2
    group_frames: int = 5
    segment_frames: int = 1000
    top_k: int = 20  # paper, section 3.4
    affinity: Literal["l2", "dot"] = "l2"
    exclude_own: bool = True  # a frame never reads its own unpinned slot
    region_decoding: bool = False  # decode only where the memory says that an object can be
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("burn_in_passes", 0),
            ("memory_frames", 1),
            ("memory_every", 1),
            ("recent_frames", 0),
            ("group_frames", 1),
            ("segment_frames", 1),
            ("top_k", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(self, name)}")
        if self.burn_in_frames is not None and self.burn_in_frames < 0:
            raise ValueError(f"--burn-in-frames must be at least 0 (0 = all), not {self.burn_in_frames}")
        if self.memory_policy not in MEMORY_POLICIES:
            raise ValueError(f"--memory-policy is one of {', '.join(MEMORY_POLICIES)}, not {self.memory_policy}")
        if self.affinity not in AFFINITIES:
            raise ValueError(f"--affinity is one of {', '.join(AFFINITIES)}, not {self.affinity}")
        if self.segment_frames % self.group_frames:
            raise ValueError(
                f"--segment-frames ({self.segment_frames}) must be a multiple of --group-frames ({self.group_frames})"
            )

    @property
    def visited_frames(self) -> int | None:
        """Frames visited per burn-in pass; None for all of them."""
        if self.burn_in_frames == 0:
            return None
        return 4 * self.memory_frames if self.burn_in_frames is None else self.burn_in_frames
