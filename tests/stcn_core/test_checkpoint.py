"""Checkpoints: official layout both ways, the adapted variants, and files that must be refused."""

import hashlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_networks import TINY, random_network
from safetensors.torch import save_file
from torch import Tensor

from stcn_core.checkpoint import CheckpointError, checkpoint_metadata, load_checkpoint, save_checkpoint
from stcn_core.network import STCN, NetworkConfig

FIRST = "value_encoder.conv1.weight"


@pytest.fixture(scope="module")
def official() -> STCN:
    return random_network(NetworkConfig.official())


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_official_layout_saves_and_loads(official: STCN, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stcn{suffix}"
    save_checkpoint(official, path, {"made": "here"} if suffix == ".safetensors" else None)
    network, info = load_checkpoint(path)
    assert_same(network.state_dict(), official.state_dict())
    assert len(network.state_dict()) == 405
    assert info.config == NetworkConfig.official() and info.notes == ()
    assert info.name == path.name
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not network.training
    if suffix == ".safetensors":
        assert checkpoint_metadata(path)["made"] == "here"
    else:
        plain = torch.load(path, weights_only=True)
        assert_same(plain, official.state_dict())


def test_variants_of_the_official_file_load(official: STCN, tmp_path: Path) -> None:
    """`module.` before every key, 4 input channels (stage 0), nested as a training checkpoint, half precision."""
    state = official.state_dict()
    four = {**state, FIRST: state[FIRST][:, :4]}
    path = tmp_path / "stcn.pth"

    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, path)
    assert_same(load_checkpoint(path)[0].state_dict(), state)

    torch.save({"it": 3, "network": four, "optimizer": {"lr": 1}}, path)
    network, info = load_checkpoint(path)
    loaded = network.state_dict()
    assert torch.equal(loaded[FIRST][:, :4], state[FIRST][:, :4])
    assert loaded[FIRST].shape[1] == 5 and not loaded[FIRST][:, 4].any()
    assert "4 input channels" in info.notes[0]

    no_cbam = {key: tensor for key, tensor in state.items() if ".attention." not in key}
    torch.save(no_cbam, path)
    network, info = load_checkpoint(path)
    assert_same(network.state_dict(), no_cbam)
    assert not info.config.cbam


def test_other_layouts_carry_their_config(tmp_path: Path) -> None:
    network = random_network(TINY)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(network, path, dtype=torch.float16)
    loaded, info = load_checkpoint(path)
    assert info.config == TINY
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    for key, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[key].half().to(tensor.dtype))


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        NetworkConfig.small(),
        replace(TINY, cbam=False, value_conv_bias=True),
        replace(TINY, key_block="bottleneck"),
    ],
)
def test_another_layout_is_recognised_from_its_shapes(config: NetworkConfig, tmp_path: Path) -> None:
    """A plain state dict, `.pth` or safetensors without a config; also with 4 input channels or a prefix."""
    network = random_network(config)
    state = network.state_dict()
    save_checkpoint(network, tmp_path / "plain.pth")
    loaded, info = load_checkpoint(tmp_path / "plain.pth")
    assert info.config == config
    assert_same(loaded.state_dict(), state)
    save_file(state, tmp_path / "plain.safetensors")
    assert load_checkpoint(tmp_path / "plain.safetensors")[1].config == config
    four = {f"module.{key}": tensor for key, tensor in {**state, FIRST: state[FIRST][:, :4]}.items()}
    torch.save(four, tmp_path / "four.pth")
    assert load_checkpoint(tmp_path / "four.pth")[1].config == config


def test_a_damaged_other_layout_is_told_how_to_load(tmp_path: Path) -> None:
    state = dict(random_network(TINY).state_dict())
    del state["decoder.pred.bias"]
    torch.save(state, tmp_path / "tiny.pth")
    with pytest.raises(CheckpointError, match="misshapen.*official layout.*as .safetensors"):
        load_checkpoint(tmp_path / "tiny.pth")


def test_four_channels_in_safetensors(tmp_path: Path) -> None:
    state = random_network(TINY).state_dict()
    config = json.dumps(TINY.to_json())
    path = tmp_path / "tiny.safetensors"
    save_file({**state, FIRST: state[FIRST][:, :4].contiguous()}, path, {"network_config": config})
    assert load_checkpoint(path)[1].notes


def test_wrong_keys_are_named(official: STCN, tmp_path: Path) -> None:
    state = dict(official.state_dict())
    path = tmp_path / "stcn.pth"
    del state["key_proj.key_proj.bias"]
    state["surplus.weight"] = torch.zeros(1)
    state["key_comp.bias"] = torch.zeros(7)
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    for part in (
        str(path),
        "1 missing: key_proj.key_proj.bias",
        "1 unexpected: surplus.weight",
        "1 misshapen: key_comp.bias is (7,), not (512,)",
    ):
        assert part in message


def test_many_wrong_keys_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({f"layer{n}": torch.zeros(1) for n in range(12)}, path)
    with pytest.raises(
        CheckpointError, match=r"missing: key_encoder.conv1.weight.* and \d+ more.*12 unexpected: layer0"
    ):
        load_checkpoint(path)


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("evil-was-here"),))


def wrong_files() -> dict[str, bytes]:
    """File name -> content that is no checkpoint."""
    good = {"a": torch.zeros(2)}
    buffer = io.BytesIO()
    torch.save(good, buffer)
    whole = buffer.getvalue()
    code = io.BytesIO()
    torch.save({"a": Evil()}, code)
    numbered, listed, nothing = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({0: torch.zeros(1)}, numbered)
    torch.save([torch.zeros(1)], listed)
    torch.save({}, nothing)
    return {
        "empty.pth": b"",
        "text.pth": b"this is text\n",
        "html.pth": b"<html><body>404 not found</body></html>",
        "cut.pth": whole[: len(whole) // 2],
        "code.pth": code.getvalue(),
        "pickle.pth": pickle.dumps({"a": Evil()}),
        "numbered.pth": numbered.getvalue(),
        "list.pth": listed.getvalue(),
        "nothing.pth": nothing.getvalue(),
        "empty.safetensors": b"",
        "text.safetensors": b"this is text, longer than the eight bytes of a header's length\n",
        "pth.safetensors": whole,
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", wrong_files())
def test_files_that_are_no_checkpoint(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(wrong_files()[name])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("evil-was-here").exists()


@pytest.mark.parametrize(
    "config",
    ["", "[]", "3", '{"key_block": "dense"}', '{"surprise": 1}', '{"key_width": -4}', '{"key_depths": [1]}'],
)
def test_a_config_that_is_not_understood(config: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"network_config": config})
    with pytest.raises(CheckpointError, match="tiny.safetensors"):
        load_checkpoint(path)


def test_cut_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(random_network(TINY), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="tiny.safetensors is not a readable"):
        load_checkpoint(path)


def test_missing_file_and_wrong_suffix(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give a .pth or .safetensors"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="ends in"):
        save_checkpoint(random_network(TINY), tmp_path / "a.bin")
