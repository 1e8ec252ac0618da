"""Normalising and padding, both as STCN does."""

import numpy as np
import pytest
import torch

from stcn_core.frames import Padding, normalise


def test_normalise_is_imagenets() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    result = normalise(frames)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((frames / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert result.shape == (2, 3, 5, 7) and result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("height", [1, 15, 16, 17, 31, 33, 480])
@pytest.mark.parametrize("width", [1, 16, 29, 854])
def test_padding_is_floor_before_and_rest_after(height: int, width: int) -> None:
    x = torch.arange(float(height * width)).view(1, height, width) + 1
    padding = Padding.to_multiple(height, width)
    padded = padding.add(x)
    assert padded.shape[1] % 16 == 0 and padded.shape[2] % 16 == 0
    assert padded.shape[1] - height < 16 and padded.shape[2] - width < 16
    top, left = (-height % 16) // 2, (-width % 16) // 2
    assert padded[0, top, left] == 1
    assert torch.equal(padding.remove(padded), x)
    assert padded.count_nonzero() == height * width
