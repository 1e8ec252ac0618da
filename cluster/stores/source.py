"""Input files on any fsspec storage: what is there, a scratch copy of it, its bytes."""

import datetime
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.frames.image_folder import SUFFIXES as IMAGE_SUFFIXES
from cluster.stores.remote import connect, entry_name, is_disk, list_folder, look_up
from cluster.stores.scratch_copy import copy_file
from cluster.stores.storage_errors import explained
from cluster.stores.video_folder import list_manifest_rows, list_videos
from schemas.urls import file_name, public_url

__all__ = [
    "SourceStat",
    "content_version",
    "fetch_source",
    "list_manifest_rows",
    "list_videos",
    "read_source",
    "stat_source",
]

# In the order of how well they tell contents apart.
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class SourceStat:
    """What a listing says. size in bytes (of a folder: of all its files); None where the server does not say.

    version changes when the contents do: etag or modification time; of a folder a hash over names and sizes.
    """

    exists: bool
    is_dir: bool
    size: int | None
    version: str | None


def stat_source(url: str, options: Mapping[str, Any] | None = None) -> SourceStat:
    """Looks the source up. A missing one is an answer; no access or no connection raises OSError."""
    fs, path = connect(url, options)
    with explained(url, "looked up"):
        try:
            if is_disk(fs):
                found = os.stat(path)
                if not os.path.isdir(path):
                    if _is_special(found.st_mode):
                        return SourceStat(False, False, None, None)
                    return SourceStat(True, False, found.st_size, str(found.st_mtime_ns))
                return _folder_stat(fs, path)
            entry = look_up(fs, path)
            if entry["type"] == "directory":
                return _folder_stat(fs, path)
        except (FileNotFoundError, NotADirectoryError):
            return SourceStat(False, False, None, None)
    return SourceStat(True, False, entry.get("size"), _version(entry))


def fetch_source(
    url: str,
    scratch: Path,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """A local path with the source: itself where it is local, otherwise a copy in the folder `scratch`.

    A remote folder is copied with the images directly in it. progress gets the number of new bytes now and then.
    Raises FileNotFoundError, PermissionError, or OSError that name the URL.
    """
    fs, path = connect(url, options)
    if is_disk(fs):
        return Path(path)
    target = scratch / _safe_name(url)
    with explained(url, "read"):
        entry = look_up(fs, path)
        scratch.mkdir(parents=True, exist_ok=True)
        _check_space(scratch, entry.get("size") or 0)
        if entry["type"] != "directory":
            copy_file(fs, path, target, entry.get("size"), progress)
            return target
        images = [e for e in list_folder(fs, path) if entry_name(e).lower().endswith(IMAGE_SUFFIXES)]
        _check_space(scratch, sum(image["size"] or 0 for image in images))
        target.mkdir(exist_ok=True)
        for image in images:
            copy_file(fs, image["name"], target / entry_name(image), image["size"], progress)
    return target


def read_source(url: str, options: Mapping[str, Any] | None = None) -> bytes:
    """All bytes of a file. Raises FileNotFoundError, PermissionError, or OSError that name the URL."""
    fs, path = connect(url, options)
    with explained(url, "read"):
        special = is_disk(fs) and _is_special(os.stat(path).st_mode)
    if special:
        raise IsADirectoryError(f"{public_url(url)} is a device or pipe: give a file")
    with explained(url, "read"):
        return fs.cat_file(path)


def content_version(url: str, options: Mapping[str, Any] | None = None) -> str:
    """A version that only the bytes of a file decide; reads all of it. Raises OSError that names the URL."""
    fs, path = connect(url, options)
    with explained(url, "read"), fs.open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _is_special(mode: int) -> bool:
    """Whether it is a device, pipe or socket: reading one need not come to an end."""
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _folder_stat(fs: Any, path: str) -> SourceStat:
    files = [(entry_name(e), e["size"] or 0, _version(e)) for e in list_folder(fs, path) if e["type"] == "file"]
    digest = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()
    return SourceStat(True, True, sum(size for _, size, _ in files), digest)


def _version(entry: Mapping[str, Any]) -> str | None:
    value = next((entry[key] for key in VERSIONS if entry.get(key) not in (None, "")), None)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return None if value is None else str(value).strip('"')


def _safe_name(url: str) -> str:
    """The source's own name, as a name that any disk takes; the suffix stays."""
    name = "".join(char if char.isalnum() or char in "._-" else "_" for char in file_name(public_url(url)))
    return name[-120:].lstrip(".") or "source"


def _check_space(scratch: Path, size: int) -> None:
    free = shutil.disk_usage(scratch).free
    if size > free:
        raise OSError(
            f"it has {size} bytes, the scratch disk at {scratch} only {free} free; set TMPDIR to a larger one"
        )
