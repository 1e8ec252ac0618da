"""How a stored picture must be turned to stand upright.

Containers describe it with a 3x3 display matrix (ISO/IEC 14496-12, 8.3.2), pictures with the EXIF orientation tag.
Both come down to an optional left-right mirror followed by quarter turns.
"""

import struct
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Orientation:
    """Mirror the stored picture left to right first (`mirrored`), then turn it `rotation` degrees clockwise."""

    rotation: int = 0
    mirrored: bool = False

    def __post_init__(self):
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation must be 0, 90, 180 or 270, not {self.rotation}")

    @property
    def swaps_sides(self) -> bool:
        return self.rotation in (90, 270)

    def stored_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) before turning of a picture that is upright at `height` x `width`; its own inverse."""
        return (width, height) if self.swaps_sides else (height, width)

    def upright(self, frame: np.ndarray) -> np.ndarray:
        """`frame` [H, W, C] as stored -> upright [H', W', C], C-contiguous (H' = W for quarter turns)."""
        if self.mirrored:
            frame = frame[:, ::-1]
        if self.rotation:
            frame = np.rot90(frame, k=-self.rotation // 90)  # np.rot90 turns counter-clockwise
        return np.ascontiguousarray(frame)


UPRIGHT = Orientation()


def orientation_from_matrix(matrix: bytes) -> Orientation:
    """The orientation in a display matrix: 9 native int32 (a b u / c d v / x y w), 16.16 and 2.30 fixed point.

    A stored point (p, q), q downwards, is shown at (a p + c q + x, b p + d q + y). An empty (all zero) matrix,
    which damaged files have, means upright. Raises ValueError for a rotation that is not a quarter turn.
    """
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    scale = max(abs(value) for value in (a, b, c, d))
    if scale == 0:
        return UPRIGHT
    # Only the signs matter for the eight orientations; scaling (anamorphic pixels) is ignored, as the aspect ratio is.
    straight, crossed = (
        abs(b) + abs(c) <= 0.02 * scale and a and d,
        abs(a) + abs(d) <= 0.02 * scale and b and c,
    )
    if straight:
        return Orientation({(1, 1): 0, (-1, 1): 0, (-1, -1): 180, (1, -1): 180}[_signs(a, d)], a * d < 0)
    if crossed:
        # b > 0: the stored right-hand direction points down when shown, that is, a clockwise quarter turn.
        return Orientation({(1, -1): 90, (-1, 1): 270, (1, 1): 270, (-1, -1): 90}[_signs(b, c)], b * c > 0)
    raise ValueError("its display matrix is not a multiple of a quarter turn")


def orientation_from_exif(tag: int | None) -> Orientation:
    """The orientation of EXIF tag 274 (CIPA DC-008, 4.6.5); None and values outside 1 to 8 mean upright."""
    table = {
        2: (0, True),
        3: (180, False),
        4: (180, True),
        5: (270, True),
        6: (90, False),
        7: (90, True),
        8: (270, False),
    }
    return Orientation(*table.get(tag, (0, False)))


def _signs(first: int, second: int) -> tuple[int, int]:
    return (1 if first > 0 else -1), (1 if second > 0 else -1)
