"""Connections to where the input lies: any fsspec URL, read-only."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cluster.stores.storage_errors import MISSING, answered, explained
from schemas.urls import uncached

# An answer may take as long as it likes, as long as it goes on.
WEB_CONNECT_SECONDS, WEB_SILENT_SECONDS = 30.0, 120.0


def connect(url: str, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """(filesystem, path in it). Listings are never cached. Raises OSError where the URL's kind is not known."""
    with explained(url, "opened"):
        fs, path = fsspec.core.url_to_fs(url, **(uncached(url) | dict(options or {})))
        if is_web(fs):
            # Its first request is yet to come. Not as an option, which would hide fsspec's own configuration.
            fs.client_kwargs = {"timeout": _web_timeout()} | fs.client_kwargs
    return fs, path


def _web_timeout() -> Any:
    """Otherwise aiohttp ends whatever takes longer than five minutes in all, such as the copy of a long video."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=WEB_CONNECT_SECONDS, sock_read=WEB_SILENT_SECONDS)


def is_web(fs: Any) -> bool:
    """Whether `fs` is HTTP or HTTPS."""
    return "https" in fs.protocol


def is_disk(fs: Any) -> bool:
    """Whether `fs` is this machine's own file system."""
    return isinstance(fs, LocalFileSystem)


def look_up(fs: Any, path: str) -> dict[str, Any]:
    """The entry (`size`, `type`, ...) of a file or folder. Raises FileNotFoundError only where there is none, otherwise
    what the storage raises: fsspec's HTTP says "not found" to every answer that it does not like, and to none at all.
    """
    try:
        return fs.info(path)
    except FileNotFoundError as error:
        cause = error.__cause__
        if not is_web(fs) or cause is None or isinstance(cause, FileNotFoundError) or answered(cause) in MISSING:
            raise
    if isinstance(cause, (TypeError, ValueError)):  # an option or a URL that cannot be
        raise OSError(str(cause))
    raise cause


def is_file(fs: Any, path: str) -> bool:
    """Whether there is a file. Unlike fsspec's own `isfile`, a lost connection or missing access is not "no"."""
    try:
        return look_up(fs, path)["type"] != "directory"
    except (FileNotFoundError, NotADirectoryError):
        return False


def full_url(fs: Any, path: str) -> str:
    """The path in `fs` as a URL; a plain absolute path on the local disk."""
    return str(Path(path)) if is_disk(fs) else fs.unstrip_protocol(path)


def list_folder(fs: Any, path: str) -> list[dict[str, Any]]:
    """Entries (`name`, `size`, `type`) directly in the folder, sorted by name; hidden ones are left out."""
    own = path.rstrip("/")
    return tidy(fs, [entry for entry in fs.ls(path, detail=True) if entry["name"].rstrip("/") not in ("", own)])


def tidy(fs: Any, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries without hidden ones, sorted by name; links on the local disk are followed."""
    kept = []
    for entry in entries:
        if entry_name(entry).startswith("."):
            continue
        if is_disk(fs) and entry.get("islink"):
            if not os.path.exists(entry["name"]):
                continue
            kind = "directory" if os.path.isdir(entry["name"]) else "file"
            entry = entry | {"type": kind, "size": os.path.getsize(entry["name"])}
        kept.append(entry)
    return sorted(kept, key=entry_name)


def entry_name(entry: Mapping[str, Any]) -> str:
    """Last part of an entry's path."""
    return entry["name"].rstrip("/").rpartition("/")[2]
