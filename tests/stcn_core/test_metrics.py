"""J, F and their statistics against cases worked by hand, and against dilation as the benchmark does it."""

import math
import time

import numpy as np
import pytest

from stcn_core.metrics import (
    VideoMetrics,
    boundary_f,
    boundary_map,
    boundary_radius,
    jaccard,
    statistics,
)


def rectangle(x, y, width, height, size=(480, 854)):
    mask = np.zeros(size, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def test_jaccard_by_hand():
    a, b = rectangle(0, 0, 4, 2), rectangle(2, 0, 4, 2)
    assert jaccard(a, b) == 4 / 12
    empty = np.zeros_like(a)
    assert (jaccard(a, a), jaccard(a, empty), jaccard(empty, empty)) == (1, 0, 1)
    assert jaccard(a * 255, b.astype(bool)) == 4 / 12
    with pytest.raises(ValueError, match="different sizes"):
        jaccard(a, a[:-1])


def test_boundary_map_by_hand():
    """One pixel wide, half a pixel up and left; last row and column see only the neighbour they have."""
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2:4] = 1
    expected = [[0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(boundary_map(mask), expected)
    corner = np.zeros((3, 3), np.uint8)
    corner[2, 2] = 1
    np.testing.assert_array_equal(boundary_map(corner), [[0, 0, 0], [0, 1, 1], [0, 1, 0]])
    assert not boundary_map(np.ones((5, 5))).any()


def test_tolerance_radius():
    assert (boundary_radius(480, 854), boundary_radius(1080, 1920)) == (8, 18)


def test_boundary_f_of_shifted_rectangles():
    true = rectangle(200, 100, 200, 100)
    assert boundary_f(rectangle(208, 100, 200, 100), true) == 1.0
    # 9 px: of 600 boundary pixels the upper and lower side (201 each, with corners) lose the outermost one; the
    # vertical sides are too far, but for the 8 pixels at both ends of the side that meets the other's upper and lower.
    assert boundary_f(rectangle(209, 100, 200, 100), true) == pytest.approx((2 * 200 + 2 * 8) / 600, abs=1e-12)
    assert boundary_f(rectangle(200, 100, 200, 100), rectangle(600, 300, 90, 90)) == 0.0


def test_boundary_f_where_a_boundary_is_missing():
    empty, full = np.zeros((48, 64), np.uint8), np.ones((48, 64), np.uint8)
    some = rectangle(5, 5, 9, 9, (48, 64))
    assert (boundary_f(empty, empty), boundary_f(full, empty), boundary_f(full, full)) == (1, 1, 1)
    assert (boundary_f(some, empty), boundary_f(empty, some)) == (0, 0)


def dilated_by_disk(edge, radius):
    out = np.zeros_like(edge)
    padded = np.pad(edge, radius)
    height, width = edge.shape
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                out |= padded[radius + dy : radius + dy + height, radius + dx : radius + dx + width]
    return out


def reference_f(predicted, true, radius):
    ours, theirs = boundary_map(predicted), boundary_map(true)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = (ours & dilated_by_disk(theirs, radius)).sum() / ours.sum()
    recall = (theirs & dilated_by_disk(ours, radius)).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("radius", [0, 1, 3, 8])
def test_boundary_f_equals_dilation_by_a_disk(radius):
    generator = np.random.default_rng(radius)
    for density in (0.001, 0.01, 0.3, 0.9):
        for shape in ((40, 61), (1, 30), (30, 1)):
            predicted, true = (generator.random(shape) < density for _ in range(2))
            assert boundary_f(predicted, true, radius) == pytest.approx(reference_f(predicted, true, radius), abs=1e-12)


def test_statistics_by_hand():
    found = statistics([1, 0.8, 0.6, 0.5, 0.4, 0.2, 0.1, 0.0])
    # Edges round(1, 2.75, 4.5, 6.25, 8) - 1 = 0, 2, 4, 5, 7 (4.5 is pushed up): frames 0-2 against 5-7.
    assert (found.mean, found.recall) == (pytest.approx(0.45), 3 / 8)
    assert found.decay == pytest.approx((1 + 0.8 + 0.6) / 3 - (0.2 + 0.1 + 0) / 3)
    assert math.isnan(statistics([]).mean) and statistics([0.7]).decay == 0


@pytest.mark.parametrize("frames", [256, 257, 300, 5000])
def test_decay_beyond_256_frames(frames):
    """In a video that is right in its first quarter only, J decays by 1."""
    quarter = round(1 + (frames - 1) / 4)
    found = statistics([1.0] * quarter + [0.0] * (frames - quarter))
    assert found.decay == 1.0 and found.recall == quarter / frames
    steady = statistics(np.linspace(1, 0, frames))
    assert steady.decay == pytest.approx(0.75, abs=0.01)


def test_first_and_last_frame_are_dropped_unless_asked_for():
    metrics = VideoMetrics()
    mask, other = rectangle(0, 0, 4, 4, (16, 16)), rectangle(8, 8, 4, 4, (16, 16))
    for predicted in (other, mask, mask, other):
        metrics.add({1: predicted}, {1: mask})
    (kept,) = metrics.scores()
    assert (kept.frames, kept.j.mean, kept.jf) == (2, 1.0, 1.0)
    (every,) = metrics.scores(all_frames=True)
    assert (every.frames, every.j.mean, every.j.recall) == (4, 0.5, 0.5)
    assert metrics.per_frame(1)[0] == [0, 1, 1, 0]


def test_objects_are_those_of_the_truth():
    """Missing ones are empty, further ones are ignored, late ones should be empty before."""
    metrics = VideoMetrics()
    a, b = rectangle(0, 0, 4, 4, (16, 16)), rectangle(8, 8, 4, 4, (16, 16))
    metrics.add({1: a, 7: b}, {1: a})
    metrics.add({5: b}, {1: a})
    metrics.add({1: a, 5: b}, {1: a, 5: b})
    first, late = metrics.scores(all_frames=True)
    assert (first.object_id, late.object_id) == (1, 5)
    assert metrics.per_frame(1)[0] == [1, 0, 1]
    assert metrics.per_frame(5)[0] == [1, 0, 1]
    with pytest.raises(ValueError, match="different sizes"):
        metrics.add({1: a}, {1: a[:-1]})


def test_f_is_fast_enough_to_stream():
    """480p, two objects: below 30 ms a frame on an idle core; three times that is allowed for a busy machine."""
    grid = np.indices((480, 854))
    masks = [((grid[0] - 240) ** 2 + (grid[1] - x) ** 2 < 180**2).astype(np.uint8) for x in (250, 600, 262, 609)]
    metrics = VideoMetrics()
    metrics.add({1: masks[0], 2: masks[1]}, {1: masks[2], 2: masks[3]})
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        metrics.add({1: masks[0], 2: masks[1]}, {1: masks[2], 2: masks[3]})
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.09
