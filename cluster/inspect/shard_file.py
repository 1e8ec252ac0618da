"""A shard as a local file, for reading it more than once."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cluster.stores.posix_publish import BLOCK
from cluster.stores.storage import Storage


def fetch_shard(storage: Storage, name: str, folder: Path) -> tuple[Path, int, str]:
    """(path, size, SHA-256): the file itself on a local disk, otherwise a copy in `folder`.

    Raises FileNotFoundError, OSError.
    """
    digest, size = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(storage.open_input(name))
        path = Path(source.name) if storage.local else folder / name.rpartition("/")[2]
        target = None if storage.local else stack.enter_context(open(path, "wb"))
        while block := source.read(BLOCK):
            digest.update(block)
            size += len(block)
            if target is not None:
                target.write(block)
    return path, size, digest.hexdigest()


@contextlib.contextmanager
def local_copy(storage: Storage, name: str) -> Iterator[tuple[Path, int, str]]:
    """As fetch_shard; a copy is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stcn-shard-") as folder:
        yield fetch_shard(storage, name, Path(folder))


def frames_of(storage: Storage, name: str, video_id: str, object_id: int) -> np.ndarray:
    """Frames of one object in a shard, int64, with repeats. For the rare case that two shards' stretches overlap."""
    found = [np.empty(0, np.int64)]
    with local_copy(storage, name) as (path, _, _), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["video_id", "object_id", "frame_index"]):
            mine = np.asarray(batch["object_id"]) == object_id
            mine &= np.array([value == video_id for value in batch["video_id"].to_pylist()], bool)
            found.append(np.asarray(batch["frame_index"])[mine].astype(np.int64))
    return np.concatenate(found)
