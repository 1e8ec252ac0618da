"""The network's layouts, and that its steps are independent of batch, object order and company."""

import json
import socket
from pathlib import Path

import pytest
import torch
from made_networks import TINY, random_network

from stcn_core.network import STCN, NetworkConfig

# A fact table: every key of the published checkpoint's network and its shape.
OFFICIAL_KEYS = json.loads((Path(__file__).parent / "stcn_state_dict.json").read_text())


def test_official_layout_has_the_published_keys_and_shapes() -> None:
    network = STCN(NetworkConfig.official())
    shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    assert len(OFFICIAL_KEYS) == 405
    assert shapes == OFFICIAL_KEYS
    assert sum(p.numel() for p in network.parameters()) == 54_434_180


def test_small_layout_has_two_to_five_million_parameters() -> None:
    count = sum(p.numel() for p in STCN(NetworkConfig.small()).parameters())
    assert 2_000_000 <= count <= 5_000_000


@pytest.mark.parametrize("config", [NetworkConfig.official(), NetworkConfig.small(), TINY])
def test_config_survives_json(config: NetworkConfig) -> None:
    assert NetworkConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_construction_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a network was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    STCN(NetworkConfig.official())


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (48, 32)])
@pytest.mark.parametrize("objects", [1, 2, 5])
def test_shapes(size: tuple[int, int], objects: int) -> None:
    network = random_network()
    height, width = size
    frames = torch.randn(3, 3, height, width)
    with torch.inference_mode():
        features = network.encode_key(frames)
        values = network.encode_value(frames, features.f16, torch.rand(3, objects, height, width))
        logits = network.decode(values, features)
    assert features.key.shape == (3, TINY.key_dim, height // 16, width // 16)
    assert features.thin.shape == (3, TINY.value_dim, height // 16, width // 16)
    assert features.f8.shape[2:] == (height // 8, width // 8)
    assert features.f4.shape[2:] == (height // 4, width // 4)
    assert values.shape == (3, objects, TINY.value_dim, height // 16, width // 16)
    assert logits.shape == (3, objects, height, width)


def test_batch_and_object_order_belong_together() -> None:
    """Frame b and object k of a batch get what they get alone; the objects' order only reorders the answer."""
    network = random_network()
    frames, masks = torch.randn(3, 3, 32, 48), torch.rand(3, 4, 32, 48)
    with torch.inference_mode():
        features = network.encode_key(frames)
        values = network.encode_value(frames, features.f16, masks)
        logits = network.decode(values, features)
        for b in range(3):
            one = network.encode_key(frames[b : b + 1])
            torch.testing.assert_close(one.key[0], features.key[b], atol=1e-5, rtol=1e-4)
            value = network.encode_value(frames[b : b + 1], one.f16, masks[b : b + 1])
            torch.testing.assert_close(value[0], values[b], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(network.decode(value, one)[0], logits[b], atol=1e-4, rtol=1e-4)
        order = [2, 0, 3, 1]
        reordered = network.encode_value(frames, features.f16, masks[:, order])
        torch.testing.assert_close(reordered, values[:, order], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(network.decode(reordered, features), logits[:, order], atol=1e-4, rtol=1e-4)


def test_the_value_encoder_sees_the_other_objects_as_their_sum() -> None:
    """Two others of 0.8 each are the same as one of 1.6: the fifth channel is a plain sum, not clamped."""
    network = random_network()
    frame, mask = torch.randn(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    half, nothing = torch.full_like(mask, 0.8), torch.zeros_like(mask)
    with torch.inference_mode():
        f16 = network.encode_key(frame).f16
        halves = network.encode_value(frame, f16, torch.cat((mask, half, half), 1))[0, 0]
        whole = network.encode_value(frame, f16, torch.cat((mask, 2 * half, nothing), 1))[0, 0]
        alone = network.encode_value(frame, f16, mask)[0, 0]
        clamped = network.encode_value(frame, f16, torch.cat((mask, half / 0.8, nothing), 1))[0, 0]
    torch.testing.assert_close(halves, whole, atol=1e-5, rtol=1e-4)
    assert (halves - alone).abs().max() > 1e-3
    assert (halves - clamped).abs().max() > 1e-3


def test_key_projection_starts_orthogonal() -> None:
    projection = STCN(TINY).key_proj.key_proj
    rows = projection.weight.flatten(1)  # [Ck, C * 9]
    torch.testing.assert_close(rows @ rows.t(), torch.eye(len(rows)), atol=1e-4, rtol=0)
    assert not projection.bias.any()
