"""The prepared network against the plain one: less work, the same numbers."""

import copy
from dataclasses import replace

import pytest
import torch
from made_networks import TINY, random_network
from torch import Tensor, nn

from stcn_core import inference
from stcn_core.inference import PreparedNetwork, SharedResBlock, fold_batch_norms
from stcn_core.network import NetworkConfig

LAYOUTS = {
    "official": NetworkConfig.official(),
    "official, no cbam": replace(NetworkConfig.official(), cbam=False),
    "small": NetworkConfig.small(),
    "small, no cbam": replace(NetworkConfig.small(), cbam=False),
    "identity shortcuts": replace(TINY, value_dim=64, decoder_dim=64),  # the fuser has as many inputs as outputs
}


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest absolute value."""
    assert found.shape == expected.shape
    return ((found.float() - expected).abs().max() / expected.abs().max()).item()


def inputs(batch: int, objects: int, size: tuple[int, int] = (32, 48)) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(batch * 100 + objects)
    return torch.randn(batch, 3, *size, generator=draw), torch.rand(batch, objects, *size, generator=draw)


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_to_the_plain_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = random_network(LAYOUTS[name])
    prepared = PreparedNetwork(plain)
    for batch, objects, turns in (
        (1, 1, False),
        (5, 1, False),
        (1, 3, True),
        (5, 3, False),
        (1, 10, False),
        (5, 10, True),
    ):
        monkeypatch.setattr(inference, "ACTIVATION_BYTES_CPU", 200_000 if turns else 1 << 30)
        frames, masks = inputs(batch, objects)
        with torch.inference_mode():
            features = plain.encode_key(frames)
            values = plain.encode_value(frames, features.f16, masks)
            logits = plain.decode(values, features)
        mine = prepared.encode_key(frames)
        for part in ("key", "thin", "f16", "f8", "f4"):
            assert relative(getattr(mine, part), getattr(features, part)) < 1e-4, part
        assert relative(prepared.encode_value(frames, mine.f16, masks), values) < 1e-4
        decoded = prepared.decode(values, mine)
        assert decoded.dtype == torch.float32
        assert relative(decoded, logits) < 1e-4


def test_the_plain_network_is_left_as_it_was() -> None:
    plain = random_network()
    before = copy.deepcopy(plain.state_dict())
    PreparedNetwork(plain, precision="bf16")
    after = plain.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.requires_grad for parameter in plain.parameters())


def test_no_batch_norm_is_left() -> None:
    for config in (NetworkConfig.official(), NetworkConfig.small()):
        folded = fold_batch_norms(random_network(config))
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("layout", ["small", "identity shortcuts"])
def test_bf16_is_near(native: bool, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the processor's own bfloat16 arithmetic, and with torch's rounding of single operations."""
    monkeypatch.setattr(inference, "computes_in", lambda dtype, device: native)
    plain = random_network(LAYOUTS[layout])
    prepared = PreparedNetwork(plain, precision="bf16")
    assert prepared.dtype == (torch.bfloat16 if native else torch.float32)
    frames, masks = inputs(2, 3)
    with torch.inference_mode():
        features = plain.encode_key(frames)
        values = plain.encode_value(frames, features.f16, masks)
        logits = plain.decode(values, features)
    mine = prepared.encode_key(frames)
    assert mine.key.dtype == torch.bfloat16
    assert relative(mine.key, features.key) < 0.05
    assert relative(prepared.encode_value(frames, mine.f16, masks), values) < 0.1
    decoded = prepared.decode(values, mine)
    assert decoded.dtype == torch.float32
    assert relative(decoded, logits) < 0.1


def test_what_depends_on_the_frame_alone_is_convolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten objects cost the frame's halves and skip connections no more often than one."""
    prepared = PreparedNetwork(random_network())
    counted = []
    shared = SharedResBlock.shared
    monkeypatch.setattr(
        SharedResBlock, "shared", lambda self, frames: counted.append(len(frames)) or shared(self, frames)
    )
    frames, masks = inputs(2, 10)
    features = prepared.encode_key(frames)
    values = prepared.encode_value(frames, features.f16, masks)
    assert sum(counted) == 2
    prepared.decode(values, features)
    assert sum(counted) == 4
