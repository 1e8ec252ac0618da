"""When each frame is shown, read from the container's packets without decoding the video."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cluster.frames.container import first_frame, open_video
from cluster.frames.video_error import VideoError

VP8_SHOW_FRAME = 0x10  # RFC 6386, 9.1: bit 4 of the frame tag
NO_STAMP = -(2**63)  # AV_NOPTS_VALUE, FFmpeg's own mark
AT_A_TIME = 1 << 14  # timestamps in a step of arithmetic: its temporaries stay small beside a day's timestamps
MAX_KEYFRAME_GAP = 3000  # packets; past that, seeking decodes about as much as starting over


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """Times of a video's frames in display order.

    `pts` int64 [n]: presentation timestamps as the container has them, in its time base (for a raw stream without
    timestamps: the frame number). `time_s` float64 [n]: seconds since the first displayed frame. `seekable`: whether
    frame i can be found by its timestamp (no duplicates, none negative, in one piece, every packet a frame) at a cost
    that does not grow with the video (a keyframe at least every `MAX_KEYFRAME_GAP` packets). `hidden`: how many
    packets are no displayed frame (edit list, VP8 references, before the first decodable frame); a container's
    declared count includes them.
    """

    pts: np.ndarray
    time_s: np.ndarray
    seekable: bool = True
    hidden: int = 0

    def __len__(self) -> int:
        return len(self.pts)

    def frame_at(self, time_s: float) -> int:
        """Index of the last frame shown at or before `time_s` seconds. Raises ValueError outside the video."""
        if len(self) == 0 or not 0 <= time_s <= self.end_s:
            raise ValueError(f"{time_s:.3f} s is outside the video (0 to {self.end_s:.3f} s)")
        return int(np.searchsorted(self.time_s, time_s, side="right")) - 1

    @property
    def end_s(self) -> float:
        """When the last frame ends, in seconds, taking it to last as long as the usual (median) frame."""
        if len(self) == 0:
            return 0.0
        usual = float(np.median(np.diff(self.time_s))) if len(self) > 1 else 0.0
        return float(self.time_s[-1]) + usual


@dataclass
class _Stamps:
    """Timestamps of the packets that become frames, in file order; `NO_STAMP` where the container has none.

    Packed, eight bytes each: a list of ints is five times as large, and a day of video has millions.
    """

    pts: array = field(default_factory=lambda: array("q"))
    dts: array = field(default_factory=lambda: array("q"))
    hidden: int = 0  # packets that are decoded but never shown
    keyframe_gap: int = 0  # most packets in a row without a keyframe


def frame_times(path: Path, progress: Callable[[int], None] | None = None) -> FrameTimes | None:
    """Times of the frames of the video at `path`, index i for the i-th frame that `FrameReader` gives; None for a
    folder of images. Packets that an edit list hides do not count, nor those before the first decodable frame (a
    broadcast recording cut in the middle). In a damaged file frames may be missing, and later times shift.
    `progress(packets)` is called for every packet read.

    Raises VideoError: missing, not-a-video, no-video-stream, zero-frames, unsupported.
    """
    path = Path(path)
    if path.is_dir():
        return None
    with open_video(path) as (container, stream):
        stamps = _read_stamps(container, stream, progress or (lambda packets: None))
        time_base = Fraction(stream.time_base)
        rate = stream.guessed_rate or stream.average_rate
    if not stamps.pts:
        raise VideoError(path, "zero-frames", "holds a video stream without frames")
    times = times_from_stamps(stamps.pts, stamps.dts, time_base, rate, _first_shown(path), stamps.hidden)
    return replace(times, seekable=times.seekable and stamps.keyframe_gap <= MAX_KEYFRAME_GAP)


def times_from_stamps(
    pts: Iterable[int],
    dts: Iterable[int],
    time_base: Fraction,
    rate: Fraction | None,
    first_pts: int | None = None,
    hidden: int = 0,
) -> FrameTimes:
    """Packet timestamps in file order (`NO_STAMP`: none) -> FrameTimes. `time_base` in seconds per tick, `rate` in
    frames per second. Frames before `first_pts` (the first that decodes) are left out; `hidden` packets were left out
    before. Arrays of int64 are sorted in place and become the result, so that a day of video is held once.

    A container that lacks some pts (AVI) is read by dts; one without either (raw streams) is counted at `rate`.
    """
    pts, dts = np.asarray(pts, np.int64), np.asarray(dts, np.int64)
    if len(pts) and pts.min() == NO_STAMP:
        if dts.min() == NO_STAMP:
            shown = np.arange(len(pts), dtype=np.int64)
            return FrameTimes(shown, shown / float(rate or 25), False, hidden)
        pieces, whole, first_pts = [dts], False, None
    else:
        pieces = np.split(pts, _restarts(dts))
        whole = len(pieces) == 1
    for piece in pieces:
        piece.sort()
    if first_pts is not None:
        pieces[0] = pieces[0][np.searchsorted(pieces[0], first_pts) :]
        pieces = [piece for piece in pieces if len(piece)] or [np.array([first_pts], np.int64)]
        whole = len(pieces) == 1
    shown = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    hidden += len(pts) - len(shown)
    seekable = whole and hidden == 0 and shown[0] >= 0 and _increases(shown)
    return FrameTimes(shown, _seconds(pieces, time_base), seekable, hidden)


def _seconds(pieces: list[np.ndarray], time_base: Fraction) -> np.ndarray:
    """Seconds since the first frame, float64 [n]. After a jump (two recordings in one file) time goes on one usual
    frame after the last, as players do."""
    seconds = np.empty(sum(map(len, pieces)))
    done = begins = 0  # frames, ticks
    for piece in pieces:
        for first in range(0, len(piece), AT_A_TIME):
            some = piece[first : first + AT_A_TIME] - piece[0] + begins
            # One division: 33/30 s is the float 1.1.
            seconds[done : done + len(some)] = some.astype(np.float64) * time_base.numerator / time_base.denominator
            done += len(some)
        if len(pieces) > 1:
            usual = int(np.median(np.diff(piece))) if len(piece) > 1 else 1
            begins += int(piece[-1] - piece[0]) + max(usual, 1)
    return seconds


def _restarts(dts: np.ndarray) -> list[int]:
    """Where dts goes back, which it never does within one recording; sorting across such a place would mix frames."""
    found, last = [], NO_STAMP
    for first in range(0, len(dts), AT_A_TIME):
        some = dts[first : first + AT_A_TIME]
        known = np.flatnonzero(some != NO_STAMP)
        stamps = np.concatenate([[last], some[known]])
        found += (first + known[stamps[1:] < stamps[:-1]]).tolist()
        last = stamps[-1]
    return found


def _increases(stamps: np.ndarray) -> bool:
    """Whether each is larger than the one before."""
    parts = (stamps[first : first + AT_A_TIME + 1] for first in range(0, len(stamps), AT_A_TIME))
    return all((part[1:] > part[:-1]).all() for part in parts)


def _read_stamps(container, stream, progress: Callable[[int], None]) -> _Stamps:
    stamps, since_keyframe = _Stamps(), 0
    vp8 = stream.codec_context.name == "vp8"
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # the flush packet, or "as before" in AVI
                continue
            since_keyframe = 0 if packet.is_keyframe else since_keyframe + 1
            stamps.keyframe_gap = max(stamps.keyframe_gap, since_keyframe)
            progress(len(stamps.pts))
            # An edit list hides packets; VP8 has alternate references, which are only decoded.
            if packet.is_discard or (vp8 and not bytes(packet)[0] & VP8_SHOW_FRAME):
                stamps.hidden += 1
                continue
            stamps.pts.append(NO_STAMP if packet.pts is None else packet.pts)
            stamps.dts.append(NO_STAMP if packet.dts is None else packet.dts)
    except (av.error.FFmpegError, OSError):
        pass  # a damaged or cut file: the packets so far are all there are
    except IndexError:
        pass  # PyAV, at the very end of a recording in which further streams appear on the way
    return stamps


def _first_shown(path: Path) -> int | None:
    """pts of the first frame that decodes; None when none does (FrameReader will say so) or it has no timestamp."""
    try:
        with open_video(path) as (container, stream):
            return first_frame(path, container, stream).pts
    except VideoError:
        return None
