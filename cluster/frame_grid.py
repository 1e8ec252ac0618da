"""Which frames of a video are annotated."""

from dataclasses import dataclass

from cluster.plan import frame_range
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig


@dataclass(frozen=True)
class FrameGrid:
    """Which frames are annotated: start to end (exclusive), every stride-th. Position n is the n-th of them."""

    start: int
    end: int | None
    stride: int

    @staticmethod
    def of(row: VideoRow, config: RunConfig) -> "FrameGrid":
        """The row's own range where it has one, otherwise the run's."""
        return FrameGrid(*frame_range(row, config))

    def __contains__(self, frame: int) -> bool:
        inside = frame >= self.start and (self.end is None or frame < self.end)
        return inside and (frame - self.start) % self.stride == 0

    def part(self, first: int, last: int | None) -> "FrameGrid":
        """The positions from first to before last (None: to the end)."""
        start = self.start + first * self.stride
        if last is None:
            return FrameGrid(start, self.end, self.stride)
        end = self.start + last * self.stride
        return FrameGrid(start, end if self.end is None else min(end, self.end), self.stride)

    def with_frames(self, also: set[int]) -> "FrameGrid":
        """A grid to read that holds these frames, too: itself, or everything between."""
        if all(frame in self for frame in also):
            return self
        end = None if self.end is None else max(self.end, max(also) + 1)
        return FrameGrid(min(self.start, min(also)), end, 1)
