"""One finished video's rows of `masks` as columns, for whoever looks at a run: numbers, and masks where asked for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.finalise import shard_name
from cluster.inspect.inspection import Unreadable
from cluster.stores.storage import Storage
from schemas import masks as masks_schema
from schemas.metadata import check_metadata
from schemas.parquet import IN_THIS_THREAD, open_file

NUMBERS = (
    "object_id", "frame_index", "area", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "is_prompt", "score",
    *(field.name for field in masks_schema.SCORES),
)  # fmt: skip


def video_numbers(storage: Storage, video: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """NUMBERS of a finished video, one array per column, sorted by object and frame; NaN where a score is not known.

    video is its row of `videos`. Raises Unreadable, OSError.
    """
    parts = [table.select(NUMBERS) for table in _tables(storage, video, NUMBERS)]
    schema = pa.schema([masks_schema.SCHEMA.field(name) for name in NUMBERS]).remove_metadata()
    table = pa.concat_tables(parts) if parts else schema.empty_table()
    columns = {name: table[name].to_numpy() for name in NUMBERS}
    order = np.lexsort((columns["frame_index"], columns["object_id"]))
    return {name: values[order] for name, values in columns.items()}


def video_masks(storage: Storage, video: Mapping[str, Any], frames: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows (object_id, frame_index, height, width, rle_counts) on some frames of a finished video, in no order.

    Only the row groups that hold any of the frames are read. Raises Unreadable, OSError.
    """
    names = ("object_id", "frame_index", "height", "width", "rle_counts")
    wanted = pa.array(sorted(frames), pa.int32())
    for table in _tables(storage, video, names, wanted):
        yield from table.filter(pc.is_in(table["frame_index"], wanted)).select(names).to_pylist()


def _tables(
    storage: Storage, video: Mapping[str, Any], names: Sequence[str], frames: pa.Array | None = None
) -> Iterator[pa.Table]:
    """The row groups that hold rows of the video (and of any of the frames); columns that are not there are null."""
    for shard in video["shards"] or ():
        name = shard_name(shard["unit_id"])
        try:
            with storage.open_input(name) as handle, open_file(handle) as file:
                check_metadata(file.schema_arrow.metadata, masks_schema.NAME, masks_schema.VERSION, name)
                there = [column for column in dict.fromkeys(("video_id", *names)) if column in file.schema_arrow.names]
                for group in range(file.num_row_groups):
                    if frames is not None and not _holds(file.metadata.row_group(group), frames):
                        continue
                    table = file.read_row_group(group, there, **IN_THIS_THREAD)
                    table = table.filter(pc.equal(table["video_id"], video["video_id"]))
                    for missing in set(names) - set(there):
                        field = masks_schema.SCHEMA.field(missing)
                        table = table.append_column(missing, pa.nulls(table.num_rows, field.type))
                    yield table.cast(pa.schema([_plain(table, column) for column in table.column_names]))
        except (pa.ArrowException, ValueError) as error:
            text = " ".join(str(error).split())[:200]
            raise Unreadable(f"{storage.url}/{name} cannot be read ({text}): run jobs.verify") from error


def _plain(table: pa.Table, name: str) -> pa.Field:
    return pa.field(name, masks_schema.SCHEMA.field(name).type)


def _holds(group: pq.RowGroupMetaData, frames: pa.Array) -> bool:
    """Whether a row group may hold one of the frames, by its statistics."""
    statistics = group.column(masks_schema.SCHEMA.get_field_index("frame_index")).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    values = np.asarray(frames)
    return bool(((values >= statistics.min) & (values <= statistics.max)).any())
