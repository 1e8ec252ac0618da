import numpy as np
import pytest

from stcn_core.training.long_scene import FPS, KINDS, OBJECTS, long_scene
from stcn_core.training.renderer import render_instant

SIZE, FRAMES = (48, 64), 600


def instants(kind: str, seed: int = 0, count: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Spread over the whole video."""
    scene = long_scene(seed, kind, FRAMES, SIZE)
    drawn = [render_instant(scene, i / FPS) for i in np.linspace(0, FRAMES - 1, count).round()]
    return np.stack([frame for frame, _ in drawn]), np.stack([labels for _, labels in drawn])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_video_and_shows_all_objects_first(kind: str) -> None:
    first, labels = render_instant(long_scene(0, kind, FRAMES, SIZE), 0.0)
    again, _ = render_instant(long_scene(0, kind, FRAMES, SIZE), 0.0)
    assert np.array_equal(first, again)
    assert set(np.unique(labels)) == {0, *range(1, OBJECTS + 1)}
    assert not np.array_equal(first, render_instant(long_scene(1, kind, FRAMES, SIZE), 0.0)[0])


def test_light_drifts() -> None:
    brightness = instants("drift")[0].mean((1, 2, 3))
    assert np.ptp(brightness) > 0.15 * brightness.mean()
    assert np.abs(np.diff(brightness)).max() < np.ptp(brightness)  # by and by


def test_objects_leave_and_return() -> None:
    _, labels = instants("returns", count=60)
    for label in range(1, OBJECTS + 1):
        there = (labels == label).any((1, 2))
        assert there[0] and 0.4 < there.mean() < 0.95
        assert np.count_nonzero(np.diff(there.astype(int)) == 1) >= 2  # back again, more than once


def test_look_alikes_are_no_objects() -> None:
    scene = long_scene(0, "look-alikes", FRAMES, SIZE)
    first = next(figure for figure in scene.figures if figure.label == 1)
    copies = [figure for figure in scene.figures if figure.parts is first.parts and not figure.label]
    assert len(copies) == 2
    assert all(figure.x != first.x for figure in copies)


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="drift, look-alikes, returns"):
        long_scene(0, "night", FRAMES, SIZE)
