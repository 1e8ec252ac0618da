"""A batch of frames against one memory: batch, precision, padding."""

import numpy as np
import pytest
import torch
from made_networks import TINY, moving_squares, random_network, square_labels

from stcn_core.labels import label_frame
from stcn_core.memory import MemoryBank
from stcn_core.network import NetworkConfig
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

SIZE = (40, 56)


def prepared(
    precision: str = "fp32", config: NetworkConfig = TINY, objects: int = 2, policy: str = "fifo", device: str = "cpu"
) -> tuple[Propagation, MemoryBank, np.ndarray]:
    """A propagation, and a memory with one pinned frame, four in the bank and one recent."""
    video = moving_squares(8, *SIZE, objects)
    labels = square_labels(8, *SIZE, objects)
    propagation = Propagation(random_network(config).to(device), SIZE, precision=precision, device=device)
    settings = OfflineSettings(memory_frames=4, memory_policy=policy)
    memory = MemoryBank(settings, propagation.grid, objects, config.key_dim, config.value_dim, pinned=1, device=device)
    everyone = [True] * objects
    for frame in range(6):
        encoded = propagation.encode([frame], [video[frame]])
        masks = np.stack([labels[frame] == k + 1 for k in range(objects)])
        values = propagation.value(encoded, propagation.given(masks))
        key = encoded.features.key[0]
        if frame == 0:
            memory.pin(frame, key, values, everyone)
        elif frame == 5:
            memory.remember_recent(frame, key, values, everyone)
        else:
            memory.memorise(memory.admit(frame), frame, key, values, everyone)
    return propagation, memory, video


def test_a_batch_is_its_frames() -> None:
    propagation, memory, video = prepared()
    together = propagation.segment(propagation.encode(range(8), list(video)), memory, [0, 1])
    assert together.shape == (8, 3, 48, 64) and together.dtype == torch.float32
    torch.testing.assert_close(together.sum(1), torch.ones(8, 48, 64), atol=1e-5, rtol=0)
    for frame in range(8):
        alone = propagation.segment(propagation.encode([frame], [video[frame]]), memory, [0, 1])
        torch.testing.assert_close(alone[0], together[frame], atol=1e-3, rtol=0)


def test_slicing_keeps_frame_numbers() -> None:
    propagation, _, video = prepared()
    encoded = propagation.encode([4, 9, 2], list(video[:3]))
    assert encoded[1].frames == (9,)
    assert torch.equal(encoded[1].features.key[0], encoded.features.key[1])


def test_no_objects() -> None:
    propagation, memory, video = prepared()
    result = propagation.segment(propagation.encode([0, 1], list(video[:2])), memory, [])
    assert torch.equal(result, torch.ones(2, 1, 48, 64))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("policy", ["fifo", "random-token"])
def test_half_precision_is_near_to_float32(precision: str, policy: str) -> None:
    """Keys and values come out of the network as halves, the memory and the softmax stay float32."""
    for config in (TINY, NetworkConfig.small()):
        exact, exact_memory, video = prepared(config=config, policy=policy)
        half, half_memory, _ = prepared(precision, config, policy=policy)
        expected = exact.segment(exact.encode([7], [video[7]]), exact_memory, [0, 1])
        encoded = half.encode([7], [video[7]])
        assert encoded.features.key.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        assert half_memory.keys.dtype == half_memory.values.dtype == torch.float32
        result = half.segment(encoded, half_memory, [0, 1])
        assert result.dtype == torch.float32 and result.isfinite().all()
        assert (result - expected).abs().mean() < 0.02
        assert (result.argmax(1) == expected.argmax(1)).float().mean() > 0.9


def test_given_masks_are_soft_ones() -> None:
    propagation, _, _ = prepared()
    masks = np.zeros((2, *SIZE), np.uint8)
    masks[0, :10] = 1
    masks[1, 5:20] = 1
    soft = propagation.given(masks)
    assert soft.shape == (2, 48, 64)
    inner = propagation.unpad(soft)
    torch.testing.assert_close(inner[0, :5], torch.ones(5, 56), atol=1e-5, rtol=0)
    torch.testing.assert_close(inner[:, 5:10], torch.full((2, 5, 56), 0.5), atol=1e-5, rtol=0)
    assert inner[:, 20:].max() < 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("policy", ["fifo", "random-token"])
def test_a_device_gives_the_same_masks(policy: str) -> None:
    on_cpu, cpu_memory, video = prepared(policy=policy)
    expected = on_cpu.segment(on_cpu.encode([7], [video[7]]), cpu_memory, [0, 1])
    on_device, memory, _ = prepared(policy=policy, device="cuda")
    result = on_device.segment(on_device.encode([7], [video[7]]), memory, [0, 1])
    assert result.is_cuda
    assert (result.cpu() - expected).abs().mean() < 0.01  # convolutions may use TF32
    labels, scores = label_frame(on_device.unpad(result[0]), (80, 112))
    wanted, wanted_scores = label_frame(on_cpu.unpad(expected[0]), (80, 112))
    assert (labels == wanted).mean() > 0.98
    np.testing.assert_allclose(scores, wanted_scores, atol=0.05)
