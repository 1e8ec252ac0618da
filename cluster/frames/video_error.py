"""The one exception that video input raises."""

from pathlib import Path

ERROR_CLASSES = (
    "missing", "not-a-video", "no-video-stream", "zero-frames", "unsupported", "decode",
    "decoder-crash", "decoder-stall",
)  # fmt: skip


class VideoError(Exception):
    """A video or image folder that cannot be read; it becomes a failure row, never a crash.

    `.error_class` is one of `ERROR_CLASSES`; `.path` the file as text; `str()` is a plain message that names
    the file. Made of strings only, so it travels between processes (framepump's own errors do not unpickle).
    """

    def __init__(self, path: Path | str, error_class: str, reason: str):
        if error_class not in ERROR_CLASSES:
            raise ValueError(f"unknown error class {error_class!r}; one of {ERROR_CLASSES}")
        self.path, self.error_class, self.reason = printable(str(path)), error_class, printable(reason)
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self):
        return type(self), (self.path, self.error_class, self.reason)


def no_frames(path: Path | str, start: int, end: int | None, decoded: int, error: str | None) -> VideoError:
    """Of a range in which no frame is, end exclusive (None: to the end). error: why decoding ended early."""
    until = "the end" if end is None else f"frame {end - 1}"
    why = f"; {error}" if error else ""
    what = f"has no frame from frame {start} to {until}: only {decoded} frames decode{why}"
    return VideoError(path, "zero-frames", what)


def printable(text: str) -> str:
    """`text` without lone surrogates (file names that are not UTF-8), so that it can be printed and stored."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
