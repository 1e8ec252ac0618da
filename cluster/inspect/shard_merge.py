"""Shards of many videos, or of one long video, strung together into larger files: sorted, with every row checked.

A video's rows are hashed as they come from its shards and again as they lie in the finished files; these must agree.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from schemas import masks as masks_schema
from schemas.convert.output import IMAGES_KEY
from schemas.metadata import file_metadata
from schemas.rows_digest import RowsDigest

DIGESTED = ("object_id", "frame_index", "height", "width", "is_prompt", "rle_counts")
BATCH_ROWS = 4096
# A new video starts a row group of its own, unless the open one is so small that footers would grow too much.
SMALL_GROUP_ROWS = 2_000
PLAIN = masks_schema.SCHEMA.remove_metadata()
KEPT = ("checkpoint_sha256", "settings_sha256", "settings", "device_profile")


class MergeError(ValueError):
    """A shard that is not what was recorded, or a new file that is not what its shards were. Names the file."""


@dataclass(frozen=True)
class SourceShard:
    """A shard as a local file, with its metadata."""

    name: str
    path: Path
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class SourceVideo:
    """A finished video: its row of `videos` and its shards in order of frames."""

    row: Mapping[str, Any]
    shards: Sequence[SourceShard]

    @property
    def video_id(self) -> str:
        """The manifest's name of the video."""
        return self.row["video_id"]

    @property
    def images(self) -> dict[str, Any]:
        """What an import recorded of the names of its images, as an entry of a file's metadata; empty without."""
        name = IMAGES_KEY.decode()
        recorded = self.shards[0].metadata.get(name)
        return {} if recorded is None else {name: json.loads(recorded)}


def open_shard(name: str, path: Path) -> SourceShard:
    """Raises MergeError where the file is no shard."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise MergeError(f"{name} is damaged ({error})") from error
    return SourceShard(name, path, {key.decode(): value.decode() for key, value in metadata.items()})


def merge(folder: Path, names: Sequence[str], rows: int, videos: Iterable[SourceVideo]) -> list[Path]:
    """Writes all videos, given in order of their ids, into files `names` in `folder`, the rows shared out evenly.

    rows: of all videos together. Several names are for a single video. Returns the paths, after reading the files
    back. Raises MergeError where a shard is damaged or a row did not arrive as it was.
    """
    room = math.inf if len(names) == 1 else max(1, -(-rows // len(names)))
    parts = [_Part(folder / f"{names[0]}.parquet", room)]
    digests: dict[str, str] = {}
    shards: list[SourceShard] = []
    for video in videos:
        digest = RowsDigest()
        shards += video.shards
        parts[-1].begin(video.row, video.images)
        for batch in _sorted_batches(video, folder, digest):
            while batch.num_rows > parts[-1].room and len(parts) < len(names):
                head = batch.slice(0, parts[-1].room)
                batch = batch.slice(head.num_rows)
                parts[-1].append(head)
                parts.append(_Part(folder / f"{names[len(parts)]}.parquet", room))
                parts[-1].begin(video.row)
            parts[-1].append(batch)
        digests[video.video_id] = digest.hexdigest()
    # A video of too few rows for all its files leaves the last ones empty: a compaction counts on every name.
    parts += [_Part(folder / f"{name}.parquet", room) for name in names[len(parts) :]]
    for part in parts:
        part.close(shards)
    _read_back([part.path for part in parts], digests)
    return [part.path for part in parts]


@dataclass
class _Part:
    """One new file while it is written. room: rows that it still takes."""

    path: Path
    room: float
    rows: int = 0
    videos: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._writer = pq.ParquetWriter(self.path, masks_schema.SCHEMA, **masks_schema.write_options())
        self._pending: list[pa.RecordBatch] = []
        self._waiting = 0
        self._digests: list[RowsDigest] = []

    def begin(self, row: Mapping[str, Any], images: Mapping[str, Any] | None = None) -> None:
        if self._waiting >= SMALL_GROUP_ROWS:
            self._flush()
        facts = {"start": row["first_frame"], **{name: row[name] for name in ("stride", "height", "width")}}
        self.videos.append({"video_id": row["video_id"], **facts, "rows": 0, **(images or {})})
        self._digests.append(RowsDigest())

    def append(self, batch: pa.RecordBatch) -> None:
        for row in digested(batch):
            self._digests[-1].add(*row)
        self.videos[-1]["rows"] += batch.num_rows
        self.rows += batch.num_rows
        self.room -= batch.num_rows
        while batch.num_rows:
            head = batch.slice(0, masks_schema.ROW_GROUP_ROWS - self._waiting)
            batch = batch.slice(head.num_rows)
            self._pending.append(head)
            self._waiting += head.num_rows
            if self._waiting == masks_schema.ROW_GROUP_ROWS:
                self._flush()

    def close(self, shards: Sequence[SourceShard]) -> None:
        self._flush()
        videos = [
            {**video, "rows_sha256": digest.hexdigest()}
            for video, digest in zip(self.videos, self._digests, strict=True)
        ]
        kept = {}
        for name in KEPT:
            values = sorted({shard.metadata[name] for shard in shards if name in shard.metadata})
            kept[name] = values[0] if len(values) == 1 else values or None
        metadata = file_metadata(
            masks_schema.NAME,
            masks_schema.VERSION,
            kind="compacted",
            rows=str(self.rows),
            unit_ids=[shard.metadata.get("unit_id") for shard in shards],
            videos=videos,
            **kept,
        )
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, PLAIN).cast(masks_schema.SCHEMA)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._pending, self._waiting = [], 0


def digested(batch: pa.RecordBatch) -> Iterator[tuple]:
    """The rows' values that RowsDigest takes."""
    return zip(*(batch[name].to_pylist() for name in DIGESTED), strict=True)


def _sorted_batches(video: SourceVideo, folder: Path, digest: RowsDigest) -> Iterator[pa.RecordBatch]:
    """The video's rows by object and frame. One shard is sorted; several are sorted by way of a file per object."""
    if len(video.shards) == 1:
        yield from _shard_batches(video.shards[0], digest)
        return
    writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
    for shard in video.shards:
        for batch in _shard_batches(shard, digest):
            for object_id, part in _by_object(batch):
                if object_id not in writers:
                    writers[object_id] = pa.ipc.new_file(str(folder / f"object-{object_id}.arrow"), PLAIN)
                writers[object_id].write_batch(part)
    for object_id in sorted(writers):
        writers[object_id].close()
        path = folder / f"object-{object_id}.arrow"
        with pa.memory_map(str(path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        path.unlink()


def _shard_batches(shard: SourceShard, digest: RowsDigest) -> Iterator[pa.RecordBatch]:
    """A shard's rows; they also go into digest. Raises MergeError where they are not those that were written."""
    own, rows = RowsDigest(), 0
    try:
        with pq.ParquetFile(shard.path) as file:
            if not masks_schema.is_complete(file.schema_arrow):
                raise MergeError(f"{shard.name} has other columns than the masks table")
            for batch in file.iter_batches(BATCH_ROWS):
                for row in digested(batch):
                    own.add(*row)
                    digest.add(*row)
                rows += batch.num_rows
                yield masks_schema.completed(batch)
    except (pa.ArrowException, OSError) as error:
        raise MergeError(f"{shard.name} is damaged ({error})") from error
    if (shard.metadata.get("rows"), shard.metadata.get("rows_sha256")) != (str(rows), own.hexdigest()):
        raise MergeError(f"{shard.name} is damaged: its rows are not those that were written")


def _by_object(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Slices of equal object_id, in order."""
    ids = batch["object_id"].to_pylist()
    start = 0
    for row in range(1, len(ids) + 1):
        if row == len(ids) or ids[row] != ids[start]:
            yield ids[start], batch.slice(start, row - start)
            start = row


def _read_back(paths: Sequence[Path], digests: Mapping[str, str]) -> None:
    found: dict[str, RowsDigest] = {}
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=["video_id", *DIGESTED]):
                for video_id, row in zip(batch["video_id"].to_pylist(), digested(batch), strict=True):
                    found.setdefault(video_id, RowsDigest()).add(*row)
    for video_id, wanted in digests.items():
        if found.get(video_id, RowsDigest()).hexdigest() != wanted:
            raise MergeError(f"the rows of {video_id!r} are not the same in {paths[0].name}; it was not published")
