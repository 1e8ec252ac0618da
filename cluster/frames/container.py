"""Opening a video container with PyAV so that every failure is a `VideoError` with a plain reason.

Only the first video stream counts, because framepump decodes that one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Discard, Disposition

from cluster.frames.orientation import UPRIGHT, Orientation, orientation_from_matrix
from cluster.frames.video_error import VideoError

SNIFFED_BYTES = 4096
MAX_PIXELS = 16384 * 8192
# Demuxers that open further files or draw text: a single local file is all that a "video" may be.
REFUSED_FORMATS = {"hls", "concat", "dash", "imf", "sdp", "rtsp", "tty", "webm_dash_manifest", "applehttp"}


@dataclass(frozen=True)
class FirstFrame:
    """What only a decoded frame tells: `height`, `width` as stored, `orientation`, `pts` (None without timestamps)."""

    height: int
    width: int
    orientation: Orientation
    pts: int | None
    pixel_format: str


@contextmanager
def open_video(
    path: Path | str, file: BinaryIO | None = None
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """The opened container and its first video stream; all other streams are discarded while demuxing. Where `file`
    is given (one that can seek), it is read, and `path` only names it.

    Raises VideoError: missing, not-a-video, no-video-stream, unsupported.
    """
    if file is None:
        sniff(path)
    else:
        check_head(path, file.read(SNIFFED_BYTES))
        file.seek(0)
    try:
        # An absolute path, since FFmpeg would read "a:b.mp4" as a protocol named "a".
        source = str(path.absolute()) if file is None else file
        container = av.open(source, metadata_errors="surrogateescape")
    except MemoryError:
        raise VideoError(path, "unsupported", "its header asks for more memory than there is") from None
    except av.error.FFmpegError as error:
        raise VideoError(path, "not-a-video", f"cannot be opened as a video ({reason_of(error)})") from None
    except (OSError, ValueError) as error:
        raise VideoError(path, "not-a-video", f"cannot be opened as a video ({error})") from None
    try:
        stream = first_video_stream(path, container)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream
    finally:
        container.close()


def first_video_stream(path: Path | str, container: av.container.InputContainer) -> av.video.stream.VideoStream:
    if REFUSED_FORMATS & set(container.format.name.split(",")):
        raise VideoError(
            path, "unsupported", f"is a playlist or text ({container.format.name}), not one video file; list the files"
        )
    if not container.streams.video:
        kinds = sorted({stream.type for stream in container.streams}) or ["no streams"]
        raise VideoError(path, "no-video-stream", f"holds no video stream (only {', '.join(kinds)})")
    stream = container.streams.video[0]
    if stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails):
        what = "only picture" if len(container.streams.video) == 1 else "first video stream"
        raise VideoError(path, "unsupported", f"is audio or unordered: its {what} is a cover image")
    if stream.codec_context is None:
        raise VideoError(path, "unsupported", "uses a codec that this FFmpeg cannot decode; convert it to H.264")
    if stream.codec_tag in ("encv", "drmi"):
        raise VideoError(path, "unsupported", "is encrypted (DRM); it needs a decrypted copy")
    return stream


def sniff(path: Path) -> None:
    """Refuse what is no video before FFmpeg sees it: missing, no regular file, empty, text (playlists, web pages).

    Text matters because FFmpeg follows playlists to other files and draws plain text as video.
    """
    try:
        if not path.exists():
            raise VideoError(path, "missing", "does not exist")
        if not path.is_file():
            raise VideoError(path, "not-a-video", "is not a regular file")
        with path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
    except OSError as error:
        raise VideoError(path, "missing", f"cannot be read ({error.strerror or error})") from None
    check_head(path, head)


def check_head(path: Path | str, head: bytes) -> None:
    """The part of `sniff` that looks at the first `SNIFFED_BYTES`."""
    if not head:
        raise VideoError(path, "not-a-video", "is empty (0 bytes)")
    if not head.startswith(b"YUV4MPEG2") and _is_text(head):
        raise VideoError(path, "not-a-video", "is a text file, not a video")


def first_frame(path: Path | str, container, stream) -> FirstFrame:
    """Decode up to the first frame that comes out. Raises VideoError: zero-frames, decode, unsupported."""
    stream.thread_type = "SLICE"  # no frame threads: they would decode many frames for one
    packets = 0
    failure: Exception | None = None
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.InvalidDataError as error:
                failure = failure or error
                break  # framepump stops here as well
            for frame in frames:
                return describe_frame(path, frame)
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        failure = error
    if packets == 0 and failure is None:
        raise VideoError(path, "zero-frames", "holds a video stream without frames")
    why = reason_of(failure) if failure else "the decoder gave nothing"
    raise VideoError(path, "decode", f"not even one frame decodes ({why})")


def describe_frame(path: Path | str, frame: av.VideoFrame) -> FirstFrame:
    if frame.width * frame.height > MAX_PIXELS:
        raise VideoError(path, "unsupported", f"has frames of {frame.width}x{frame.height}, over {MAX_PIXELS} pixels")
    orientation = UPRIGHT
    matrix = next((data for data in frame.side_data.keys() if data.type == SideDataType.DISPLAYMATRIX), None)
    if matrix is not None:
        try:
            orientation = orientation_from_matrix(bytes(matrix))
        except ValueError as error:
            raise VideoError(path, "unsupported", f"cannot be turned upright: {error}") from None
    return FirstFrame(frame.height, frame.width, orientation, frame.pts, frame.format.name)


def reason_of(error: Exception) -> str:
    """FFmpeg's own words without the file name and the Python class."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a character cut at the end
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f\x1b\ufeff" for character in text)
