"""The grid: one factor at a time from a base, eviction x bank, gate x passes, and causal runs of equal banks."""

from dataclasses import dataclass, replace

from stcn_core.settings import OfflineSettings

BASE, CAUSAL, OUTWARD, CAUSAL_RESERVOIR = "base", "causal", "outward-reservoir", "causal-reservoir"
DEFAULTS, CAUSAL_DEFAULTS, UNWEIGHTED = "defaults", "causal-defaults", "-unweighted"
BANKS = (5, 10, 20, 50, 128)
BANK = 20  # of the base: the largest one that the short clips can fill by memorising every fifth frame
DEFAULT_BANK = OfflineSettings().memory_frames
EVICTIONS = ("reservoir", "random-frame", "random-token")
GATES = {
    "confidence": {"confidence_gate": 0.8},
    "agreement": {"burn_in_gate": "agreement"},
    "two-way": {"burn_in_gate": "two-way"},
    "relabel": {"burn_in_gate": "relabel"},
}


@dataclass(frozen=True)
class Cell:
    """Settings with a name. factor: the heading it is listed under; headline: measured first, on more clips and with
    several seeds; all_long: on every long video, as headline cells are."""

    name: str
    factor: str
    settings: OfflineSettings
    headline: bool = False
    all_long: bool = False

    @property
    def causal(self) -> bool:
        return not self.settings.burn_in_passes

    @property
    def random(self) -> bool:
        """Whether another seed gives other masks."""
        return not self.causal or self.settings.memory_policy not in ("fifo", "unbounded")


def grid() -> list[Cell]:
    """All cells, at most 60, the headline ones first. The base is the customer's procedure, whatever the defaults."""
    base = OfflineSettings(
        memory_frames=BANK, memory_policy="fifo", burn_in_order="priority", recent_frames=2, prompt_weight=1.0
    )
    causal = replace(base, burn_in_passes=0)
    found = [Cell(BASE, "base", base, True), Cell(CAUSAL, "bank, causal", causal, True)]

    def add(
        name: str,
        factor: str,
        start: OfflineSettings = base,
        headline: bool = False,
        all_long: bool = False,
        **changes: object,
    ) -> None:
        found.append(Cell(name, factor, replace(start, **changes), headline, all_long))

    for bank in BANKS:
        if bank != BANK:
            # The default bank is filled by long videos alone: a short clip has fewer frames to memorise.
            wanted = {"memory_frames": bank, "headline": bank in (5, 50), "all_long": bank == DEFAULT_BANK}
            add(f"bank-{bank}", "bank", **wanted)
            add(f"causal-bank-{bank}", "bank, causal", causal, **wanted)
    # On long videos a causal run is better without its ring, which holds its own last mistakes.
    add("causal-ring-0", "causal policy", causal, all_long=True, recent_frames=0)
    add("causal-ring-4", "causal policy", causal, recent_frames=4)
    add("causal-every-1", "causal policy", causal, memory_every=1)
    # As a headline: on long videos the best causal policy that has a ring.
    add(CAUSAL_RESERVOIR, "causal policy", causal, headline=True, memory_policy="reservoir")
    changes = {"memory_policy": "reservoir", "memory_frames": DEFAULT_BANK}
    add(f"{CAUSAL_RESERVOIR}-bank-{DEFAULT_BANK}", "causal policy", causal, all_long=True, **changes)
    add("causal-confidence", "causal policy", causal, **GATES["confidence"])
    add("causal-adaptive", "causal policy", causal, admission="adaptive")
    for name, change in GATES.items():
        add(f"gate-{name}", "gate", headline=name == "two-way", **change)
    outward = replace(base, burn_in_order="outward")
    add("order-outward", "order", outward, headline=True)
    # Under fifo an outward burn-in leaves only what is farthest from the prompts.
    spread = replace(outward, memory_policy="reservoir")
    add(OUTWARD, "outward, reservoir", spread, headline=True)
    for bank in (50, DEFAULT_BANK):
        all_long = bank == DEFAULT_BANK
        add(f"{OUTWARD}-bank-{bank}", "outward, reservoir", spread, memory_frames=bank, all_long=all_long)
    # The defaults offline and causal, and both without what they owe to the weight of given masks.
    for weight, end in ((OfflineSettings().prompt_weight, ""), (1.0, UNWEIGHTED)):
        for bank in (DEFAULT_BANK, BANK):
            size = "" if bank == DEFAULT_BANK else f"-bank-{bank}"
            wanted = {"headline": bank == DEFAULT_BANK, "all_long": True, "memory_frames": bank, "recent_frames": 0}
            wanted |= {"prompt_weight": weight, "memory_policy": "reservoir"}
            add(f"{DEFAULTS}{end}{size}", "defaults", outward, **wanted)
            add(f"{CAUSAL_DEFAULTS}{end}{size}", "defaults", causal, **wanted)
    add("weight", "prompt weight", prompt_weight=OfflineSettings().prompt_weight)
    for more in ("agreement", "two-way", "relabel"):
        add(f"{OUTWARD}-{more}", "outward, reservoir", spread, headline=more == "two-way", **GATES[more])
    add("passes-2", "passes", burn_in_passes=2)
    for name, change in GATES.items():
        add(f"gate-{name}-passes-2", "gate x passes", burn_in_passes=2, **change)
    add("gate-restart-passes-2", "gate x passes", burn_in_passes=2, burn_in_gate="restart")
    for times in (1, 2, 8):
        add(f"burn-in-{times}x", "burn-in frames", burn_in_frames=times * BANK)
    for policy in EVICTIONS:
        # On long videos a reservoir is what makes a causal run good: it may do the same for a random burn-in.
        add(policy, "eviction", memory_policy=policy, all_long=policy == "reservoir")
        for bank in (5, 50):
            add(f"{policy}-bank-{bank}", "eviction x bank", memory_policy=policy, memory_frames=bank)
    add("unpinned", "pinning", pin_prompts=False)
    add("own-slot", "own slot", exclude_own=False)
    for ring in (0, 1, 4):
        add(f"ring-{ring}", "ring", recent_frames=ring)
    return found
