"""Publishing on an object store (or any fsspec backend that is no local disk): one PUT of the whole object."""

import errno
import hashlib
import time
import uuid
from pathlib import Path
from typing import Any

from cluster.stores.posix_publish import BLOCK, TMP, blocks, file_digest
from cluster.stores.remote import is_file
from cluster.stores.storage_errors import error_code

# Whole-object PUTs that become visible at once, when they are complete.
ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "r2", "memory"}
CONFLICT_TRIES = 6


class ObjectPublisher:
    """Exclusive create where the backend has it, overwriting PUT where not.

    Overwriting under a deterministic name is exactly-once already; the exclusive create only tells when two writers
    met, or a unit was done twice. exclusive: True, False, or None while not known.
    """

    def __init__(self, fs: Any, root: str, exclusive: bool | None = None):
        protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        self._fs, self._root = fs, root
        self.atomic = bool(ATOMIC & set(protocols))
        self.exclusive = exclusive if self.atomic else False

    def publish(self, name: str, data: bytes | Path) -> tuple[int, str, str]:
        """(size, sha256, outcome)."""
        size, digest = _measure(data)
        path = self._path(name)
        created = self._create(path, data) if self.exclusive is not False else None
        if created:
            return size, digest, "created"
        earlier = self.digest(name)
        if earlier == digest:
            return size, digest, "same"
        self._overwrite(path, data)
        return size, digest, "created" if earlier is None else "replaced"

    def create(self, name: str, data: bytes) -> bool:
        """Publishes `data` unless the name is taken; whether it did. Without exclusive create two may both succeed."""
        path = self._path(name)
        created = self._create(path, data) if self.exclusive is not False else None
        if created is not None:
            return created
        if is_file(self._fs, path):
            return False
        self._overwrite(path, data)
        return True

    def digest(self, name: str) -> str | None:
        """Hex SHA-256 of an object, None where there is none."""
        found = hashlib.sha256()
        try:
            with self._fs.open(self._path(name), "rb", block_size=BLOCK) as file:
                while block := file.read(BLOCK):
                    found.update(block)
        except FileNotFoundError:
            return None
        return found.hexdigest()

    def probe_exclusive(self, name: str) -> bool:
        """Writes the object `name` twice, exclusively: True where the second is refused."""
        self.exclusive = None if self.atomic else False
        path = self._path(name)
        if not self.atomic or not self._create(path, b"first"):
            self.exclusive = False
            self._overwrite(path, b"first")
            return False
        try:
            self.exclusive = self._create(path, b"second") is False
        finally:
            self._overwrite(path, b"first")
        return self.exclusive

    def _create(self, path: str, data: bytes | Path) -> bool | None:
        """True: written; False: the name is taken; None: the backend has no exclusive create."""
        for attempt in range(CONFLICT_TRIES):
            try:
                self._put(path, data, mode="create")
                return True
            except FileExistsError:
                return False
            except (TypeError, NotImplementedError):
                self.exclusive = False
                return None
            except OSError as error:
                code = error_code(error)
                if code in ("PreconditionFailed", "412"):
                    return False
                if code in ("NotImplemented", "501") or error.errno == errno.ENOSYS:
                    self.exclusive = False
                    return None
                if code not in ("ConditionalRequestConflict", "OperationAborted", "409"):
                    raise
                last = error  # two writers at the same moment: ask again
                time.sleep(0.1 * 2**attempt)
        raise last

    def _overwrite(self, path: str, data: bytes | Path) -> None:
        if self.atomic:
            self._put(path, data)
            return
        # An unknown backend: readers of `masks/*.parquet` must not see it growing.
        temporary = self._path(f"{TMP}/{uuid.uuid4().hex}")
        self._fs.makedirs(temporary.rpartition("/")[0], exist_ok=True)
        self._put(temporary, data)
        try:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if is_file(self._fs, path):
                self._fs.rm_file(path)
            self._fs.mv(temporary, path)
        finally:
            if is_file(self._fs, temporary):
                self._fs.rm_file(temporary)

    def _put(self, path: str, data: bytes | Path, **mode: str) -> None:
        if isinstance(data, Path):
            self._fs.put_file(str(data), path, **mode)
        else:
            self._fs.pipe_file(path, data, **mode)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _measure(data: bytes | Path) -> tuple[int, str]:
    if isinstance(data, Path):
        digest = file_digest(data)
        if digest is None:
            raise FileNotFoundError(errno.ENOENT, "the finished file is gone", str(data))
        return data.stat().st_size, digest
    found = hashlib.sha256()
    for block in blocks(data):
        found.update(block)
    return len(data), found.hexdigest()
