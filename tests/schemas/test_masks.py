"""Shards of the version before are still shards: the columns added since are null in them."""

import pyarrow as pa
import pyarrow.parquet as pq
from made_output import VIDEOS, made_row, write_output

from cluster.inspect.shard_check import ShardTask, check_shard
from cluster.inspect.shard_merge import open_shard
from cluster.inspect.video_rows import video_numbers
from schemas import masks as masks_schema

EARLIER = pa.schema([masks_schema.SCHEMA.field(name) for name in masks_schema.COLUMNS_1_0])


def test_which_columns_make_a_shard():
    assert masks_schema.is_complete(masks_schema.SCHEMA) and masks_schema.is_complete(EARLIER)
    assert not masks_schema.is_complete(EARLIER.remove(3))
    assert not masks_schema.is_complete(masks_schema.SCHEMA.append(pa.field("more", pa.int32())))


def test_completed_rows_have_all_columns():
    rows = [{name: made_row(VIDEOS[0], n, 2)[name] for name in EARLIER.names} for n in range(3)]
    full = masks_schema.completed(pa.RecordBatch.from_pylist(rows, EARLIER.remove_metadata()))
    assert full.schema.equals(masks_schema.SCHEMA, check_metadata=False)
    assert full["doubt"].null_count == 3 and full["area"].null_count == 0
    assert masks_schema.completed(full).equals(full)


def test_an_output_of_the_version_before_is_sound_and_can_be_looked_at(tmp_path):
    storage = write_output(tmp_path / "out", VIDEOS[:1])
    (name,) = VIDEOS[0].shards()
    path = tmp_path / "out" / name
    table, metadata = pq.read_table(path), pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, EARLIER.with_metadata(table.schema.metadata)) as writer:
        writer.write_table(table.select(EARLIER.names))
        writer.add_key_value_metadata({key: value for key, value in metadata.items() if key != b"ARROW:schema"})
    report = check_shard(ShardTask(storage, name))
    assert report.findings == [] and report.rows == table.num_rows
    assert open_shard(name, path).metadata["rows"] == str(table.num_rows)
    video = pq.read_table(next((tmp_path / "out/videos").iterdir())).to_pylist()[0]
    numbers = video_numbers(storage, video)
    assert len(numbers["area"]) == table.num_rows and all(value != value for value in numbers["doubt"])
