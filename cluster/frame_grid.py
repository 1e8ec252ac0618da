"""Which frames of a video are annotated."""

from dataclasses import dataclass
from pathlib import Path

from cluster.video import FrameReader, VideoInfo
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig


@dataclass(frozen=True)
class FrameGrid:
    """Which frames are annotated: start to end (exclusive), every stride-th."""

    start: int
    end: int | None
    stride: int

    @staticmethod
    def of(row: VideoRow, config: RunConfig) -> "FrameGrid":
        """The row's own range where it has one, otherwise the run's."""
        pick = [mine if mine is not None else run for mine, run in
                ((row.start, config.start), (row.end, config.end), (row.stride, config.stride))]  # fmt: skip
        return FrameGrid(pick[0] or 0, pick[1], pick[2] or 1)

    def __contains__(self, frame: int) -> bool:
        inside = frame >= self.start and (self.end is None or frame < self.end)
        return inside and (frame - self.start) % self.stride == 0

    def reading(self, path: Path, info: VideoInfo, size: tuple[int, int], also: set[int]) -> FrameReader:
        """A reader of these frames; where prompts lie elsewhere, of everything between."""
        if also <= {frame for frame in also if frame in self}:
            return FrameReader(path, info, size, self.start, self.end, self.stride)
        end = None if self.end is None else max(self.end, max(also) + 1)
        return FrameReader(path, info, size, min(self.start, min(also)), end, 1)
