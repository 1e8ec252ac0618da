"""Videos decoded in a child process, so that a decoder's crash or hang costs one request and not the network."""

import contextlib
import dataclasses
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cluster.frames.child_process import ChildDied, ChildProcess, ChildSilent, memory_file
from cluster.frames.video import FrameTimes, VideoError, VideoInfo, check_range
from cluster.frames.video_error import printable

CHILD = "cluster.frames.decoder_child"
RING_BYTES = 256 << 20  # fewer slots for larger frames
LEAST_SLOTS = 2
COPY_BYTES = 1 << 16
SETTLE_SECONDS = 2.0  # for a child to leave frames that nobody wants; a new child takes about as long
BLIND_FRAMES_PER_SECOND = 2000  # least credible speed at which framepump reads packets, on a slow disk
HINTS = {"SIGKILL": ", as the kernel does when memory runs out", "SIGBUS": ", as when memory for frames runs out"}


class DecoderCrash(VideoError):
    """The child died over a request. `.signal`: a name such as "SIGSEGV", or None when it left by itself."""

    def __init__(self, path: Path | str, reason: str, signal: str | None = None):
        super().__init__(path, "decoder-crash", reason)
        self.signal = signal

    def __reduce__(self):
        return type(self), (self.path, self.reason, self.signal)


class DecoderUnavailable(RuntimeError):
    """The child process does not start: this machine's fault, not the video's."""


class DecoderStall(VideoError):
    """The child made no progress for `stall_seconds` and was killed."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(path, "decoder-stall", reason)

    def __reduce__(self):
        return type(self), (self.path, self.reason)


class Decoder:
    """One child process that does all container work, one request at a time; for one thread at a time.

    The child starts with the first request and again after a death. `stall_seconds`: how long a request may go on
    without progress, which is a decoded frame, wanted or not, or packets read. `depth`: frames decoded ahead, at
    most `RING_BYTES` of them. `nvdec`: as of `FrameReader`. Every request raises VideoError as `video.py` does,
    DecoderCrash, DecoderStall, and RuntimeError when the child does not start within `start_seconds` or fails in a way
    that is no video's fault.
    `progress`, where set, is called with a growing counter (frames or packets) while a request takes long to give
    something: about twice a second, in the thread that waits.
    """

    def __init__(self, stall_seconds: float = 60, depth: int = 16, start_seconds: float = 60, nvdec: bool = False):
        if min(stall_seconds, depth, start_seconds) <= 0:
            raise ValueError("stall_seconds, depth and start_seconds must be positive")
        self.stall_seconds, self.depth, self.start_seconds = stall_seconds, int(depth), start_seconds
        self.nvdec = nvdec
        self.progress: Callable[[int], None] | None = None
        self._child: ChildProcess | None = None
        self._ring: int | None = None
        self._answering = False
        self._requests = 0
        self._closed = False

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child. A closed decoder takes no more requests."""
        self._closed = True
        self._requests += 1  # ends frames that are still being read
        self._drop()
        if self._ring is not None:
            os.close(self._ring)
            self._ring = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid if self._child is not None and self._child.alive() else None

    def probe(self, path: Path) -> VideoInfo:
        """As `cluster.frames.video.probe_video`."""
        return VideoInfo(**self._ask(path, "probe", "looking at the video"))

    def frame_times(self, path: Path, folder: Path | None = None) -> FrameTimes | None:
        """As `cluster.frames.video.frame_times`. Where `folder` is given, the numbers lie in a nameless file there and
        not in memory: 16 bytes a frame."""
        facts = self._ask(path, "times", "reading the times of its frames")
        if facts is None:
            return None
        count, size = facts["frames"], 16 * facts["frames"]
        with tempfile.TemporaryFile(dir=folder) if folder else os.fdopen(memory_file("times"), "r+b") as file:
            while piece := os.pread(self._ring, min(COPY_BYTES, size - file.tell()), file.tell()):
                file.write(piece)
            if file.tell() < size:
                raise OSError(f"the decoder gave {file.tell()} of {size} bytes of the times of {path}")
            file.flush()
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        os.ftruncate(self._ring, 0)
        pts, time_s = np.frombuffer(data, np.int64, count), np.frombuffer(data, np.float64, count, 8 * count)
        return FrameTimes(pts, time_s, facts["seekable"], facts["hidden"])

    def frames(
        self,
        path: Path,
        info: VideoInfo,
        size: tuple[int, int] | None = None,
        start: int | None = 0,
        end: int | None = None,
        stride: int | None = 1,
        *,
        seek: bool = True,
        times: FrameTimes | None = None,
    ) -> "Frames":
        """As `FrameReader`; decoding begins with the first step. A later request ends these frames."""
        return Frames(self, path, info, size, start, end, stride, seek, times)

    def _ask(self, path: Path, task: str, doing: str) -> Any:
        self._ready()
        self._request(path, do=task)
        while True:
            event = self._event(path, doing)
            if "done" in event:
                return event["done"]

    def _request(self, path: Path, **command: Any) -> int:
        """Sends a request to an idle child; returns its number. A child that was lost while idle is replaced."""
        self._requests += 1
        self._patience = 0.0
        for last in (False, True):
            try:
                self._child.send({**command, "path": str(path)})
                self._answering = True
                self._child.receive(self.stall_seconds)
                break
            except (ChildDied, ChildSilent) as error:
                lost = self._lost(path, "taking the request", error)
                if last:
                    raise lost from None
                self._ready()
        return self._requests

    def _ready(self) -> None:
        """A child that waits for a request: the one there is, once it has left the last one, or a new one."""
        if self._closed:
            raise RuntimeError("the decoder is closed")
        if self._child is not None:
            try:
                if self._answering:
                    self._child.send({"do": "stop"})
                while self._answering:
                    self._answering = not _is_last(self._child.receive(SETTLE_SECONDS))
            except (ChildDied, ChildSilent):
                self._drop()
            if self._child is not None and not self._child.alive():
                self._drop()
        if self._child is None:
            if self._ring is None:
                self._ring = memory_file("frames")
            try:
                self._child = ChildProcess(CHILD, (self._ring,))
                self._child.receive(self.start_seconds)
            except (ChildDied, ChildSilent, OSError) as error:
                self._drop()
                why = f"{error}: {error.tail}" if isinstance(error, ChildDied) else str(error) or "silent for too long"
                raise DecoderUnavailable(f"the decoder's child process does not start ({why})") from None

    def _free(self) -> None:
        """Lets the child fill one more slot."""
        try:
            self._child.send({"do": "free"})
        except (ChildDied, ChildSilent):
            pass  # what it sent before still counts; the next event tells

    def _leave(self, number: int) -> None:
        """Tells the child to stop; it does so while this process goes on, and `_ready` waits for it."""
        if self._requests == number and self._answering:
            with contextlib.suppress(ChildDied, ChildSilent):
                self._child.send({"do": "stop"})

    def _event(self, path: Path, doing: str) -> dict[str, Any]:
        """The child's next event. Raises what ends the request."""
        try:
            event = self._child.receive(self.stall_seconds + self._patience)
        except (ChildDied, ChildSilent) as error:
            raise self._lost(path, doing, error) from None
        self._patience = event.get("blind", 0) / BLIND_FRAMES_PER_SECOND
        self._answering = not _is_last(event)
        if "alive" in event and self.progress is not None:
            self.progress(event["alive"])
        if "failed" in event:
            kind, where, reason = event["failed"]
            raise VideoError(where, kind, reason)
        if "raised" in event:
            raise RuntimeError(f"{printable(str(path))}: {printable(event['raised'])} (in the decoder's child process)")
        return event

    def _lost(self, path: Path, doing: str, error: ChildDied | ChildSilent) -> VideoError:
        """Drops the child; the error to raise."""
        waited = self.stall_seconds + self._patience
        self._drop()
        if isinstance(error, ChildSilent):
            return DecoderStall(path, f"the decoder made no progress for {waited:g} s while {doing}; it was killed")
        said = f": {error.tail}" if error.tail else ""
        hint = HINTS.get(error.signal, "")
        return DecoderCrash(path, f"the decoder crashed ({error}{hint}) while {doing}{said}", error.signal)

    def _drop(self) -> None:
        self._answering = False
        if self._child is not None:
            self._child.kill()
            self._child = None


class Frames:
    """Frames of one video as `FrameReader` gives them: `(frame_index, frame uint8 [h, w, 3])`, each
    an array of its own. `.decoded`, `.error`: as there, during and after iteration."""

    def __init__(self, decoder, path, info, size, start, end, stride, seek, times):
        self.path, self.info = Path(path), info
        self.size = (info.height, info.width) if size is None else (int(size[0]), int(size[1]))
        self.start, self.end, self.stride = check_range(path, start, end, stride)
        self.decoded = 0
        self.error: str | None = None
        self._decoder, self._seek = decoder, seek
        self._times = None if times is None else (len(times), times.seekable)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Raises VideoError as FrameReader does, DecoderCrash, DecoderStall, and RuntimeError once a later request
        or `Decoder.close` has ended these frames."""
        self.decoded, self.error = 0, None
        decoder, pixels = self._decoder, self.size[0] * self.size[1] * 3
        slots = max(LEAST_SLOTS, min(decoder.depth, RING_BYTES // max(pixels, 1)))
        with self._ring(slots * pixels) as ring:
            number = decoder._request(
                self.path, do="frames", info=dataclasses.asdict(self.info), size=self.size, start=self.start,
                end=self.end, stride=self.stride, seek=self._seek, nvdec=decoder.nvdec, times=self._times, slots=slots,
            )  # fmt: skip
            doing = "reaching the first frame"
            try:
                while decoder._requests == number:
                    event = decoder._event(self.path, doing)
                    self.decoded, self.error = event.get("decoded", self.decoded), event.get("error", self.error)
                    if "done" in event:
                        return
                    if "frame" not in event:
                        continue
                    index, offset = event["frame"], event["slot"] * pixels
                    doing = f"decoding the frame after frame {index}"
                    picture = np.frombuffer(ring, np.uint8, pixels, offset).reshape(*self.size, 3).copy()
                    decoder._free()
                    yield index, picture
                    del picture  # not kept alive while waiting for the next
            finally:
                decoder._leave(number)
        raise RuntimeError(f"{printable(str(self.path))}: a later request, or closing the decoder, ended these frames")

    @contextlib.contextmanager
    def _ring(self, size: int) -> Iterator[mmap.mmap]:
        """The frames' memory, shared with the child, which is idle now."""
        self._decoder._ready()
        os.ftruncate(self._decoder._ring, size)
        with mmap.mmap(self._decoder._ring, size, access=mmap.ACCESS_READ) as ring:
            yield ring


def _is_last(event: dict[str, Any]) -> bool:
    return not event.keys().isdisjoint(("done", "failed", "raised"))
