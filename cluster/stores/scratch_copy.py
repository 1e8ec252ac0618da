"""A file of a remote storage copied to the scratch disk, block by block.

Not by fsspec's own `get_file`: that of S3 and GCS holds several hundred MB at a time in memory, says nothing until it
has them, lengthens the file before it is there and may mix two versions; that of SFTP says nothing at all.
"""

import io
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.stores.remote import is_web

TRIES = 3
# fsspec's files read as much again ahead. Fewer bytes would make the waits between requests count, more would be long
# on their way where many actors share a line.
BLOCK_BYTES = 8 << 20
SFTP_REQUESTS = 256  # of 32 kB on their way at a time: one by one they would wait for each other


def copy_file(
    fs: Any, path: str, target: Path, size: int | None, progress: Callable[[int], None] | None = None
) -> None:
    """Copies a file under a name of its own first: a broken copy is never taken for the file.

    size: what the listing says, None where it says nothing; progress gets the number of new bytes. Raises what the
    storage raises, and OSError where another number of bytes arrives.
    """
    progress = progress or (lambda count: None)
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    for attempt in range(1, TRIES + 1):
        try:
            if size is not None and size <= BLOCK_BYTES and not _streams(fs):
                # One request; opening a file is one more, and folders hold thousands of images.
                fs.get_file(path, str(part))
                progress(size)
            else:
                with _Counted(part, progress) as file:
                    _pour(fs, path, size, file)
            found = part.stat().st_size
            if size is not None and found != size:
                raise OSError(f"{found} bytes arrived of {size}; it may be changing while it is read")
            os.replace(part, target)
            return
        except (FileNotFoundError, PermissionError, NotImplementedError):
            raise
        except Exception:
            # Lost connections come in many types; what lasts is raised after the last try.
            if attempt == TRIES:
                raise
            time.sleep(0.2 * 4**attempt)
        finally:
            part.unlink(missing_ok=True)


class _Counted(io.BufferedWriter):
    """A file that tells of every piece that it is given."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._progress = progress

    def write(self, data: Any) -> int:
        count = super().write(data)
        self._progress(count)
        return count


def _streams(fs: Any) -> bool:
    """Storage that is asked once for a whole file, of whatever size: web servers need not know ranges, and FTP begins a
    new transfer for each. Both write into an open file piece by piece."""
    return is_web(fs) or fs.protocol == "ftp"


def _pour(fs: Any, path: str, size: int | None, file: _Counted) -> None:
    if _streams(fs):
        fs.get_file(path, file)
        return
    with fs.open(path, "rb", block_size=BLOCK_BYTES) as source:
        if hasattr(source, "prefetch"):  # paramiko's
            try:
                source.prefetch(size, SFTP_REQUESTS)
            except TypeError:  # before paramiko 3.3, which knows no bound
                source.prefetch(size)
        while block := source.read(BLOCK_BYTES):
            file.write(block)
