"""Rows in frame order become a shard in object order, in flat memory."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster import shard as shard_module
from cluster.shard import ShardWriter
from schemas import masks as masks_schema


def row(object_id: int, frame: int) -> dict:
    record = dict.fromkeys(masks_schema.SCHEMA.names, 1)
    record |= {"video_id": "v", "object_id": object_id, "label": None, "frame_index": frame, "rle_counts": b"PZ"}
    return record | {"score": 0.5, "is_prompt": False, "time_s": frame / 10}


def test_rows_are_sorted_by_object_and_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shard_module, "WAITING_BYTES", 14_000)  # 14 rows
    monkeypatch.setattr(masks_schema, "ROW_GROUP_ROWS", 20)
    writer = ShardWriter(tmp_path)
    for frame in range(50):
        for object_id in (9, 2):
            writer.add(row(object_id, frame))
    path = writer.finish({b"unit_id": b"u"})
    with pq.ParquetFile(path) as file:
        table = file.read()
        assert file.metadata.metadata[b"unit_id"] == b"u" and file.metadata.metadata[b"rows"] == b"100"
        assert file.metadata.num_row_groups > 1
    assert table.schema.equals(masks_schema.SCHEMA)
    assert table["object_id"].to_pylist() == [2] * 50 + [9] * 50
    assert table["frame_index"].to_pylist() == list(range(50)) * 2


@pytest.mark.parametrize(("objects", "counts"), [(1, 20_000), (300, 100)])
def test_what_waits_in_memory_is_counted_in_bytes(objects: int, counts: int, tmp_path: Path):
    """Few rows with long codes, or few rows of each of many objects."""
    writer, added = ShardWriter(tmp_path), 0
    for frame in range(6000 // objects):
        for object_id in range(1, objects + 1):
            writer.add(row(object_id, frame) | {"rle_counts": bytes(counts)})
            added += counts
    spilled = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert added - spilled <= shard_module.WAITING_BYTES
    assert pq.read_table(writer.finish({})).num_rows == 6000


def test_a_unit_without_masks_is_a_shard_of_no_rows(tmp_path: Path):
    path = ShardWriter(tmp_path).finish({})
    table = pq.read_table(path)
    assert table.num_rows == 0 and table.schema.equals(masks_schema.SCHEMA)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    shards = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        writer = ShardWriter(folder)
        for frame in range(5):
            writer.add(row(1, frame))
        shards.append(writer.finish({b"k": b"v"}).read_bytes())
    assert shards[0] == shards[1]
