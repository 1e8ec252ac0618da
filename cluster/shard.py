"""One shard's rows on their way to Parquet, in memory that does not grow with the video.

Rows come frame by frame but are stored object by object. Each object's rows therefore go to a scratch file of their
own, and `finish` strings these together into the shard.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from cluster.track_totals import TrackTotals
from schemas import masks as masks_schema
from schemas.rows_digest import RowsDigest

# Rows waiting in memory, of all objects together: what is spilled at a time is kept by Arrow's allocator for the next.
WAITING_BYTES = 1 << 20
ROW_BYTES = 1000  # of a row's Python objects beside its counts
SHARD = "shard.parquet"
OPTIONAL = frozenset(field.name for field in masks_schema.SCORES)
DIGESTED = ("object_id", "frame_index", "height", "width", "is_prompt", "rle_counts")


class ShardWriter:
    """Collects rows of the `masks` table, one object at a time growing in frame order.

    scratch is a folder of this unit's video; leaving the context removes what was written there.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._columns: dict[int, dict[str, list]] = {}
        self._writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        self._schema = masks_schema.SCHEMA.remove_metadata()
        self._waiting = 0  # bytes
        self.rows = 0
        self.totals = TrackTotals()
        self._digest = RowsDigest()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_exc) -> None:
        for object_id, writer in self._writers.items():
            writer.close()
            self._file(object_id).unlink(missing_ok=True)
        (self._scratch / SHARD).unlink(missing_ok=True)

    def add(self, row: Mapping[str, object]) -> None:
        """One row with every column of the schema; those that may be null may be missing."""
        object_id = row["object_id"]
        columns = self._columns.setdefault(object_id, {name: [] for name in self._schema.names})
        for name, values in columns.items():
            values.append(row.get(name) if name in OPTIONAL else row[name])
        self.rows += 1
        self.totals.add(row)
        self._digest.add(*(row[name] for name in DIGESTED))
        self._waiting += ROW_BYTES + len(row["rle_counts"])
        if self._waiting >= WAITING_BYTES:
            self._spill()

    def finish(self, metadata: Mapping[bytes, bytes]) -> Path:
        """The finished shard as a local file: sorted by object and frame, zstd, with its metadata. May hold 0 rows."""
        self._spill()
        path = self._scratch / SHARD
        pending: list[pa.RecordBatch] = []
        waiting = 0
        with pq.ParquetWriter(path, masks_schema.SCHEMA, **masks_schema.write_options()) as writer:
            for object_id in sorted(self._writers):
                self._writers[object_id].close()
                with pa.memory_map(str(self._file(object_id))) as source:
                    reader = pa.ipc.open_file(source)
                    for number in range(reader.num_record_batches):
                        batch = reader.get_batch(number)
                        pending.append(batch)
                        waiting += batch.num_rows
                        if waiting >= masks_schema.ROW_GROUP_ROWS:
                            self._write_group(writer, pending)
                            pending, waiting = [], 0
            self._write_group(writer, pending)
            found = {b"rows": str(self.rows).encode(), b"rows_sha256": self._digest.hexdigest().encode()}
            writer.add_key_value_metadata({**metadata, **found})
        return path

    def _write_group(self, writer: pq.ParquetWriter, batches: list[pa.RecordBatch]) -> None:
        if batches:
            table = pa.Table.from_batches(batches, self._schema).cast(masks_schema.SCHEMA)
            writer.write_table(table, row_group_size=max(1, table.num_rows))

    def _spill(self) -> None:
        """Moves all waiting rows to their objects' files."""
        for object_id, columns in self._columns.items():
            if columns["object_id"]:
                if object_id not in self._writers:
                    self._writers[object_id] = pa.ipc.new_file(str(self._file(object_id)), self._schema)
                self._writers[object_id].write_batch(pa.RecordBatch.from_pydict(columns, schema=self._schema))
                for values in columns.values():
                    values.clear()
        self._waiting = 0

    def _file(self, object_id: int) -> Path:
        return self._scratch / f"object-{object_id}.arrow"
