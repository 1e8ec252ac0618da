"""Files that take their place, a local path or any fsspec URL, only when they are complete; and those that keep it."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.stores.remote import connect, is_file
from cluster.stores.storage_errors import disk_explained, explained
from schemas.urls import public_url


def keep_existing(url: str, options: Mapping[str, Any] | None = None) -> None:
    """For manifests, which people draw and type into: what is there may be hours of somebody's work.

    Raises FileExistsError where the file is there, and says how to replace it; OSError where nobody can tell.
    """
    fs, path = connect(url, options)
    with explained(url, "read"):
        there = is_file(fs, path)
    if there:
        raise FileExistsError(
            f"{public_url(url)} is there already, perhaps with prompts or corrections made by hand: --overwrite "
            "replaces it, or give another --to"
        )


@contextmanager
def placed(url: str, suffix: str, options: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """A file to write. After an error nothing is left behind. Raises OSError that names `url` and the remedy."""
    with explained(url, "written"):
        fs, target = connect(url, dict(options or {}))
        if fs.isdir(target):
            raise IsADirectoryError("it is a folder")
        local = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        folder = None
        if local in ("file", "local"):
            folder = Path(target).parent
            folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".rendering-", suffix=suffix, dir=folder)
        os.close(handle)
    try:
        with disk_explained(url, "written"):
            yield Path(name)
        with explained(url, "written"):
            if folder is None:
                fs.put_file(name, target)
            else:
                mode = os.umask(0)
                os.umask(mode)
                os.chmod(name, 0o666 & ~mode)  # mkstemp made it for its owner alone
                os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
