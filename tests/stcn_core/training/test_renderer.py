import numpy as np
import pytest
import torch

from stcn_core.training.compression import compressed
from stcn_core.training.motion import Absence
from stcn_core.training.renderer import render_clip, render_instant, render_times
from stcn_core.training.scene import SceneOptions, random_scene

SIZE = (96, 128)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_seed_always_gives_the_same_clip_and_another_seed_another():
    first = list(render_clip(3, 3, SIZE, objects=2))
    again = list(render_clip(3, 3, SIZE, objects=2))
    other = list(render_clip(4, 3, SIZE, objects=2))
    for (frame, labels), (frame2, labels2) in zip(first, again, strict=True):
        assert np.array_equal(frame, frame2) and np.array_equal(labels, labels2)
    assert not np.array_equal(first[0][0], other[0][0])


def test_shapes_types_and_labels():
    frames = list(render_clip(5, 2, SIZE, objects=3))
    assert len(frames) == 2
    for frame, labels in frames:
        assert frame.shape == (*SIZE, 3) and frame.dtype == np.uint8
        assert labels.shape == SIZE and labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 1, 2, 3}


def test_any_instant_can_be_drawn_alone_and_in_any_order():
    scene = random_scene((11,), SceneOptions(objects=2, size=SIZE))
    frames, labels = render_times(scene, [0.0, 1.5, 0.7])
    alone, alone_labels = render_instant(scene, 1.5)
    assert np.array_equal(frames[1], alone) and np.array_equal(labels[1], alone_labels)
    assert not np.array_equal(frames[1], frames[2])


def test_the_absent_object_leaves_and_comes_back():
    clip = [labels for _, labels in render_clip(21, 40, SIZE, objects=2, fps=4.0, absent=(3.0, 7.0))]
    areas = np.array([(labels == 2).sum() for labels in clip])
    assert areas[0] > 0
    assert (areas[18:22] == 0).all()  # seconds 4.5 to 5.25: fully away
    assert areas[30:].max() > 0


def test_absence_is_nought_outside_its_span():
    away = Absence(2.0, 6.0, distance=3.0)
    assert away.at(1.9) == 0 and away.at(6.1) == 0
    assert away.at(4.0) == 3.0
    assert 0 < away.at(2.3) < 3.0


def test_objects_differ_from_what_is_behind_them_in_most_clips():
    contrasts = []
    for seed in range(6):
        frame, labels = next(render_clip(seed, 1, SIZE, objects=1))
        if (labels == 1).any():
            contrasts.append(np.abs(frame[labels == 1].mean(0) - frame[labels == 0].mean(0)).max())
    assert len(contrasts) >= 5 and np.median(contrasts) > 8


def test_colour_varies_less_than_brightness():
    lumas, chromas = [], []
    for seed in range(8):
        frame = next(render_clip(seed, 1, SIZE))[0].astype(np.float32)
        luma = frame.mean(2)
        lumas.append(luma.std())
        chromas.append((frame[..., 0] - luma).std())
    assert np.mean(lumas) > 1.5 * np.mean(chromas)


def test_too_many_objects_are_refused():
    with pytest.raises(ValueError, match="1 to 3 objects, not 4"):
        next(render_clip(0, 1, SIZE, objects=4))


def test_compression_hurts_more_at_low_quality_and_keeps_flat_areas():
    frame = torch.from_numpy(next(render_clip(2, 1, (90, 131)))[0]).permute(2, 0, 1)
    errors = [(compressed(frame, q).float() - frame.float()).abs().mean() for q in (95, 60, 20)]
    assert compressed(frame, 60).shape == frame.shape and compressed(frame, 60).dtype == torch.uint8
    assert errors[0] < errors[1] < errors[2]
    flat = torch.full((3, 16, 24), 77, dtype=torch.uint8)
    assert (compressed(flat, 60).int() - 77).abs().max() <= 2
