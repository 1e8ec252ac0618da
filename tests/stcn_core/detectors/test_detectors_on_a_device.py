"""Detectors on a pretended device (tests/made_device.py): what they find on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_detectors import tiny_weights
from made_device import pretended_device

from stcn_core.detectors.factory import make_detector

PICTURE = np.random.default_rng(0).integers(0, 256, (72, 100, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["mask-rcnn", "mask-rcnn-v2", "pointrend", "lost", "lost-crf"])
def test_a_device_finds_what_the_cpu_finds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    path = tiny_weights(tmp_path, name)
    expected = make_detector(name, path).detect(PICTURE, min_score=0.0)
    with pretended_device(monkeypatch) as watch:
        found = make_detector(name, path, "cuda").detect(PICTURE, min_score=0.0)
    assert watch.calls > 50
    assert len(found) == len(expected) > 0
    assert np.array_equal(found.masks, expected.masks) and np.array_equal(found.boxes, expected.boxes)
