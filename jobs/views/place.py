"""Files that take their place, a local path or any fsspec URL, only when they are complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def placed(url: str, suffix: str) -> Iterator[Path]:
    """A file to write. After an error nothing is left behind."""
    import fsspec

    fs, target = fsspec.core.url_to_fs(url)
    local = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    folder = None
    if local in ("file", "local"):
        folder = Path(target).parent
        folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".rendering-", suffix=suffix, dir=folder)
    os.close(handle)
    try:
        yield Path(name)
        if folder is None:
            fs.put_file(name, target)
        else:
            mode = os.umask(0)
            os.umask(mode)
            os.chmod(name, 0o666 & ~mode)  # mkstemp made it for its owner alone
            os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
