"""What every Parquet file of the output says about itself: schema name, version, units of its columns."""

import json
from collections.abc import Iterable, Mapping

import pyarrow as pa

PRODUCER = "stcn-ray"
# Where `datasets` has another name than Arrow.
_HF_TYPES = {"double": "float64", "float": "float32"}


def column(name: str, kind: pa.DataType, description: str, unit: str | None = None, nullable: bool = False) -> pa.Field:
    """A documented column: its meaning and unit are in the field's metadata, in the file itself."""
    notes = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=notes)


def described_schema(name: str, version: str, columns: Iterable[pa.Field], **notes: str) -> pa.Schema:
    """The columns with `file_metadata` and, for `datasets.load_dataset`, the `huggingface` features."""
    columns = list(columns)
    metadata = file_metadata(name, version, **notes) | {b"huggingface": _features(columns)}
    return pa.schema(columns, metadata=metadata)


def file_metadata(name: str, version: str, **extra: object) -> dict[bytes, bytes]:
    """Key-value metadata for a file: schema_name, schema_version (semver), producer and `extra` (hashes, counts, ...).

    Texts stay as they are, None is left out, everything else becomes JSON.
    """
    record: dict[str, object] = {"schema_name": name, "schema_version": version, "producer": PRODUCER} | extra
    return {
        key.encode(): (value if isinstance(value, str) else json.dumps(value, sort_keys=True)).encode()
        for key, value in record.items()
        if value is not None
    }


def check_metadata(metadata: Mapping[bytes, bytes] | None, name: str, version: str, what: str) -> None:
    """Raises ValueError where a file's metadata is another schema's or of another major version. `what` names it."""
    found = metadata or {}
    found_name = found.get(b"schema_name", b"").decode("utf-8", "replace")
    found_version = found.get(b"schema_version", b"").decode("utf-8", "replace")
    if found_name != name:
        raise ValueError(f"{what} is not a {name} table (its schema_name is {found_name or 'missing'})")
    if found_version.split(".")[0] != version.split(".")[0]:
        raise ValueError(f"{what} has {name} version {found_version}, this program reads {version}: use the other one")


def write_options(schema: pa.Schema, plain: Iterable[str], sort: Iterable[str]) -> dict[str, object]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter`: zstd 3, page index, declared order.

    plain: columns without dictionary and statistics (large bytes that never repeat).
    """
    import pyarrow.parquet as pq

    plain = set(plain)
    texts = [f.name for f in schema if f.name not in plain and (pa.types.is_string(f.type) or f.name == "object_id")]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": texts,
        "write_statistics": [f.name for f in schema if f.name not in plain],
        "write_page_index": True,
        "store_schema": True,
        "sorting_columns": pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in sort]),
    }


def _features(columns: Iterable[pa.Field]) -> bytes:
    return json.dumps({"info": {"features": {field.name: _feature(field.type) for field in columns}}}).encode()


def _feature(kind: pa.DataType) -> dict[str, object] | list[object]:
    if pa.types.is_list(kind):
        # `datasets` turns a Sequence of records inside out; a list of one stays as it is.
        if pa.types.is_struct(kind.value_type):
            return [_feature(kind.value_type)]
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": _HF_TYPES.get(str(kind), str(kind)), "_type": "Value"}
