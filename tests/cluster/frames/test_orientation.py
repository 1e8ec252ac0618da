import struct

import numpy as np
import pytest

from cluster.frames.orientation import Orientation, orientation_from_exif, orientation_from_matrix

ONE = 1 << 16
PICTURE = np.arange(2 * 3 * 1, dtype=np.uint8).reshape(2, 3, 1)  # 0 1 2 / 3 4 5


def matrix(a, b, c, d) -> bytes:
    return struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


def shown_by_definition(a: int, b: int, c: int, d: int) -> list:
    """ISO/IEC 14496-12: stored point (p, q) is shown at (a p + c q, b p + d q), moved into view."""
    height, width = PICTURE.shape[:2]
    points = {(a * p + c * q, b * p + d * q): int(PICTURE[q, p, 0]) for q in range(height) for p in range(width)}
    xs, ys = sorted({x for x, _ in points}), sorted({y for _, y in points})
    return [[points[x, y] for x in xs] for y in ys]


@pytest.mark.parametrize(
    "entries", [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [(0, s, t, 0) for s in (1, -1) for t in (1, -1)]
)
def test_every_quarter_turn_and_flip_follows_the_format(entries):
    upright = orientation_from_matrix(matrix(*(value * ONE for value in entries))).upright(PICTURE)
    assert upright[:, :, 0].tolist() == shown_by_definition(*entries)
    assert upright.flags.c_contiguous


def test_a_phone_held_upright_is_turned_clockwise():
    # The matrix that phones write for a portrait recording (the old tag "rotate=90").
    assert orientation_from_matrix(matrix(0, ONE, -ONE, 0)) == Orientation(90)


def test_scale_and_an_empty_matrix_mean_nothing():
    assert orientation_from_matrix(matrix(2 * ONE, 0, 0, ONE)) == Orientation(0)
    assert orientation_from_matrix(matrix(0, 0, 0, 0)) == Orientation(0)


@pytest.mark.parametrize("entries", [(46341, 46341, -46341, 46341), (ONE, 0, ONE, 0), (ONE, 0, 0, 0)])
def test_what_is_not_a_quarter_turn_is_refused(entries):
    with pytest.raises(ValueError, match="quarter turn"):
        orientation_from_matrix(matrix(*entries))


def test_exif_orientations():
    # CIPA DC-008: where the first row and the first column of the stored picture are shown.
    expected = {
        1: [[0, 1, 2], [3, 4, 5]],
        2: [[2, 1, 0], [5, 4, 3]],
        3: [[5, 4, 3], [2, 1, 0]],
        4: [[3, 4, 5], [0, 1, 2]],
        5: [[0, 3], [1, 4], [2, 5]],
        6: [[3, 0], [4, 1], [5, 2]],
        7: [[5, 2], [4, 1], [3, 0]],
        8: [[2, 5], [1, 4], [0, 3]],
    }
    for tag, rows in expected.items():
        assert orientation_from_exif(tag).upright(PICTURE)[:, :, 0].tolist() == rows, tag
    for tag in (None, 0, 9, 77):
        assert orientation_from_exif(tag) == Orientation()


def test_stored_size_and_bad_rotations():
    assert Orientation(90).stored_size(10, 20) == (20, 10)
    assert Orientation(180).stored_size(10, 20) == (10, 20)
    with pytest.raises(ValueError, match="45"):
        Orientation(45)
