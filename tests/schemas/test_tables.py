"""The output tables: documented columns, metadata, and every usual reader."""

import datetime
import io
import json

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from schemas import failures, masks, metadata, tracks, videos
from schemas.urls import parent, public_url

TABLES = (masks, tracks, videos, failures)
IDS = [table.NAME for table in TABLES]


def example_rows(table, count=3):
    """Rows with a value of the right type in every column; nullable ones are null in the last row."""
    values = {
        "string": "a",
        "int32": 1,
        "int64": 2,
        "double": 0.5,
        "float": 0.25,
        "bool": True,
        "binary": b"PZ`<",
        "list<element: int32>": [0, 5],
        str(videos.SHARDS): [{"unit_id": "a", "rows": 2, "bytes": 3, "sha256": "b"}],
        "timestamp[us, tz=UTC]": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    }
    rows = [{field.name: values[str(field.type)] for field in table.SCHEMA} for _ in range(count)]
    rows[-1].update({field.name: None for field in table.SCHEMA if field.nullable})
    return rows


def write(path, table, count=3):
    with pq.ParquetWriter(path, table.SCHEMA, **table.write_options()) as writer:
        writer.write_table(pa.Table.from_pylist(example_rows(table, count), schema=table.SCHEMA))
    return path


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_every_column_is_documented_in_the_file_itself(table, tmp_path):
    read = pq.read_schema(write(tmp_path / "x.parquet", table))
    for field in read:
        assert len(field.metadata[b"description"]) > 5, field.name
    assert read.metadata[b"schema_name"] == table.NAME.encode()
    assert read.metadata[b"schema_version"] == table.VERSION.encode()
    assert read.equals(table.SCHEMA, check_metadata=False)
    metadata.check_metadata(read.metadata, table.NAME, table.VERSION, "x.parquet")


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_every_usual_reader_reads_it(table, tmp_path):
    path = write(tmp_path / "x.parquet", table)
    write(tmp_path / "y.parquet", table, 1)
    names = table.SCHEMA.names
    assert ds.dataset(tmp_path).to_table().num_rows == 4
    assert list(pd.read_parquet(path).columns) == names
    assert duckdb.sql(f"select * from '{tmp_path}/*.parquet'").columns == names
    assert duckdb.sql(f"select count(*) from '{tmp_path}/*.parquet'").fetchall() == [(4,)]
    assert pl.read_parquet(tmp_path / "*.parquet").columns == names


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_hugging_face_datasets_show_its_types(table, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = write(tmp_path / "x.parquet", table)
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.SCHEMA.names
    data = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert data.num_rows == 3 and data.features.arrow_schema.names == table.SCHEMA.names
    shown = [str(kind).replace("item", "element") for kind in datasets.Features.from_dict(features).arrow_schema.types]
    assert shown == [str(kind) for kind in table.SCHEMA.types]


def test_masks_are_compact_and_found_by_video(tmp_path):
    path = tmp_path / "x.parquet"
    rows = example_rows(masks, 2) * 3
    with pq.ParquetWriter(path, masks.SCHEMA, **masks.write_options()) as writer:
        for video_id in ("a", "b"):
            group = [row | {"video_id": video_id} for row in rows]
            writer.write_table(pa.Table.from_pylist(group, schema=masks.SCHEMA))
    footer = pq.ParquetFile(path).metadata
    assert footer.num_row_groups == 2
    for group, video_id in enumerate(("a", "b")):
        columns = {}
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            columns[column.path_in_schema] = column
            assert column.compression == "ZSTD" and column.has_column_index != (column.path_in_schema == "rle_counts")
        assert "RLE_DICTIONARY" in columns["video_id"].encodings and "RLE_DICTIONARY" in columns["label"].encodings
        assert "RLE_DICTIONARY" not in columns["rle_counts"].encodings
        assert columns["video_id"].statistics.min == columns["video_id"].statistics.max == video_id
        order = [sort.column_index for sort in footer.row_group(group).sorting_columns]
        assert [masks.SCHEMA.names[index] for index in order] == ["video_id", "object_id", "frame_index"]


def test_metadata_takes_texts_and_records():
    found = metadata.file_metadata("n", "1.0.0", checkpoint_sha256="abc", rows=5, nothing=None)
    assert found == {
        b"schema_name": b"n",
        b"schema_version": b"1.0.0",
        b"producer": b"stcn-ray",
        b"checkpoint_sha256": b"abc",
        b"rows": b"5",
    }


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "schema_name is missing"),
        ({b"schema_name": b"other"}, "schema_name is other"),
        ({b"schema_name": b"stcn-masks", b"schema_version": b"2.1.0"}, "version 2.1.0"),
        ({b"schema_name": b"stcn-masks"}, "version "),
    ],
)
def test_foreign_files_are_refused(found, reason):
    with pytest.raises(ValueError, match=reason):
        metadata.check_metadata(found, "stcn-masks", "1.0.0", "x.parquet")
    metadata.check_metadata({b"schema_name": b"stcn-masks", b"schema_version": b"1.9.9"}, "stcn-masks", "1.0.0", "x")


def test_messages_are_cut_to_a_kilobyte():
    assert failures.short_message("short") == "short"
    for text in ("a" * 5000, "ü" * 5000, "begin" + "😀" * 900 + "end", "\ud800" * 400):
        cut = failures.short_message(text)
        assert 1000 < len(cut.encode()) <= failures.MESSAGE_BYTES and " ... " in cut
    assert failures.short_message("begin" + "x" * 5000 + "end").startswith("begin")
    assert failures.short_message("begin" + "x" * 5000 + "end").endswith("end")


def test_a_video_has_one_file_name_without_its_letters():
    assert videos.file_name("../ü") == videos.file_name("../ü") != videos.file_name("a")
    assert len(videos.file_name("x" * 500)) == len("0" * 32 + ".parquet")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/plain/a?b#c@d.mp4", "/plain/a?b#c@d.mp4"),
        ("s3://bucket/a@b:c.mp4", "s3://bucket/a@b:c.mp4"),
        ("s3://key:secret@bucket/a?versionId=3", "s3://bucket/a"),
        ("https://u:p@ss@host:80/a.mp4?X-Amz-Signature=1#t", "https://host:80/a.mp4"),
        ("zip://a.mp4::https://u:p@host/b.zip?s=1", "zip://a.mp4::https://host/b.zip"),
        ("see https://u:p@host/a?s=1 and 'ftp://u@h/b'", "see https://host/a and 'ftp://h/b'"),
    ],
)
def test_public_urls_hold_no_credentials(url, expected):
    assert public_url(url) == expected == public_url(expected)


def test_parent_folder():
    assert parent("s3://b/x/m.jsonl") == "s3://b/x" and parent("/a/m.jsonl") == parent("file:///a/m.jsonl") == "/a"


def test_schemas_load_without_torch_and_ray():
    import subprocess
    import sys

    code = "import schemas, schemas.manifest, schemas.reader, sys; print({'torch', 'ray'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_an_empty_table_is_a_valid_shard():
    sink = io.BytesIO()
    pq.ParquetWriter(sink, masks.SCHEMA, **masks.write_options()).close()
    assert pq.read_table(sink).num_rows == 0
