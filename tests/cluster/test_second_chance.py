import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.finalise import failure_name
from cluster.resume import OutputState
from cluster.second_chance import to_retry
from cluster.stores.storage import Storage
from schemas import failures

UNITS = {"a" * 32: "decoder-crash", "b" * 32: "not-a-video", "c" * 32: None}


def empty() -> bytes:
    """A table of failures without a row."""
    sink = pa.BufferOutputStream()
    pq.write_table(failures.SCHEMA.empty_table(), sink)
    return sink.getvalue().to_pybytes()


@pytest.fixture(params=["no table", "no row"])
def output(tmp_path, request):
    storage = Storage(str(tmp_path / "out"))
    for unit_id, kind in UNITS.items():
        name = failure_name(unit_id, 2, "final")
        if kind is None:
            storage.publish(name, b"not a table" if request.param == "no table" else empty())
            continue
        schema = pa.schema([column.with_nullable(True) for column in failures.SCHEMA], failures.SCHEMA.metadata)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([{"unit_id": unit_id, "error_class": kind}], schema), sink)
        storage.publish(name, sink.getvalue().to_pybytes())
    return storage, OutputState.of(storage.list("failures"))


@pytest.mark.parametrize(
    "asked, expected", [(None, ""), ("", "abc"), ("decoder-crash", "a"), ("not-a-video", "b"), ("stall", "")]
)
def test_all_or_one_class_and_a_damaged_row_only_with_all(output, asked, expected):
    storage, state = output
    said = []
    assert sorted(unit_id[0] for unit_id in to_retry(storage, state, asked, said.append)) == list(expected)
    there = "decoder-crash (1), not-a-video (1), unreadable-failure-row (1)"
    assert said == ([f"--retry-failed stall: no failed video has this class; there are: {there}"] * (asked == "stall"))
