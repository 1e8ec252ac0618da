"""Soft aggregation against its formula in float64."""

import pytest
import torch

from stcn_core.aggregate import soft_aggregate


@pytest.mark.parametrize("objects", [1, 2, 5])
def test_equals_normalised_odds(objects: int) -> None:
    p = torch.rand(2, objects, 4, 6, generator=torch.Generator().manual_seed(0))
    double = p.double()
    stack = torch.cat(((1 - double).prod(1, keepdim=True), double), 1).clamp(1e-7, 1 - 1e-7)
    odds = stack / (1 - stack)
    expected = odds / odds.sum(1, keepdim=True)
    result = soft_aggregate(p)
    torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.sum(1), torch.ones(2, 4, 6))


def test_hard_masks_stay_hard() -> None:
    given = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[:, None]  # object 1 on the left pixel
    result = soft_aggregate(given)  # [3, 1, 2]
    torch.testing.assert_close(result[:, 0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(result[:, 0, 1], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_in_float32_whatever_comes_in(dtype: torch.dtype) -> None:
    """1 - 1e-7 is 1 in half precision: the odds would be infinite."""
    result = soft_aggregate(torch.tensor([0.0, 0.5, 1.0], dtype=dtype).view(1, 1, 3))
    assert result.dtype == torch.float32
    assert result.isfinite().all()


def test_overlapping_given_masks_share_a_pixel() -> None:
    result = soft_aggregate(torch.ones(2, 1, 1)).flatten()
    torch.testing.assert_close(result, torch.tensor([0.0, 0.5, 0.5]), atol=1e-6, rtol=0)


def test_many_objects_leave_no_nan() -> None:
    assert soft_aggregate(torch.rand(300, 3, 3)).isfinite().all()
