"""EfficientNetV2 encoders as settings of the same network, and the layout without attention."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels
from torchvision.models import efficientnet_v2_s

from stcn_core.checkpoint import load_checkpoint, save_checkpoint
from stcn_core.efficientnet import TRUNKS, EfficientEncoder
from stcn_core.inference import PreparedNetwork
from stcn_core.network import STCN, NetworkConfig
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

NARROW = NetworkConfig(encoder="efficientnet-v2-b1", expansion=48, key_dim=16, value_dim=32, decoder_dim=16, cbam=False)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_eamstcns_encoder_by_its_numbers() -> None:
    """1.80 M parameters to stride 16 and 785,920 in the expansion (b1, 512 channels)."""
    with torch.device("meta"):
        encoder = EfficientEncoder("efficientnet-v2-b1", 3, 512)
    assert count(encoder.features) == 1_803_832 and count(encoder.expansion) == 785_920
    assert {m.eps for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}


def test_torchvisions_weights_would_fit() -> None:
    with torch.device("meta"):
        ours = EfficientEncoder("efficientnet-v2-s", 3, 512).features.state_dict()
        theirs = efficientnet_v2_s(weights=None).features[:6].state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_trunk_computes_what_torchvision_computes() -> None:
    theirs = efficientnet_v2_s(weights=None).features[:6].eval()
    ours = EfficientEncoder("efficientnet-v2-s", 3, 0).eval()
    ours.features.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        f16, f8, f4 = ours(x)
        torch.testing.assert_close(f16, theirs(x))
        torch.testing.assert_close(f8, theirs[:4](x))
        torch.testing.assert_close(f4, theirs[:3](x))


@pytest.mark.parametrize("name", TRUNKS)
def test_channels_and_strides(name: str) -> None:
    config = replace(NARROW, encoder=name, expansion=512)
    widths = {"efficientnet-v2-b1": (32, 48), "efficientnet-v2-b3": (40, 56), "efficientnet-v2-s": (48, 64)}[name]
    assert config.feature_channels == (*widths, 512)
    encoder = EfficientEncoder(name, 5, 512).eval()
    with torch.inference_mode():
        shapes = [tuple(x.shape[1:]) for x in encoder(torch.randn(1, 5, 32, 64))]
    assert shapes == [(512, 2, 4), (widths[1], 4, 8), (widths[0], 8, 16)]


@pytest.mark.parametrize("expansion", [48, 0])
def test_prepared_is_plain(expansion: int) -> None:
    network = random_network(replace(NARROW, expansion=expansion))
    prepared = PreparedNetwork(network)
    frames, masks = torch.randn(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        plain, ours = network.encode_key(frames), prepared.encode_key(frames)
        torch.testing.assert_close(ours.key, plain.key, rtol=1e-3, atol=1e-4)
        values = network.encode_value(frames, plain.f16, masks)
        torch.testing.assert_close(prepared.encode_value(frames, plain.f16, masks), values, rtol=1e-3, atol=1e-3)
        logits = network.decode(values, plain)
        torch.testing.assert_close(prepared.decode(values, plain), logits, rtol=1e-3, atol=1e-3)
    assert logits.std() > 0.01


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_saved_and_recognised(tmp_path: Path, suffix: str) -> None:
    network = random_network(NARROW)
    save_checkpoint(network, tmp_path / f"eam{suffix}")
    loaded, info = load_checkpoint(tmp_path / f"eam{suffix}")
    assert info.config == NARROW
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_a_video_goes_through_all_passes() -> None:
    size, frames = (40, 56), 12
    video, labels = moving_squares(frames, *size, objects=1), square_labels(frames, *size, objects=1)
    given = PromptSet((1,), {0: FramePrompts({1: labels[0]})})
    settings = OfflineSettings(
        memory_frames=3, burn_in_frames=4, group_frames=2, segment_frames=6, recent_frames=2, region_decoding=True
    )
    propagation = Propagation(random_network(NARROW), size, regions=True)
    run = OfflineSegmenter(propagation, settings, given, source=size, size=size, video_id="v", visited=4)
    run.memorise_prompts(lambda frame: video[frame])
    assert list(run.burn_in([3, 8, 5], lambda frame: video[frame])) == [3, 8, 5]
    masks = dict(run.final_pass(enumerate(video)))
    assert list(masks) == list(range(frames)) and np.array_equal(masks[0][0].decode(), labels[0])


def test_a_name_that_is_no_encoder() -> None:
    with pytest.raises(ValueError, match="efficientnet-v2-b1"):
        NetworkConfig(encoder="efficientnet-v9")


def test_older_layouts_are_written_as_before() -> None:
    """A file that an earlier version can read, too."""
    assert not {"encoder", "expansion"} & set(NetworkConfig.small().to_json())
    assert NetworkConfig.from_json(NARROW.to_json()) == NARROW


def test_without_attention_six_tensors_are_missing(tmp_path: Path) -> None:
    """STCN's branch no_cbam: a state dict of its layout loads, and is computed without attention."""
    with torch.device("meta"):
        full, without = (set(STCN(c).state_dict()) for c in (NetworkConfig.official(), NetworkConfig.no_cbam()))
    assert without < full and len(full - without) == 6
    assert all(".fuser.attention." in key for key in full - without)
    small = replace(NetworkConfig.small(), cbam=False)
    network = random_network(small)
    torch.save(network.state_dict(), tmp_path / "no_cbam.pth")
    loaded, info = load_checkpoint(tmp_path / "no_cbam.pth")
    assert info.config == small and loaded.value_encoder.fuser.attention is None
    x, f16 = torch.randn(1, 128, 2, 2), torch.randn(1, 128, 2, 2)
    fuser = loaded.value_encoder.fuser
    with torch.inference_mode():
        expected = fuser.block2(fuser.block1(torch.cat((x, f16), 1)))
        torch.testing.assert_close(fuser(x, f16), expected)
