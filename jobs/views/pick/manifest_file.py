"""The JSONL manifest that is worked on: read, watched, and written whole; only the line that changes is made anew."""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.manifest import ManifestError, Problem, parse_manifest
from schemas.manifest_formats import read_records
from schemas.manifest_rows import read_row


class Conflict(RuntimeError):
    """The row is not what the editor knew: it was changed elsewhere. Nothing was written."""


class Gone(LookupError):
    """No row has that key (any more)."""


@dataclass(frozen=True)
class PickRow:
    """One video of the manifest as it stands in the file.

    key: the number by which the page speaks of the video, fixed while the program runs; line: its place in the file,
    0-based; record: as decoded, with whatever foreign fields it has; video: absolute path or URL; revision changes
    when the line does.
    """

    key: int
    line: int
    record: Mapping[str, Any]
    video: str
    video_id: str
    revision: str

    @property
    def prompts(self) -> list[Any]:
        """As they stand in the record; empty where there are none."""
        prompts = self.record.get("prompts")
        return prompts if isinstance(prompts, list) else []


class ManifestFile:
    """The manifest at `path`, for any number of threads. Raises ManifestError, OSError.

    Every write puts the whole file in place in one step (temporary file, fsync, rename), after a look at what is on
    disk: rows that others changed are taken over, and never overwritten by an editor that did not know of it. Between
    that look and the rename another program could still write; other pick pages are kept out by a lock.
    """

    def __init__(self, path: Path):
        self.path = Path(os.path.realpath(path))
        self.base = str(self.path.parent)
        self._lock = threading.RLock()
        self._keys: dict[str, int] = {}
        self._lines: list[bytes] = []
        self._rows: dict[int, PickRow] = {}
        self._stamp: tuple | None = None
        self._digest = b""
        self._problems: dict[str, list[Problem]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes over what others wrote to the file. Raises ManifestError (the rows known before stay), OSError."""
        with self._lock:
            if _stamp(self.path) != self._stamp:
                self._read()

    def rows(self) -> list[PickRow]:
        """In the file's order."""
        with self._lock:
            return sorted(self._rows.values(), key=lambda row: row.line)

    def row(self, key: int) -> PickRow:
        """Raises Gone."""
        with self._lock:
            if key not in self._rows:
                raise Gone(f"the manifest has no video number {key} (any more)")
            return self._rows[key]

    def problems(self, row: PickRow) -> list[Problem]:
        """What jobs.annotate would refuse in the row; that it has no prompt yet does not count."""
        with self._lock:
            if row.revision not in self._problems:
                if len(self._problems) > 2 * len(self._rows) + 100:
                    self._problems.clear()  # mostly of rows as they were before edits
                line = json.dumps(row.record).encode()
                try:
                    parse_manifest("row.jsonl", line, self.base)
                    found = []
                except ManifestError as error:
                    found = error.problems if row.prompts else [p for p in error.problems if p.column != "prompts"]
                self._problems[row.revision] = found
            return self._problems[row.revision]

    def change(self, key: int, revision: str, edit: Callable[[PickRow], Mapping[str, Any]]) -> PickRow:
        """Writes the row that `edit` makes of the present one. Raises Conflict, Gone, ManifestError, OSError, and
        what `edit` raises; nothing is written then."""
        with self._lock, _locked(self.path.parent):
            # By content: a file can change within one tick of its time stamp.
            data = self.path.read_bytes()
            if _digest(data) != self._digest:
                self._take(data)
            row = self.row(key)
            if row.revision != revision:
                raise Conflict(f"{row.video_id} was changed elsewhere in the meantime")
            record = edit(row)
            line = json.dumps(record, ensure_ascii=False).encode()
            if line == json.dumps(row.record, ensure_ascii=False).encode():
                return row
            lines = [*self._lines]
            lines[row.line] = line
            data = b"\n".join(lines)
            write_whole(self.path, data)
            self._stamp, self._digest, self._lines = _stamp(self.path), _digest(data), lines
            self._rows[key] = replace(row, record=record, revision=_revision(line))
            return self._rows[key]

    def _read(self) -> None:
        stamp = _stamp(self.path)
        self._take(self.path.read_bytes())
        self._stamp = stamp

    def _take(self, data: bytes) -> None:
        # What is only wrong with prompts is for the editor to mend; rows that cannot be told apart are refused.
        records, _, problems = read_records(self.path.name, data)
        # Split as read_records does, so that its line numbers fit; a byte order mark stays with the first line.
        lines = data.split(b"\n")
        if not records and not problems:
            problems = [Problem(0, "", "it has no rows", "Write one row per video")]
        found: list[tuple[int, Any, str, str]] = []
        ids: dict[str, int] = {}
        for number, record in records:
            row, wrong = read_row(number, record, self.base)
            if row is None:
                problems += wrong
                continue
            if row.video_id in ids:
                reason = f"{row.video_id!r} is also the video_id of row {ids[row.video_id]}"
                problems.append(Problem(number, "video_id", reason, "Give every row its own video_id"))
            ids[row.video_id] = number
            found.append((number - 1, record, row.video, row.video_id))
        if problems:
            raise ManifestError(self.path.name, problems)
        rows = {}
        for line, record, video, video_id in found:
            key = self._keys.setdefault(video_id, len(self._keys))
            rows[key] = PickRow(key, line, record, video, video_id, _revision(lines[line]))
        self._lines, self._rows, self._digest = lines, rows, _digest(data)


def write_whole(path: Path, data: bytes) -> None:
    """Puts `data` in the place of the file in one step: whoever reads it sees the old one or the new one, whole, also
    after a crash. Its mode and owner stay. Raises OSError; the old file is untouched then."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        old = path.stat()
    except FileNotFoundError:
        old = None
    try:
        with open(temporary, "xb") as file:
            if old is not None:
                os.fchmod(file.fileno(), old.st_mode & 0o777)
                with contextlib.suppress(OSError):  # only root may give a file away
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks do not sync folders
            os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other pick pages from writing into the folder. Where the disk has no locks there is none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> tuple:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def _revision(line: bytes) -> str:
    return hashlib.blake2b(line.strip(), digest_size=12).hexdigest()
