"""A memory bank as a safetensors file: what a burn-in leaves for the final pass, whichever process does that.

Tensors, for the S slots that hold something, ascending by index: `keys` [S, T, Ck + 1] float32, `values`
[S, K, T, Cv], under random-token `element_frames` [S, T] int64. Values lie in the narrowest type that holds each of
them exactly: a network run in half precision makes values that half precision holds. The header's metadata has
`bank` (JSON: facts that must be equal where it is loaded, and the layout) and `sha256`, taken over the tensors' bytes
and the header itself with 64 zeros in place of the sum. The file is written slot by slot, so that saving needs no
second bank in memory.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stcn_core.bank_layout import BankLayout, Slot
from stcn_core.memory import MemoryBank
from stcn_core.settings import BEFORE, OfflineSettings

SCHEMA = "stcn-bank 1.0.0"
NAMES = ("keys", "values", "element_frames")
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
NO_SUM = "0" * 64
# What a bank means that lacks a setting.
SETTINGS = {
    f"--{field.name.replace('_', '-')}": BEFORE.get(field.name, field.default) for field in fields(OfflineSettings)
}


def save_bank(memory: MemoryBank, path: Path, facts: Mapping[str, object]) -> None:
    """facts: what else, besides settings and shapes, must be equal where the bank is loaded. Raises OSError."""
    layout = memory.layout()
    held = layout.held()
    narrow = _narrowest(memory, held)
    record = {"facts": _all_facts(memory, facts), "layout": asdict(layout)}
    bank = json.dumps(record)
    header, end = {"__metadata__": {"format": "pt", "schema": SCHEMA, "sha256": NO_SUM, "bank": bank}}, 0
    for name, shape, kind in _tensors(memory, narrow):
        size = len(held) * torch.Size(shape).numel() * kind.itemsize
        header[name] = {"dtype": TYPES[kind], "shape": [len(held), *shape], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    digest = hashlib.sha256(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for piece in _pieces(memory, held, narrow):
            digest.update(piece)
            file.write(piece)
        file.seek(8 + text.index(NO_SUM.encode()))
        file.write(digest.hexdigest().encode())


def load_bank(memory: MemoryBank, path: Path, facts: Mapping[str, object]) -> None:
    """Makes the memory what it was when it was saved. Raises ValueError that says what is wrong, OSError."""
    _check_file(path)
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["bank"])
        saved, ours = record["facts"], _all_facts(memory, facts)
        for name in ours:
            there = saved.get(name, SETTINGS.get(name))  # an earlier version did not have it
            if there != ours[name]:
                raise ValueError(f"{path} was saved with {name} {there}, this run has {ours[name]}")
        layout = _layout(record["layout"])
        memory.arrange(layout)
        slices = [file.get_slice(name) for name in NAMES if name in file.keys()]
        for number, index in enumerate(layout.held()):
            for target, source in zip(memory.contents(index), slices, strict=False):
                target.copy_(source[number])


def _check_file(path: Path) -> None:
    """The whole file is there, is a saved bank, and is what was written."""
    again = "do the burn-in again"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}): {again}") from error
    if metadata.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no saved bank of this version: it is {metadata.get('schema')}, not {SCHEMA}")
    with path.open("rb") as file:
        text = file.read(int.from_bytes(file.read(8), "little"))
        digest = hashlib.sha256(text.replace(metadata.get("sha256", "").encode(), NO_SUM.encode(), 1))
        while piece := file.read(1 << 20):
            digest.update(piece)
    found, saved = digest.hexdigest(), metadata.get("sha256", "none")
    if found != saved:
        raise ValueError(f"{path} is damaged: its SHA-256 is {found[:12]}, not {saved[:12]} as saved: {again}")


def _all_facts(memory: MemoryBank, facts: Mapping[str, object]) -> dict[str, object]:
    """As JSON gives them back: lists, no tuples."""
    shapes = {
        "objects": memory.objects,
        "grid": list(memory.grid),
        "key channels": memory.keys.shape[-1] - 1,
        "value channels": memory.values.shape[-1],
    }
    settings = {f"--{name.replace('_', '-')}": value for name, value in asdict(memory.settings).items()}
    return {**facts, **shapes, **settings}


def _layout(record: dict) -> BankLayout:
    slots = tuple(
        # absent and given came after 1.0.0
        Slot(
            slot["frame"], slot["pinned"], tuple(slot["valid"]), tuple(slot.get("absent", ())), slot.get("given", False)
        )
        for slot in record["slots"]
    )
    parts = (tuple(record[name]) for name in ("pinned", "recent", "bank"))
    return BankLayout(*parts, slots, {int(frame): tuple(valid) for frame, valid in record["partly_known"].items()})


def _narrowest(memory: MemoryBank, held: list[int]) -> torch.dtype:
    """The type for the values: a narrower one where it holds every one of them."""
    for kind in (torch.bfloat16, torch.float16):
        values = (memory.contents(index)[1] for index in held)
        if all(torch.equal(value.to(kind).to(value.dtype), value) for value in values):
            return kind
    return memory.values.dtype


def _tensors(memory: MemoryBank, narrow: torch.dtype) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    """Name, shape per slot and type of each tensor in the file."""
    keys, values, frames = memory.contents(0)
    found = [("keys", tuple(keys.shape), keys.dtype), ("values", tuple(values.shape), narrow)]
    return found if frames is None else [*found, ("element_frames", tuple(frames.shape), frames.dtype)]


def _pieces(memory: MemoryBank, held: list[int], narrow: torch.dtype) -> Iterator[bytes]:
    """The tensors' bytes, tensor after tensor, slot after slot."""
    for number, (_, _, kind) in enumerate(_tensors(memory, narrow)):
        for index in held:
            yield _bytes(memory.contents(index)[number].to(kind))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes()
