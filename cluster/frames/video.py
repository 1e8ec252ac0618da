"""Videos and image folders as frames: what a file is, and its frames in display order, upright, at a working size.

framepump decodes (Sarandi, framepump 0.5); PyAV, which it brings, reads what framepump does not say: rotation, times,
declared frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from framepump import VideoFrames

from cluster.frames.container import MAX_PIXELS, first_frame, open_video
from cluster.frames.frame_times import FrameTimes, frame_times
from cluster.frames.image_folder import image_size, list_images, load_image
from cluster.frames.orientation import Orientation
from cluster.frames.video_error import VideoError, no_frames, printable

__all__ = ["FrameReader", "FrameTimes", "VideoError", "VideoInfo", "frame_times", "probe_video", "working_size"]

SEEK_FROM = 256  # nearer starts are reached faster by decoding from the beginning


@dataclass(frozen=True)
class VideoInfo:
    """What a video says about itself. `height`, `width`: as displayed, after rotation, in pixels as stored (a pixel
    aspect ratio is not applied). `rotation`: degrees clockwise by which stored pictures are turned to stand upright,
    after mirroring them left to right if `mirrored`. `frames_declared`: the container's own count (exact for images),
    not to be trusted. `fps` is the average rate, `duration_s` the container's."""

    kind: str
    height: int
    width: int
    rotation: int = 0
    fps: float | None = None
    frames_declared: int | None = None
    duration_s: float | None = None
    codec: str | None = None
    pixel_format: str | None = None
    mirrored: bool = False

    @property
    def orientation(self) -> Orientation:
        return Orientation(self.rotation, self.mirrored)


def probe_video(path: Path) -> VideoInfo:
    """Describe the video file or image folder at `path`; decodes one frame.

    Raises VideoError: missing, not-a-video, no-video-stream, zero-frames, unsupported, decode.
    """
    path = Path(path)
    if path.is_dir():
        names = list_images(path)
        height, width, orientation, mode = image_size(path / names[0])
        if height * width > MAX_PIXELS:
            raise VideoError(path / names[0], "unsupported", f"is {width}x{height}, over {MAX_PIXELS} pixels")
        return VideoInfo(
            "images", height, width, orientation.rotation, frames_declared=len(names),
            codec=Path(names[0]).suffix[1:].lower(), pixel_format=mode, mirrored=orientation.mirrored,
        )  # fmt: skip
    with open_video(path) as (container, stream):
        return describe_video(path, container, stream)


def describe_video(path: Path | str, container: InputContainer, stream: VideoStream) -> VideoInfo:
    """The same of an opened container. Raises VideoError: zero-frames, unsupported, decode."""
    codec = stream.codec_context.name
    # A raw stream has no duration, and its average is FFmpeg's default of 25; the guess reads the bitstream.
    rates = (stream.average_rate, stream.guessed_rate)
    rate = next(filter(None, rates if container.duration else reversed(rates)), None)
    declared = stream.frames or None
    if stream.duration is not None and stream.duration > 0:
        duration = float(stream.duration * stream.time_base)
    else:
        duration = container.duration / 1e6 if container.duration and container.duration > 0 else None
    first = first_frame(path, container, stream)
    height, width = first.orientation.stored_size(first.height, first.width)
    return VideoInfo(
        "video", height, width, first.orientation.rotation, float(rate) if rate else None, declared, duration,
        codec, first.pixel_format, first.orientation.mirrored,
    )  # fmt: skip


def working_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """(h, w) at which a video of `height` x `width` is processed: the shorter side becomes `resolution` and the other
    is rounded to the nearest pixel. Never enlarged: a video whose shorter side is at most `resolution` keeps its size.
    """
    if min(height, width, resolution) < 1:
        raise ValueError(f"sizes must be positive, got {height}x{width} and resolution {resolution}")
    height, width, resolution = int(height), int(width), int(resolution)
    shorter = min(height, width)
    if shorter <= resolution:
        return height, width
    # Integers only: (2 a b + c) // (2 c) is a b / c rounded half up, the same on every machine.
    return tuple((2 * side * resolution + shorter) // (2 * shorter) for side in (height, width))


class FrameReader:
    """The frames of a video file or image folder, in display order.

    Iterating yields `(frame_index, frame)`: the index in the source (0-based, display order; stride 3: 0, 3, 6, ...)
    and uint8 [h, w, 3] RGB, upright, C-contiguous, of `size` = (h, w) (default: the displayed size). Frames `start` to
    `end` (exclusive; None = all), every `stride`-th. Nothing after `end` is decoded.

    A damaged file yields the frames that decode, then iteration ends quietly. After (and during) iteration:
    `.decoded`, the number of source frames that decoded, counted from frame 0 whether wanted or not; `.error`, None or
    the text of what ended the iteration early; `.image_names`, names of the images of a folder (None for a video).

    Decoding uses no frame threads: with them FFmpeg gives other pixels at each run wherever a file is damaged, and
    fewer frames on more cores where it breaks off. `threaded` turns them on, for files that are known to be sound
    (the pixels are the same). `seek` lets a far `start` be reached by timestamp, always threaded; turn it off for
    files that are known to be damaged. `nvdec` lets the GPU's decoder read first (of a sound file it gives the same
    pixels): where there is none, or it does not know the codec, or it stops before the end, the processor goes on. It
    is not asked where `seek` is off. `times`, where the caller has them, saves reading them again to seek.
    `progress(decoded, blind)` is called from the decode loop itself, for every decoded frame, wanted or not; `blind`:
    up to so many frames are now passed without a call (framepump reads the packets of the whole file to seek).

    Raises VideoError (decode, zero-frames) from the first step only, when there is no frame to yield at all.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        size: tuple[int, int] | None = None,
        start: int | None = 0,
        end: int | None = None,
        stride: int | None = 1,
        *,
        threaded: bool = False,
        seek: bool = True,
        nvdec: bool = False,
        times: FrameTimes | None = None,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.path, self.info, self.nvdec = Path(path), info, nvdec
        self.size = (info.height, info.width) if size is None else (int(size[0]), int(size[1]))
        self.start, self.end, self.stride = check_range(path, start, end, stride)
        self.threaded, self.seek, self._times = threaded, seek, times
        self._progress = progress or (lambda decoded, blind: None)
        self.decoded = 0
        self.error: str | None = None
        self.image_names = list_images(self.path) if info.kind == "images" else None

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        self.decoded, self.error = 0, None
        yielded = 0
        for item in self._images() if self.image_names is not None else self._video():
            yielded += 1
            yield item
        if yielded == 0:
            if self.decoded == 0:
                raise VideoError(self.path, "decode", f"not even one frame decodes ({self.error or 'no reason given'})")
            raise no_frames(self.path, self.start, self.end, self.decoded, self.error)

    def _images(self) -> Iterator[tuple[int, np.ndarray]]:
        names = self.image_names
        self.decoded = min(self.start, len(names))
        for index in range(self.start, len(names) if self.end is None else min(self.end, len(names)), self.stride):
            try:
                image = load_image(self.path / names[index], self.size, (self.info.height, self.info.width))
            except VideoError as error:
                self.error = f"frame {index}: {names[index]} {error.reason}"
                return
            self.decoded = index + 1
            self._progress(self.decoded, 0)
            yield index, image.frame
        self.decoded = len(names) if self.end is None else min(self.end, len(names))

    def _video(self) -> Iterator[tuple[int, np.ndarray]]:
        orientation = self.info.orientation
        following = self.start
        sought = self.seek and self.start > SEEK_FROM and self._can_seek()
        # The last attempt is without seeking or threads: it gives what others lose where a file breaks off.
        attempts = ([self._sought] if sought else [self._threaded] if self.threaded else []) + [self._plain]
        if self.nvdec and self.seek:
            attempts.insert(0, self._sought_by_gpu if sought else self._from_beginning_by_gpu)
        for attempt in attempts:
            self.error = None
            frames = attempt(following)
            while True:
                try:
                    index, frame = next(frames)
                except (StopIteration, IndexError):
                    # IndexError: PyAV at the very end of a recording in which further streams appear on the way.
                    break
                except Exception as error:  # framepump, FFmpeg, NumPy and the OS each have their own
                    name = printable(self.path.name)
                    self.error = f"{name}: decoding ends after {self.decoded} frames ({_words(error)})"
                    break
                following = index + self.stride
                yield index, orientation.upright(frame)
            by_gpu = attempt in (self._sought_by_gpu, self._from_beginning_by_gpu)
            if self.error is None and (attempt == self._plain or not self._ended_early(by_gpu)):
                return

    def _plain(self, following: int) -> Iterator[tuple[int, np.ndarray]]:
        # Told that it cannot seek, framepump decodes from the beginning without frame threads.
        return self._from_beginning(following, seekable=False)

    def _threaded(self, following: int) -> Iterator[tuple[int, np.ndarray]]:
        return self._from_beginning(following, seekable=None)

    def _from_beginning_by_gpu(self, following: int) -> Iterator[tuple[int, np.ndarray]]:
        return self._from_beginning(following, seekable=False, gpu=True)

    def _from_beginning(
        self, following: int, seekable: bool | None, gpu: bool = False
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, frame as stored [h, w, 3]) from source frame `following` on; counts `decoded`."""
        for index, frame in enumerate(self._frames(seekable, gpu)[: self.end]):
            self.decoded = max(self.decoded, index + 1)
            self._progress(index + 1, 0)
            if index >= following and (index - following) % self.stride == 0:
                yield index, frame

    def _sought_by_gpu(self, following: int) -> Iterator[tuple[int, np.ndarray]]:
        return self._sought(following, gpu=True)

    def _sought(self, following: int, gpu: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """The same, reaching `following` by its timestamp."""
        self._progress(self.decoded, len(self._times))
        for index, frame in enumerate(self._frames(None, gpu)[following : self.end], start=following):
            self.decoded = max(self.decoded, index + 1)
            self._progress(index + 1, 0)
            if (index - following) % self.stride == 0:
                yield index, frame

    def _frames(self, seekable: bool | None, gpu: bool) -> VideoFrames:
        stored = self.info.orientation.stored_size(*self.size)
        return VideoFrames(str(self.path.absolute()), seekable=seekable, gpu=gpu).resized(stored)

    def _can_seek(self) -> bool:
        times = self._packet_times()
        return times is not None and times.seekable and self.start < len(times)

    def _packet_times(self) -> FrameTimes | None:
        if self._times is None:
            try:
                self._times = frame_times(self.path, lambda packets: self._progress(self.decoded, 0))
            except VideoError:
                return None
        return self._times

    def _ended_early(self, by_gpu: bool) -> bool:
        """Whether iteration stopped quietly before the last frame that the container holds packets for. Of what a GPU
        read, also where the container declares no number of frames: its decoder is not known to say when it stops."""
        declared = self.info.frames_declared
        if declared is None and not by_gpu:
            return False
        if declared is not None and self.decoded >= (declared if self.end is None else min(declared, self.end)):
            return False
        times = self._packet_times()
        there = 0 if times is None else len(times)
        return self.decoded < (there if self.end is None else min(there, self.end))


def check_range(path: Path, start: int | None, end: int | None, stride: int | None) -> tuple[int, int | None, int]:
    """(start, end, stride) without the Nones that have a default. Raises ValueError where no frame can be meant."""
    first, step = int(start or 0), 1 if stride is None else int(stride)
    last = None if end is None else int(end)
    if first < 0 or step < 1 or (last is not None and last <= first):
        raise ValueError(
            f"{printable(str(path))}: no frames from start {start} to end {end} with stride {stride}; "
            "start must be >= 0, end > start, stride >= 1"
        )
    return first, last, step


def _words(error: Exception) -> str:
    """The reason inside framepump's three-line message."""
    original = getattr(error, "original_error", None) or error
    return printable(str(getattr(original, "strerror", None) or original or type(original).__name__))
