import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stcn_core.checkpoint import BUNDLED, load_checkpoint
from stcn_core.network import STCN, NetworkConfig
from stcn_core.training.validation import jaccard, propagate, validation_clips

REAL = Path(os.environ.get("STCN_REAL_CLIPS", "/nowhere"))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_validation_clips_are_frozen_and_start_with_visible_objects():
    first, again = list(validation_clips(2, 2)), list(validation_clips(2, 2))
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.frames, two.frames) and np.array_equal(one.labels, two.labels)
        assert one.labels[0].any()
        assert set(np.unique(one.labels)) <= set(np.unique(one.labels[0])) | {0}


def test_jaccard_by_hand():
    truth = np.zeros((3, 2, 4), np.uint8)
    truth[0, :, :2] = 1
    truth[1, :, :2] = 1  # third frame: object absent
    labels = truth.copy()
    labels[1, :, 1:3] = 1
    labels[1, :, 0] = 0
    assert jaccard(labels, truth) == pytest.approx((2 / 6 + 1) / 2)
    labels[2, 0, 0] = 1
    assert jaccard(labels, truth) == pytest.approx((2 / 6 + 0) / 2)


def test_void_pixels_do_not_count():
    truth = np.zeros((2, 1, 4), np.uint8)
    truth[:, 0, 0] = 1
    labels = truth.copy()
    labels[1, 0, 2] = 1
    truth[1, 0, 2] = 255
    assert jaccard(labels, truth) == 1.0


def test_propagation_keeps_ids_sizes_and_the_given_frame():
    torch.manual_seed(0)
    network = STCN(NetworkConfig.small()).eval()
    frames = np.random.default_rng(0).integers(0, 255, (7, 50, 70, 3), dtype=np.uint8)
    first = np.zeros((50, 70), np.uint8)
    first[5:20, 5:30], first[30:40, 40:60] = 3, 9
    labels = propagate(network, frames, first)
    assert labels.shape == (7, 50, 70) and np.array_equal(labels[0], first)
    assert set(np.unique(labels)) <= {0, 3, 9}


@pytest.mark.skipif(not BUNDLED.exists(), reason="no bundled checkpoint in this tree")
def test_the_bundled_checkpoint_follows_rendered_objects():
    network, info = load_checkpoint(BUNDLED)
    assert BUNDLED.stat().st_size < 12e6 and info.config == NetworkConfig.small()
    scores = [jaccard(propagate(network, c.frames, c.labels[0]), c.labels) for c in validation_clips(3, 8)]
    assert np.mean(scores) > 0.4  # random weights reach less than 0.1


@pytest.mark.real_clips
@pytest.mark.skipif(not REAL.is_dir(), reason="set STCN_REAL_CLIPS to the folder of real clips")
def test_the_bundled_checkpoint_follows_a_real_object():
    network, _ = load_checkpoint(BUNDLED)
    folder = REAL / "davis16_bear"
    frames = [Image.open(p).convert("RGB").resize((427, 240)) for p in sorted((folder / "frames").iterdir())[:30:3]]
    masks = [Image.open(p).convert("L").resize((427, 240), 0) for p in sorted((folder / "masks").iterdir())[:30:3]]
    truth = (np.stack([np.array(mask) for mask in masks]) > 127).astype(np.uint8)
    labels = propagate(network, np.stack([np.array(frame) for frame in frames]), truth[0])
    assert jaccard(labels, truth) > 0.5
