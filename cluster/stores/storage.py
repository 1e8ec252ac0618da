"""The output folder on any fsspec storage: whole files only, published in one call."""

import io
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from cluster.stores.object_publish import ObjectPublisher
from cluster.stores.posix_publish import TMP, PosixPublisher
from cluster.stores.remote import connect, is_file
from cluster.stores.storage_errors import explained
from schemas.urls import is_local, public_url, uncached

_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


@dataclass(frozen=True)
class Published:
    """What a publish did. outcome: created; same: it was there already, bit for bit; replaced: it was another."""

    name: str
    size: int
    sha256: str
    outcome: str


@dataclass(frozen=True)
class StorageProbe:
    """What the storage can do. kind: local, object, memory or other.

    exclusive: a second writer of a name is noticed. shared: other processes see what is written. swept: stale
    temporary files that were removed. message: all of it on one line.
    """

    kind: str
    exclusive: bool
    shared: bool
    swept: int
    message: str


class Storage:
    """Files under one URL. Picklable; every process has its own connection; listings are never cached.

    url may be a path (made absolute), file://, s3://, memory:// or another fsspec URL; options are fsspec's storage
    options. Errors are FileNotFoundError, PermissionError or OSError that name the URL and the remedy; ValueError for
    names that leave the folder.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None):
        url = os.fspath(url)
        if not url.strip():
            raise OSError("the output URL is empty. Give a path or a URL.")
        if _ONE_SLASH.match(url):
            raise OSError(
                f"{public_url(url)} has one slash after the colon. Write {public_url(url).replace(':/', '://', 1)}."
            )
        self._given, self.options = url, dict(options or {})
        self._exclusive: bool | None = None
        self._process, self._cached = 0, None
        fs, root = self._connect()
        self.local = isinstance(fs, fsspec.implementations.local.LocalFileSystem)
        if not root.strip("/") and not self.local and "memory" not in fs.protocol:
            raise OSError(f"{public_url(url)} names no bucket. Give {url.partition('://')[0]}://BUCKET/FOLDER.")
        if self.local:
            self._given = root
        self.url = public_url(self._given).rstrip("/") or "/"

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": 0, "_cached": None}

    def probe(self) -> StorageProbe:
        """Writes twice, reads back, lists and cleans up. Raises OSError where the folder cannot be used."""
        name = f"{TMP}/probe-{uuid.uuid4().hex}"
        with explained(self.url, "written"):
            publisher, swept = self._publisher(), 0
            if isinstance(publisher, PosixPublisher):
                swept = publisher.sweep()
                exclusive = publisher.can_link()
                publisher.publish(name, b"first")
            else:
                exclusive = publisher.probe_exclusive(name)
        self._exclusive = exclusive
        if self.read(name) != b"first" or name.rpartition("/")[2] not in {n.rpartition("/")[2] for n in self.list(TMP)}:
            raise OSError(f"{self.url} does not show what was written to it. Use storage that is consistent.")
        cleaned = True
        try:
            self.delete(name)
        except OSError:
            cleaned = False
        return self._describe(publisher, exclusive, swept, cleaned)

    def publish(self, name: str, data: bytes | Path) -> Published:
        """Makes `data` (finished bytes, or a finished file) visible under `name`, whole, in one step.

        The same again is "same". Other bytes under the name are replaced, and the outcome says so: two writers met,
        or a unit that should be deterministic is not. After an error, or death at any instant, nothing or everything
        is visible, and the retry succeeds. A Path is streamed, and stays where it is.
        """
        _check(name)
        with explained(f"{self.url}/{name}", "written"):
            publisher = self._publisher()
            size, digest, outcome = publisher.publish(name, data)
            self._remember(publisher)
        return Published(name, size, digest, outcome)

    def create(self, name: str, data: bytes) -> bool:
        """Publishes `data` unless `name` is taken, and says whether it did: the first writer wins.

        Where the probe says that there is no exclusive create, two writers of the same instant may both succeed.
        """
        _check(name)
        with explained(f"{self.url}/{name}", "written"):
            publisher = self._publisher()
            created = publisher.create(name, data)
            self._remember(publisher)
        return created

    def read(self, name: str) -> bytes:
        """All bytes. Raises FileNotFoundError."""
        with self.open_input(name) as file, explained(f"{self.url}/{name}", "read"):
            return file.read()

    def open_input(self, name: str) -> io.IOBase:
        """The file, seekable, for reading. Raises FileNotFoundError."""
        _check(name)
        with explained(f"{self.url}/{name}", "read"):
            if self.local:
                return open(self._path(name), "rb")
            return self._fs.open(self._path(name), "rb")

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name now."""
        _check(name)
        with explained(f"{self.url}/{name}", "read"):
            return is_file(self._fs, self._path(name))

    def list(self, prefix: str = "") -> dict[str, int]:
        """Name -> size of all files in the folder `prefix` and below, as they are now, sorted; empty without it.

        Temporary files of writers at work (`_run/tmp`) are left out unless asked for.
        """
        prefix = prefix.strip("/")
        if prefix:
            _check(prefix)
        with explained(f"{self.url}/{prefix}".rstrip("/"), "listed"):
            found = self._list_disk(prefix) if self.local else self._list_objects(prefix)
        hidden = TMP + "/"
        return {n: size for n, size in sorted(found.items()) if prefix.startswith(TMP) or not n.startswith(hidden)}

    def holds(self, url: str, folder: str = "") -> bool:
        """Whether `url` (a path or a full URL) is this folder of the output or lies in it; of the output itself
        without `folder`. Links on disks are followed; other URLs are compared as text."""
        if self.local != is_local(url):
            return False
        own, target = f"{self.url}/{folder}".rstrip("/"), public_url(url).rstrip("/")
        if self.local:
            own, target = (str(Path(path).resolve()) for path in (self._path(folder), connect(url)[1]))
        return f"{target}/".startswith(f"{own}/")

    def keep_out(self, url: str, folders: Iterable[str]) -> None:
        """Raises ValueError where `url` (a path or a full URL) lies in one of these folders of the output."""
        folder = next((folder for folder in folders if self.holds(url, folder)), None)
        if folder is not None:
            raise ValueError(
                f"{public_url(url)} lies among the files of the table {folder} of {self.url}, where readers expect "
                "nothing else: write it elsewhere"
            )

    def delete(self, name: str) -> None:
        """Removes a file; nothing where there is none."""
        _check(name)
        with explained(f"{self.url}/{name}", "deleted"):
            try:
                os.unlink(self._path(name)) if self.local else self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                pass

    def _describe(self, publisher: Any, exclusive: bool, swept: int, cleaned: bool) -> StorageProbe:
        if self.local:
            kind, how = (
                "local",
                "temporary file, fsync, " + ("hard link" if exclusive else "rename (no hard links here)"),
            )
        elif "memory" in self._fs.protocol:
            kind, how = "memory", "visible to this process only"
        elif publisher.atomic:
            created = "exclusive create" if exclusive else "no exclusive create: overwrites, lost races are compared"
            kind, how = "object", f"whole-object PUT, {created}"
        else:
            kind, how = "other", "temporary file and rename as this backend does it"
        message = f"{self.url}: writable ({how})"
        if swept:
            message += f"; removed {swept} temporary files of writers that died"
        if not cleaned:
            message += "; it does not allow deleting, a probe file stays in _run/tmp"
        return StorageProbe(kind, exclusive, kind != "memory", swept, message)

    def _publisher(self) -> PosixPublisher | ObjectPublisher:
        if self.local:
            return PosixPublisher(self._root)
        return ObjectPublisher(self._fs, self._root, self._exclusive)

    def _remember(self, publisher: PosixPublisher | ObjectPublisher) -> None:
        if isinstance(publisher, ObjectPublisher) and publisher.exclusive is False:
            self._exclusive = False

    def _list_disk(self, prefix: str) -> dict[str, int]:
        found, root = {}, self._path(prefix) if prefix else self._root
        for folder, _, names in os.walk(root, onerror=_raise_unless_missing):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    found[os.path.relpath(path, self._root)] = os.stat(path).st_size
                except FileNotFoundError:
                    continue  # published and removed while we look
        return found

    def _list_objects(self, prefix: str) -> dict[str, int]:
        self._fs.invalidate_cache()
        try:
            entries = self._fs.find(self._path(prefix) if prefix else self._root, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._root.rstrip("/")) + 1
        return {path[start:]: int(entry["size"] or 0) for path, entry in entries.items() if len(path) > start}

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @property
    def _fs(self) -> Any:
        return self._connect()[0]

    @property
    def _root(self) -> str:
        return self._connect()[1]

    def _connect(self) -> tuple[Any, str]:
        # A connection does not survive a fork: each process makes its own.
        if self._process != os.getpid():
            with explained(self._given, "opened"):
                fixed = uncached(self._given) | {"skip_instance_cache": True}
                fs, root = fsspec.core.url_to_fs(self._given, **(fixed | self.options))
            self._cached, self._process = (fs, root.rstrip("/")), os.getpid()
        return self._cached


def _check(name: str) -> None:
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is no name inside the output folder")


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
