import numpy as np
import pytest
import torch

from stcn_core.training import clips as clips_module
from stcn_core.training.clips import Clip, ClipPool
from stcn_core.training.samples import COARSE_SHARE, Gaps, filled_boxes, make_batch


def moving_square(objects: int = 1, instants: int = 8) -> Clip:
    """A bright square per object on dark ground, 4 pixels further right in each frame."""
    frames = np.full((instants, 96, 96, 3), 20, np.uint8)
    labels = np.zeros((instants, 96, 96), np.uint8)
    for t in range(instants):
        for k in range(objects):
            box = (slice(10 + 40 * k, 34 + 40 * k), slice(20 + 4 * t, 44 + 4 * t))
            frames[t][box] = 120 + 100 * k
            labels[t][box] = k + 1
    return Clip(frames, labels)


def test_a_batch_has_the_documented_shapes_and_masks_lie_on_their_objects():
    batch = make_batch(np.random.default_rng(0), [moving_square(2)], 5, 64, 2, Gaps())
    assert batch.frames.shape == (5, 3, 3, 64, 64) and batch.masks.shape == (5, 3, 2, 64, 64)
    assert batch.prompts.shape == (5, 2, 64, 64) and batch.present.shape == (5, 2)
    assert set(batch.masks.unique().tolist()) <= {0.0, 1.0}
    luma = batch.frames.mean(2)  # [B, 3, S, S]
    for sample in range(5):
        inside = batch.masks[sample].sum(1) > 0
        assert luma[sample][inside].mean() > luma[sample][~inside].mean() + 20


def test_the_same_generator_state_gives_the_same_batch():
    first = make_batch(np.random.default_rng(7), [moving_square()], 3, 48, 1, Gaps())
    again = make_batch(np.random.default_rng(7), [moving_square()], 3, 48, 1, Gaps())
    assert torch.equal(first.frames, again.frames) and torch.equal(first.masks, again.masks)


def test_a_missing_second_object_is_marked_absent():
    batch = make_batch(np.random.default_rng(1), [moving_square(1)], 4, 48, 2, Gaps())
    assert batch.present[:, 0].all() and not batch.present[:, 1].any()


def test_masks_never_overlap():
    batch = make_batch(np.random.default_rng(2), [moving_square(2)], 6, 64, 2, Gaps())
    assert batch.masks.sum(2).max() <= 1 and batch.prompts.sum(1).max() <= 1


def test_some_prompts_are_boxes_and_never_smaller_than_the_mask():
    rng = np.random.default_rng(3)
    clip = moving_square()
    clip.labels[:, 10:20, 20:30] = 0  # a corner cut off, so that box and mask differ
    coarse = 0
    for _ in range(30):
        batch = make_batch(rng, [clip], 4, 48, 1, Gaps())
        assert (batch.prompts >= batch.masks[:, 0]).all()
        coarse += int((batch.prompts != batch.masks[:, 0]).flatten(1).any(1).sum())
    assert 0.02 < coarse / 120 < 2.5 * COARSE_SHARE


def test_filled_boxes_by_hand():
    masks = torch.zeros(2, 6, 6)
    masks[0, 1, 1] = masks[0, 3, 4] = 1
    masks[1, 3, 3] = 1
    boxes = filled_boxes(masks)
    assert boxes[0, 1:4, 1:5].sum() == 11 and boxes[0].sum() == 11  # 3 x 4 less the pixel under the second box
    assert boxes[1].sum() == 1 and boxes[1, 3, 3] == 1


def test_the_pool_depends_on_the_step_alone(monkeypatch):
    monkeypatch.setattr(clips_module, "training_clip", lambda seed, index: Clip(np.array([index]), np.array([seed])))
    straight = ClipPool(5, 0, capacity=6, first_fill=3, rate=0.5)
    seen = [[int(c.frames[0]) for c in straight.at_step(step)] for step in range(20)]
    assert seen[0] == [0, 1, 2] and seen[19] == list(range(6, 12))
    resumed = ClipPool(5, 0, capacity=6, first_fill=3, rate=0.5)
    assert [int(c.frames[0]) for c in resumed.at_step(19)] == seen[19]
    straight.close()
    resumed.close()


def test_a_worker_process_renders_the_same_clip():
    pool = ClipPool(9, 1, capacity=2, first_fill=1, rate=0.0)
    try:
        clip = pool.at_step(0)[0]
    finally:
        pool.close()
    here = clips_module.training_clip(9, 0)
    assert np.array_equal(clip.labels, here.labels)
    assert np.array_equal(clip.frames, here.frames)


@pytest.mark.parametrize("index", range(3))
def test_rendered_clips_make_samples(index):
    torch.set_num_threads(1)
    batch = make_batch(np.random.default_rng(index), [clips_module.training_clip(0, index)], 2, 64, 2, Gaps())
    assert torch.isfinite(batch.frames).all() and batch.present[:, 0].any()


def test_gaps_are_easy_at_first():
    assert Gaps().eased(1.0) == Gaps(0.5, 0.4)
    assert Gaps(0.1, 0.3).eased(0.0) == Gaps(0.1, 0.3)


def test_still_samples_show_one_instant_and_far_ones_do_not():
    clip = moving_square()
    clip.frames[:] += (np.arange(8, dtype=np.uint8) * 10)[:, None, None, None]  # brightness tells the instant

    def spread(gaps: Gaps) -> float:
        batch = make_batch(np.random.default_rng(5), [clip], 40, 48, 1, gaps)
        return float(batch.frames.amin((2, 3, 4)).std(1).mean())

    assert spread(Gaps(1.0, 0.0)) < 0.7 * spread(Gaps(0.0, 0.0))
