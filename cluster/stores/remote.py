"""Connections to where the input lies: any fsspec URL, read-only."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cluster.stores.storage_errors import explained


def connect(url: str, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """(filesystem, path in it). Listings are never cached. Raises OSError where the URL's kind is not known."""
    with explained(url, "opened"):
        return fsspec.core.url_to_fs(url, **({"use_listings_cache": False} | dict(options or {})))


def is_disk(fs: Any) -> bool:
    """Whether `fs` is this machine's own file system."""
    return isinstance(fs, LocalFileSystem)


def is_file(fs: Any, path: str) -> bool:
    """Whether there is a file. Unlike fsspec's own `isfile`, a lost connection or missing access is not "no"."""
    try:
        return fs.info(path)["type"] != "directory"
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
