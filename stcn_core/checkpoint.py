"""Reading and writing network weights.

Accepted: the official STCN `.pth` (a plain state dict, 4- or 5-channel value encoder, with or without a `module.`
prefix) and safetensors written by this project, which carry their NetworkConfig in the file's metadata. Nothing
is unpickled beyond tensors (`weights_only=True`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stcn_core.efficientnet import TRUNKS
from stcn_core.network import STCN, NetworkConfig

BUNDLED = Path(__file__).parent / "weights" / "small.safetensors"
CONFIG_KEY = "network_config"
VALUE_INPUT = "value_encoder.conv1.weight"
SHOWN_KEYS = 5


class CheckpointError(ValueError):
    """A file that is no checkpoint, or not one of this network. The message names the file and what is wrong."""


@dataclass(frozen=True)
class CheckpointInfo:
    """Where the weights came from: file name, SHA-256 of the file, layout, notes on what was adapted."""

    name: str
    sha256: str
    config: NetworkConfig
    notes: tuple[str, ...] = ()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_checkpoint(path: Path | str) -> tuple[STCN, CheckpointInfo]:
    """The network in evaluation mode, float32, on the CPU.

    Raises FileNotFoundError, or CheckpointError that names the first missing, unexpected or misshapen keys.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist: give a .pth or .safetensors file or URL")
    state, config = _read_safetensors(path) if path.suffix == ".safetensors" else read_pth(path)
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    notes = []
    first = state.get(VALUE_INPUT)
    if first is not None and first.ndim == 4 and first.shape[1] == 4:
        # Stage-0 weights saw no "others" channel. STCN's own evaluation appends zeros, which ignores it.
        state[VALUE_INPUT] = torch.cat((first, torch.zeros_like(first[:, :1])), 1)
        notes.append("value_encoder.conv1: 4 input channels, one of zeros appended")
    hint = ""
    if config is None:
        config = recognised_config(state)
        hint = (
            f": the file carries no {CONFIG_KEY} and was compared with the official layout; another layout is "
            "recognised where it is whole, and sure to load where save_checkpoint wrote it as .safetensors"
        )
    network = _build(path, config)
    check_keys(path, network.state_dict(), state, hint)
    network.load_state_dict(state)
    return network.float().eval(), CheckpointInfo(path.name, file_sha256(path), config, tuple(notes))


def recognised_config(state: Mapping[str, Tensor]) -> NetworkConfig:
    """The layout of a state dict that carries no NetworkConfig, from its keys and shapes.

    The official layout unless another one fits every tensor: a damaged official file is still told what it lacks.
    """
    official = replace(NetworkConfig.official(), cbam=any(".fuser.attention." in key for key in state))

    def width(key: str, axis: int = 0) -> int:
        return state[key].shape[axis]

    def depths(*stages: str) -> tuple[int, ...]:
        return tuple(len({key.split(".")[2] for key in state if key.startswith(f"{stage}.")}) for stage in stages)

    try:
        if "key_encoder.features.0.0.weight" in state:
            shared = {
                "key_dim": width("key_proj.key_proj.weight"),
                "value_dim": width("key_comp.weight"),
                "decoder_dim": width("decoder.pred.weight", 1),
                "expansion": width("key_comp.weight", 1) if "key_encoder.expansion.widen.0.weight" in state else 0,
            }
            layouts = (replace(official, encoder=name, **shared) for name in TRUNKS)
            return next((layout for layout in layouts if _fits(layout, state)), official)
        config = replace(
            official,
            key_block="bottleneck" if "key_encoder.res2.0.conv3.weight" in state else "basic",
            key_width=width("key_encoder.conv1.weight"),
            key_depths=depths("key_encoder.res2", "key_encoder.layer2", "key_encoder.layer3"),
            value_width=width("value_encoder.conv1.weight"),
            value_depths=depths("value_encoder.layer1", "value_encoder.layer2", "value_encoder.layer3"),
            value_conv_bias="value_encoder.conv1.bias" in state,
            key_dim=width("key_proj.key_proj.weight"),
            value_dim=width("key_comp.weight"),
            decoder_dim=width("decoder.pred.weight", 1),
        )
        return config if _fits(config, state) else official
    except (KeyError, IndexError, ValueError, RuntimeError):
        return official


def _fits(config: NetworkConfig, state: Mapping[str, Tensor]) -> bool:
    """Whether these are the names and shapes of a network of that layout."""
    with torch.device("meta"):  # shapes only
        expected = STCN(config).state_dict()
    return {key: tensor.shape for key, tensor in state.items()} == {key: t.shape for key, t in expected.items()}


def save_checkpoint(
    network: STCN,
    path: Path | str,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes `.safetensors` (with config and metadata) or a `.pth` state dict in the official key layout.

    dtype, if given, is what floating tensors are stored as; loading always gives float32.
    """
    path = Path(path)
    state = {
        key: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).cpu().contiguous()
        for key, tensor in network.state_dict().items()
    }
    if path.suffix == ".safetensors":
        config = json.dumps(network.config.to_json())
        save_file(state, path, {**(metadata or {}), CONFIG_KEY: config, "format": "pt"})
    elif path.suffix == ".pth":
        torch.save(state, path)
    else:
        raise ValueError(f"{path}: a checkpoint's name ends in .safetensors or .pth")


def checkpoint_metadata(path: Path | str) -> dict[str, str]:
    """The text metadata of a safetensors file (training record, config)."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], NetworkConfig | None]:
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            text = (file.metadata() or {}).get(CONFIG_KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        return state, None if text is None else NetworkConfig.from_json(json.loads(text))
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: its {CONFIG_KEY} is not understood: {error}") from error


def _build(path: Path, config: NetworkConfig) -> STCN:
    try:
        return STCN(config)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no network can be built from its {CONFIG_KEY}: {error}") from error


def read_pth(path: Path, nests: Sequence[str] = ("network",)) -> tuple[dict[str, Tensor], None]:
    """(the state dict, None): nothing but tensors is unpickled. Raises CheckpointError.

    nests: names under which training checkpoints keep it; the first that is there counts (STCN's own: network).
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here: pickle, zip, EOF and runtime errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint that can be read safely (weights only): {reason}") from error
    if isinstance(state, Mapping):
        state = next((state[name] for name in nests if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise CheckpointError(f"{path} holds no state dict (a mapping of names to tensors)")
    return dict(state), None


def check_keys(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], hint: str = "") -> None:
    """Raises CheckpointError that names the first missing, unexpected and misshapen tensors."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f"{key} is {tuple(found[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    parts = []
    for word, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        if keys:
            more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
            parts.append(f"{len(keys)} {word}: {', '.join(keys[:SHOWN_KEYS])}{more}")
    if parts:
        raise CheckpointError(f"{path} does not fit the network ({'; '.join(parts)}){hint}")
