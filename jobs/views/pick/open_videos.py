"""Videos that the page looks at: fetched, probed and decoded in a child process each, a few at a time."""

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from cluster.frames.decoder import Decoder
from cluster.frames.video import FrameTimes, VideoError, VideoInfo
from cluster.stores.source import fetch_source, read_source

OPEN = 3
CACHE_BYTES = 96 << 20  # of JPEGs, per open video
NEAR = 48  # frames that are decoded on the way rather than sought
BACK = 12  # frames before the one asked for, so that stepping back is fast
QUALITY = 92


class OpenVideo:
    """One video, for one thread at a time (`lock`). Raises VideoError, OSError, RuntimeError.

    times: when its frames are shown, None for a folder of images. frames: how many there are; of a damaged file
    perhaps fewer decode.
    """

    def __init__(self, url: str, options: Mapping[str, Any]):
        self.url, self.options = url, options
        self.lock = threading.RLock()
        self.users = 0
        self.info: VideoInfo | None = None
        self.times: FrameTimes | None = None
        self.frames = 0
        self._scratch: TemporaryDirectory | None = None
        self._decoder: Decoder | None = None
        self._path: Path | None = None
        self._stream: Iterator[tuple[int, np.ndarray]] | None = None
        self._next = 0
        self._last: tuple[int, np.ndarray] | None = None
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._masks: dict[str, bytes] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as shown."""
        return self.info.height, self.info.width

    def open(self) -> None:
        """Fetches and probes the video, once."""
        if self.info is not None:
            return
        try:
            self._scratch = TemporaryDirectory(prefix="pick-")
            self._path = fetch_source(self.url, Path(self._scratch.name), self.options)
            self._decoder = Decoder()
            info = self._decoder.probe(self._path)
            self.times = self._decoder.frame_times(self._path)
            self.frames = (len(self.times) if self.times is not None else 0) or info.frames_declared or 1
            self.info = info
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the decoder and removes the copy."""
        self.info = None
        self._leave()
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def jpeg(self, frame: int) -> bytes:
        """Source frame `frame` (display order, 0-based) at its full size. Raises VideoError."""
        if frame not in self._pictures:
            for index, picture in self._until(frame):
                # What is passed on the way forward is not looked at again soon; what lies just before may be.
                if index >= frame - BACK and index not in self._pictures:
                    self._remember(index, encoded(picture))
        self._pictures.move_to_end(frame)
        return self._pictures[frame]

    def picture(self, frame: int) -> np.ndarray:
        """The frame as decoded, uint8 RGB [H, W, 3]. Raises VideoError."""
        if self._last is not None and self._last[0] == frame:
            return self._last[1]
        for index, picture in self._until(frame, exact=True):
            if index == frame:
                return picture
        raise VideoError(self._path, "decode", f"frame {frame} does not decode")

    def frame_at(self, seconds: float) -> int:
        """The last frame at or before a time. Raises ValueError where there is none."""
        if self.times is None:
            raise ValueError("a folder of images has no times, give a frame")
        return self.times.frame_at(seconds)

    def time_of(self, frame: int) -> float | None:
        """Seconds since the first frame; None where it is not known."""
        if self.times is None or frame >= len(self.times):
            return None
        return float(self.times.time_s[frame])

    def mask_file(self, url: str) -> bytes:
        """A prompt's PNG; read once while the video stays open."""
        if url not in self._masks:
            self._masks[url] = read_source(url, self.options)
        return self._masks[url]

    def _until(self, frame: int, exact: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Frames up to and with `frame`; from a little before it where the decoder must go back anyway."""
        if not 0 <= frame < self.frames:
            raise VideoError(self._path, "decode", f"there is no frame {frame}; it has {self.frames}")
        if self._stream is None or not self._next <= frame <= self._next + NEAR:
            back = 0 if exact or self._next <= frame else BACK
            self._leave()
            self._next = max(0, frame - back)
            self._stream = iter(self._decoder.frames(self._path, self.info, None, self._next, None, times=self.times))
        try:
            for index, picture in self._stream:
                self._next, self._last = index + 1, (index, picture)
                yield index, picture
                if index >= frame:
                    return
        except BaseException:
            self._leave()
            raise
        self._leave()
        raise VideoError(self._path, "decode", f"frame {frame} does not decode: the file is damaged there or before")

    def _leave(self) -> None:
        if self._stream is not None:
            with suppress(RuntimeError, VideoError):
                self._stream.close()
            self._stream = None
            self._next = 0

    def _remember(self, index: int, data: bytes) -> None:
        self._pictures[index] = data
        held = sum(map(len, self._pictures.values()))
        while held > CACHE_BYTES and len(self._pictures) > 1:
            held -= len(self._pictures.popitem(last=False)[1])


class OpenVideos:
    """The videos last looked at, for any number of threads."""

    def __init__(self, options: Mapping[str, Any] | None = None):
        self._options = dict(options or {})
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenVideo] = OrderedDict()

    @contextmanager
    def use(self, url: str) -> Iterator[OpenVideo]:
        """The video, open and for this thread alone. Raises VideoError, OSError, RuntimeError."""
        with self._lock:
            video = self._open.setdefault(url, OpenVideo(url, self._options))
            self._open.move_to_end(url)
            video.users += 1
        try:
            with video.lock:
                video.open()
                yield video
        finally:
            with self._lock:
                video.users -= 1
                spare = [other for other in self._open.values() if other.users == 0][: max(0, len(self._open) - OPEN)]
                spare += [video] if video.info is None and video.users == 0 and video not in spare else []
                for other in spare:
                    del self._open[other.url]
            for other in spare:
                other.close()

    def close(self) -> None:
        """Ends all decoders."""
        with self._lock:
            videos, self._open = list(self._open.values()), OrderedDict()
        for video in videos:
            with video.lock:
                video.close()


def encoded(picture: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3] as a JPEG whose colours are not subsampled: edges must be seen."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()
