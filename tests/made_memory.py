"""Memory banks whose readouts tell which frames they came from."""

import torch
from torch import Tensor

from stcn_core.memory import MemoryBank
from stcn_core.settings import OfflineSettings

CK, CV, GRID = 6, 4, (3, 5)
TOKENS = GRID[0] * GRID[1]
READ_ALL = {"top_k": 10_000}
_small = False


def settings(policy: str = "fifo", **changes: object) -> OfflineSettings:
    return OfflineSettings(**{"memory_policy": policy, "memory_frames": 4, "recent_frames": 2, "top_k": 5, **changes})


def make(policy: str = "fifo", objects: int = 2, pinned: int = 1, **changes: object) -> MemoryBank:
    return MemoryBank(settings(policy, **changes), GRID, objects, CK, CV, pinned=pinned)


def key_of(frame: int) -> Tensor:
    """[Ck, h, w]: its own for every frame."""
    if _small:
        return torch.full((CK, *GRID), 0.01 * frame)
    return torch.randn(CK, *GRID, generator=torch.Generator().manual_seed(1000 + frame))


def values_of(frame: int, objects: int = 2) -> Tensor:
    """[K, Cv, h, w]: every element is frame + k / 10, so that a readout shows which frames it came from."""
    return torch.stack([torch.full((CV, *GRID), frame + k / 10) for k in range(objects)])


def memorise(bank: MemoryBank, frame: int, valid: list[bool] | None = None) -> bool:
    position = bank.admit(frame)
    if position is not None:
        bank.memorise(position, frame, key_of(frame), values_of(frame, bank.objects), valid or [True] * bank.objects)
    return position is not None


def read_frames(bank: MemoryBank, frame: int, k: int, query: Tensor | None = None) -> set[int]:
    """Which frames can be read by `frame` for object k: the readout of one-hot values, top-k over everything."""
    frames = sorted({f for f in range(60) if (bank.values[k] == f + k / 10).any()})
    found = set()
    original = bank.values.clone()
    for f in frames:
        bank.values[k] = ((original[k] - (f + k / 10)).abs() < 1e-4).float()
        if bank.read(key_of(frame) if query is None else query, frame, [k]).abs().max() > 0:
            found.add(f)
    bank.values.copy_(original)
    return found
