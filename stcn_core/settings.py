"""The settings of the offline algorithm. Each one changes masks; how fast they are made is set elsewhere."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

MemoryPolicy = Literal["fifo", "random-frame", "reservoir", "random-token", "unbounded"]
MEMORY_POLICIES: tuple[str, ...] = get_args(MemoryPolicy)
AFFINITIES = ("l2", "dot")
BURN_IN_ORDERS = {
    "priority": "uniformly at random",
    "outward": "in the first pass at random from those next to the prompts outwards; goes with --memory-policy "
    "reservoir, which keeps frames of the whole way",
    "stcnbuf": "that package's, numpy seeded by --seed",
    "stcnbuf-in-order": "all of them, in order",
}
SAMPLED_ORDERS = ("priority", "outward")  # those that can do with some of the frames
GATES = {
    "agreement": "a frame is memorised where a burn-in in another random order gave it the same mask",
    "two-way": "a frame is memorised where, as the only memory, it gives back the prompt's mask",
    "relabel": "in the end the bank's frames are segmented again",
    "restart": "each further pass starts with the surest half of the bank alone",
}

# What was done before there was a setting for it, where that is not today's default: what records that lack it mean.
BEFORE = {"burn_in_order": "priority", "prompt_weight": 1.0}


@dataclass(frozen=True)
class Scale:
    """One run of multi-scale testing: the shorter side in pixels, and the kernelised memory's sigma (0: none)."""

    resolution: int
    kernel_sigma: float = 0.0


def parse_scales(text: str) -> tuple[Scale, ...]:
    """ "480,600:7" -> runs at 480 and at 600, the latter with a kernelised memory. Raises ValueError."""
    scales = []
    for part in filter(None, text.split(",")):
        side, _, sigma = part.partition(":")
        try:
            scale = Scale(int(side), float(sigma or 0))
        except ValueError:
            scale = Scale(0)
        if scale.resolution < 16 or not 0 <= scale.kernel_sigma < float("inf"):
            raise ValueError(f"--scales {text}: {part!r} is not a shorter side in pixels, as in 480,600:7")
        scales.append(scale)
    if len(set(scales)) < len(scales):
        raise ValueError(f"--scales {text} names a run twice")
    if text and not scales:
        raise ValueError(f"--scales {text} names no shorter side: give some, as in 480,600:7, or leave it out")
    return tuple(scales)


@dataclass(frozen=True)
class OfflineSettings:
    """Names are those of the command line. Raises ValueError that names the option and its range."""

    burn_in_passes: int = 1  # 0 = a causal run: in order, memorising every `memory_every` frames
    burn_in_frames: int | None = None  # visited per pass; None = 4 x memory_frames, 0 = all
    memory_frames: int = 128
    memory_policy: MemoryPolicy = "reservoir"
    memory_every: int = 5  # causal runs only
    recent_frames: int = 0  # a ring holds the run's own last mistakes: docs/ablation.md
    group_frames: int = 5
    segment_frames: int = 1000
    top_k: int = 20  # paper, section 3.4
    affinity: Literal["l2", "dot"] = "l2"
    exclude_own: bool = True  # a frame never reads its own unpinned slot
    region_decoding: bool = False  # decode only where the memory says that an object can be
    second_opinion: bool = False  # also segment with another part of the memory, for a score; masks stay as they are
    seed: int = 0
    # Causal runs: which frames are memorised.
    admission: Literal["every-nth", "adaptive"] = "every-nth"  # adaptive: EamStcn's motion-aware rule
    additional_every: int = 25  # under adaptive: these frames too; 0 = none
    memory_restart: bool = False  # memory_every counts anew from each prompted frame (STCN's generic protocol)
    include_last: bool = False  # the ring is emptied when a frame is memorised: STCN's and STM's previous frame
    # Every run.
    confidence_gate: float = 0.0  # frames whose masks are less sure are not memorised
    # Among the best matches an element of a given mask weighs as much as so many predicted ones that match as well.
    # Tuned on rendered videos and a few real clips: beyond 50 objects are lost whose looks change.
    prompt_weight: float = 8.0
    pin_prompts: bool = True  # otherwise given masks are memorised like any frame, and lost like any (stcnbuf)
    burn_in_choice: Literal["uniform", "motion"] = "uniform"  # motion: EamStcn's image part weighs the frames
    burn_in_order: Literal["priority", "outward", "stcnbuf", "stcnbuf-in-order"] = "outward"
    kernel_sigma: float = 0.0  # kernelised memory, feature pixels; 0 = none
    scales: str = ""  # "480,600:7": runs whose probabilities are averaged, each with its kernel_sigma
    flip: bool = False  # each of them also mirrored
    burn_in_gate: str = ""  # "two-way,relabel": names of GATES; see stcn_core/gate.py
    gate_overlap: float = 0.5  # J from which masks count as the same, for agreement and two-way

    def __post_init__(self) -> None:
        for name, least in (
            ("burn_in_passes", 0),
            ("memory_frames", 1),
            ("memory_every", 1),
            ("recent_frames", 0),
            ("group_frames", 1),
            ("segment_frames", 1),
            ("top_k", 0),
            ("additional_every", 0),
            ("kernel_sigma", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(self, name)}")
        if self.burn_in_frames is not None and self.burn_in_frames < 0:
            raise ValueError(f"--burn-in-frames must be at least 0 (0 = all), not {self.burn_in_frames}")
        if self.memory_policy not in MEMORY_POLICIES:
            raise ValueError(f"--memory-policy is one of {', '.join(MEMORY_POLICIES)}, not {self.memory_policy}")
        if self.affinity not in AFFINITIES:
            raise ValueError(f"--affinity is one of {', '.join(AFFINITIES)}, not {self.affinity}")
        for name, known in (
            ("admission", ("every-nth", "adaptive")),
            ("burn_in_choice", ("uniform", "motion")),
            ("burn_in_order", BURN_IN_ORDERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"--{name.replace('_', '-')} is one of {', '.join(known)}, not {getattr(self, name)}")
        if not 0 <= self.confidence_gate <= 1:
            raise ValueError(f"--confidence-gate is a probability from 0 (off) to 1, not {self.confidence_gate}")
        if self.include_last and not self.recent_frames:
            raise ValueError("--include-last keeps the frame before in the ring: give --recent-frames 1 or more")
        if not 1 <= self.prompt_weight < math.inf:
            raise ValueError(f"--prompt-weight is a factor from 1 (no difference), not {self.prompt_weight}")
        if not math.isfinite(self.kernel_sigma):
            raise ValueError(f"--kernel-sigma is a number of cells from 0 (off), not {self.kernel_sigma}")
        kernels = {"--kernel-sigma": self.kernel_sigma}
        kernels |= {f"--scales {self.scales}": scale.kernel_sigma for scale in parse_scales(self.scales)}
        for option, sigma in kernels.items():
            if sigma and not self.top_k:
                raise ValueError(f"{option}: a kernel works on the best matches: give --top-k 1 or more")
        if self.burn_in_order not in SAMPLED_ORDERS and self.burn_in_frames != 0:
            raise ValueError(f"--burn-in-order {self.burn_in_order} visits every frame: give --burn-in-frames all")
        self._check_gates()
        if self.second_opinion and not self.burn_in_passes:
            raise ValueError("--second-opinion compares parts of the bank: a causal run (--burn-in-passes 0) has none")
        if self.segment_frames % self.group_frames:
            raise ValueError(
                f"--segment-frames ({self.segment_frames}) must be a multiple of --group-frames ({self.group_frames})"
            )

    def _check_gates(self) -> None:
        if "outward" in self.gates:
            raise ValueError("--burn-in-gate outward is an order now: give --burn-in-order outward")
        unknown = [name for name in self.gates if name not in GATES]
        if unknown or len(set(self.gates)) < len(self.gates):
            raise ValueError(f"--burn-in-gate joins names of {', '.join(GATES)} by commas, not {self.burn_in_gate}")
        if self.gates and not self.burn_in_passes:
            raise ValueError("--burn-in-gate judges what a burn-in memorises: a causal run has none")
        if self.gates and not self.pin_prompts:
            raise ValueError("--burn-in-gate trusts the given masks: it does not go with --no-pin-prompts")
        if "restart" in self.gates and self.burn_in_passes < 2:
            raise ValueError("--burn-in-gate restart is about later passes: give --burn-in-passes 2 or more")
        if self.gates and self.burn_in_order not in SAMPLED_ORDERS:
            raise ValueError(
                f"--burn-in-gate goes with --burn-in-order {' or '.join(SAMPLED_ORDERS)}, not {self.burn_in_order}"
            )
        if {"relabel", "restart"} & set(self.gates) and self.memory_policy == "random-token":
            raise ValueError("--burn-in-gate relabel and restart need whole frames in the bank, not random-token")
        if not 0 <= self.gate_overlap <= 1:
            raise ValueError(f"--gate-overlap is a J from 0 to 1, not {self.gate_overlap}")

    @property
    def gates(self) -> tuple[str, ...]:
        """The names in `burn_in_gate`."""
        return tuple(filter(None, self.burn_in_gate.split(",")))

    @property
    def visited_frames(self) -> int | None:
        """Frames visited per burn-in pass; None for all of them."""
        if self.burn_in_frames == 0:
            return None
        return 4 * self.memory_frames if self.burn_in_frames is None else self.burn_in_frames
