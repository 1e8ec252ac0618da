"""Writing an H.264 video that keeps the times of its frames."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from jobs.views.audio import AudioTrack

TIME_BASE = Fraction(1, 90_000)


class VideoFile:
    """An mp4 written frame by frame; `with VideoFile(path, (h, w)) as video: video.add(frame, seconds)`.

    Frames uint8 [h, w, 3] with increasing times in seconds. An odd last row or column is repeated, because H.264 in
    4:2:0, which every player shows, needs even sizes. `fps` is only a hint to players. `audio` is written beside them.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float = 30.0, audio: AudioTrack | None = None):
        self._container = av.open(str(Path(path).absolute()), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(min(max(fps, 1.0), 240.0)).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        self._stream.height, self._stream.width = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._size = tuple(size)
        self._last = -1
        self._audio = audio
        if audio is not None:
            audio.attach(self._container)

    def add(self, frame: np.ndarray, seconds: float) -> None:
        """Raises ValueError for another size."""
        if frame.shape != (*self._size, 3):
            raise ValueError(f"frames of this video are {self._size}, got {frame.shape}")
        height, width = self._size
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._last = max(round(seconds / TIME_BASE), self._last + 1)
        picture.pts, picture.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(picture))
        if self._audio is not None:
            self._audio.upto(float(self._last * TIME_BASE))

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, failure, *_rest) -> None:
        try:
            if failure is None and self._last >= 0:
                self._container.mux(self._stream.encode())
                if self._audio is not None:
                    self._audio.finish()
        finally:
            self._container.close()
