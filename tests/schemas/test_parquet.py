"""Parquet from Python's bytes and files is read in one thread, so that nothing needs Python's lock afterwards."""

import io
import re
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.parquet import open_file, read_table

ROOT = Path(__file__).parents[2]


class Watched(io.BytesIO):
    """A file that notes which threads read it."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.threads: set[int] = set()

    def read(self, *size: int) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(*size)

    def readinto(self, buffer: bytearray) -> int:
        self.threads.add(threading.get_ident())
        return super().readinto(buffer)


@pytest.fixture
def made() -> tuple[pa.Table, bytes]:
    sink = pa.BufferOutputStream()
    table = pa.table({"a": [1, 2], "b": [[{"c": "x"}], None]}).replace_schema_metadata({"schema_name": "made"})
    pq.write_table(table, sink)
    return table, sink.getvalue().to_pybytes()


def test_bytes_buffers_and_open_files(made: tuple[pa.Table, bytes]) -> None:
    table, data = made
    for source in (data, pa.py_buffer(data), io.BytesIO(data)):
        found = read_table(source)
        assert found.to_pylist() == table.to_pylist()
        assert found.schema.metadata == table.schema.metadata
    assert read_table(data, ["b"]).to_pylist() == [{"b": [{"c": "x"}]}, {"b": None}]
    with pytest.raises(pa.ArrowInvalid, match="no column z"):
        read_table(data, ["a", "z"])
    with pytest.raises(pa.ArrowInvalid):
        read_table(b"PAR1 no")


def test_only_the_thread_that_asks_reads(made: tuple[pa.Table, bytes]) -> None:
    for read in (read_table, lambda source: open_file(source).read_row_group(0, use_threads=False)):
        file = Watched(made[1])
        assert read(file).num_rows == 2
        assert file.threads == {threading.get_ident()}


def test_no_command_reads_a_file_as_a_data_set() -> None:
    """`pq.read_table`, which does, made one in eight of the shortest commands abort on a loaded machine."""
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for room in ("jobs", "cluster", "schemas")
        for file in sorted((ROOT / room).rglob("*.py"))
        for line in file.read_text().splitlines()
        if re.search(r"\b(pq|parquet)\.read_table\(", line)
    ]
    assert not found, "\n".join(found)
