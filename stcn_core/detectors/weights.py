"""A detector's weights from a file: tensors and, in files of this project, the layout. Nothing else is unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stcn_core.checkpoint import CheckpointError, check_keys, read_pth
from stcn_core.detectors.detections import DetectorError
from stcn_core.detectors.zoo_pickle import read_zoo_pickle

CONFIG_KEY = "detector_config"
NESTS = ("model", "state_dict", "teacher", "network")  # where training checkpoints keep the weights


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    """(state dict, layout or None) of a .safetensors, .pth, .pt or model-zoo .pkl file. Raises DetectorError."""
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix == ".pkl":
            return {key: torch.from_numpy(array) for key, array in read_zoo_pickle(path).items()}, None
        return read_pth(path, NESTS)
    except CheckpointError as error:
        raise DetectorError(str(error)) from error


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads a state dict that must fit exactly. Raises DetectorError that names the first keys that do not."""
    try:
        check_keys(path, network.state_dict(), state)
    except CheckpointError as error:
        raise DetectorError(str(error)) from error
    network.load_state_dict(state)
    network.float().eval().requires_grad_(False)


def save_weights(state: Mapping[str, Tensor], layout: Mapping, path: Path) -> None:
    """Writes .safetensors with the layout, so that a detector of any size loads again."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    save_file(tensors, path, {CONFIG_KEY: json.dumps(layout), "format": "pt"})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(CONFIG_KEY)
            layout = None if text is None else json.loads(text)
            return {key: file.get_tensor(key) for key in file.keys()}, layout
    except (SafetensorError, OSError, ValueError) as error:
        raise DetectorError(f"{path} is not a readable safetensors file: {error}") from error
