"""Labels and scores against numpy."""

import numpy as np
import pytest
import torch

from stcn_core import labels as labels_module
from stcn_core.labels import label_frame


@pytest.mark.parametrize("objects", [1, 3, 255, 256, 300])
def test_labels_and_scores_against_numpy(objects: int) -> None:
    draw = torch.Generator().manual_seed(objects)
    probabilities = torch.softmax(3 * torch.randn(1 + objects, 12, 20, generator=draw), 0)
    labels, scores = label_frame(probabilities, (12, 20))
    expected = probabilities.numpy().argmax(0)
    assert np.array_equal(labels, expected)
    assert labels.dtype == (np.uint8 if objects < 256 else np.int32)
    assert scores.shape == (objects,)
    for k in range(objects):
        inside = probabilities[k + 1].numpy()[expected == k + 1]
        assert scores[k] == pytest.approx(inside.mean(dtype=np.float64) if inside.size else 0, abs=1e-7)


def test_probabilities_are_upsampled_before_the_argmax() -> None:
    """Half-pixel centres, edges repeated: align_corners False, by hand in one dimension."""
    probabilities = torch.tensor([[0.9, 0.4], [0.1, 0.6]])[:, None, :]  # [2, 1, 2]
    labels, scores = label_frame(probabilities, (2, 8))
    positions = np.clip((np.arange(8) + 0.5) / 4 - 0.5, 0, 1)
    foreground = 0.1 + positions * 0.5
    assert np.array_equal(labels[0], foreground > 0.5) and np.array_equal(labels[1], labels[0])
    assert labels[0].sum() not in (0, 4, 8)  # not what labels upsampled afterwards would give
    assert scores[0] == pytest.approx(foreground[foreground > 0.5].mean(), abs=1e-6)


def test_background_wins_ties() -> None:
    labels, scores = label_frame(torch.full((3, 4, 4), 1 / 3), (4, 4))
    assert not labels.any()
    assert scores.tolist() == [0, 0]


@pytest.mark.parametrize("size", [(12, 20), (60, 91), (120, 201)])
@pytest.mark.parametrize("together", [1, 8, 9, 50, 299])
def test_a_few_objects_at_a_time_give_the_same_bits(
    size: tuple[int, int], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never fewer than eight together."""
    draw = torch.Generator().manual_seed(1)
    padded = torch.softmax(2 * torch.randn(300, 16, 24, generator=draw), 0)
    padded[:, 5:11] = 1 / 300  # all equal: the lowest label
    probabilities = padded[:, 2:14, 2:22]  # a view, as after unpadding
    if tuple(probabilities.shape[1:]) == size:
        whole = probabilities
    else:
        whole = torch.nn.functional.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]
    expected = whole.max(0)
    monkeypatch.setattr(labels_module, "UPSAMPLED_BYTES", together * 4 * size[0] * size[1])
    best, labels = labels_module._best(probabilities, size)
    assert torch.equal(best, expected.values) and torch.equal(labels, expected.indices)
    assert len(labels.unique()) > 10 and (labels == 0).any()
