"""Parquet files that are read from Python's bytes or files, in the thread that asks."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# For ParquetFile's own read and read_row_group, beside `open_file`.
IN_THIS_THREAD = {"use_threads": False}


def open_file(source: Any) -> pq.ParquetFile:
    """source: bytes, a Buffer or an open file of Python's. Raises pa.ArrowException, OSError.

    Neither Arrow's threads nor its read-ahead: they may let go of the last of `source` a moment after the rows are
    handed out, and need Python's lock for that. A command that ends just then cannot give it to them any more, and
    dies by SIGABRT ("terminate called without an active exception") instead of with its exit code.
    """
    return pq.ParquetFile(
        pa.BufferReader(source) if isinstance(source, bytes | pa.Buffer) else source, pre_buffer=False
    )


def read_table(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a small file; raises what `open_file` does. `pq.read_table` reads in threads, always."""
    file = open_file(source)
    missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
    if missing:
        raise pa.ArrowInvalid(f"it has no column {missing[0]}")
    return file.read(columns=None if columns is None else list(columns), **IN_THIS_THREAD)
