"""Reads masks back from an output folder, frame by frame, in memory that does not grow with the video."""

import heapq
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rlemasklib import RLEMask

from schemas import masks, metadata, videos
from schemas.urls import public_url

COLUMNS = ["video_id", "object_id", "frame_index", "height", "width", "rle_counts"]


class _Row(NamedTuple):
    frame: int
    object_id: int
    height: int
    width: int
    counts: bytes


class _Group:
    """One row group's rows of one video, in columns; shared by the objects that lie in it."""

    def __init__(self, table: pa.Table):
        self.object_ids = table["object_id"].to_numpy()
        self.table = table


def read_masks(
    out: str, video_id: str | None = None, options: Mapping[str, Any] | None = None
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """Yields (frame_index, {object_id: uint8 [H, W] of 0 and 1}) in frame order, of every frame with a mask.

    out is the output folder (any fsspec URL), options its storage options. Frames on which nothing is visible are
    not yielded. video_id may be left out where `out` holds one video. Works at any moment of a run: whole units only.

    Raises FileNotFoundError where there are no shards, LookupError where the video is not there or has failed or
    cannot be chosen, ValueError for shards of another schema or major version, with a mask that lies twice, or with
    RLE counts that do not decode.
    """
    import fsspec

    fs, root = fsspec.core.url_to_fs(out, **{"use_listings_cache": False, **(options or {})})
    shown = public_url(out).rstrip("/")
    shards = [
        _Shard(fs, path, f"{shown}/masks/{path.rpartition('/')[2]}") for path in _shards(fs, root, shown, video_id)
    ]
    finished = _finished(fs, root, video_id)
    if video_id is None:
        failed = {name for name, (status, _) in finished.items() if status == videos.FAILED}
        found = sorted(set().union(*(shard.video_ids() for shard in shards)) - failed)
        if len(found) != 1:
            names = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            raise LookupError(f"{shown} holds masks of {len(found)} videos ({names}): say which with video_id")
        video_id = found[0]
    elif video_id in finished:
        status, message = finished[video_id]
        if status == videos.FAILED:
            raise LookupError(f"{video_id!r} in {shown} failed: {message}")
    elif not any(video_id in shard.video_ids() for shard in shards):
        raise LookupError(f"{shown} holds no masks of {video_id!r}")
    return _frames(shards, video_id, shown)


def _frames(shards: list["_Shard"], video_id: str, shown: str) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    streams = [stream for shard in shards for stream in shard.streams(video_id)]
    frame, found = -1, {}
    for row in heapq.merge(*streams, key=lambda row: (row.frame, row.object_id)):
        if row.frame != frame:
            if found:
                yield frame, found
            frame, found = row.frame, {}
        if row.object_id in found:
            raise ValueError(f"{shown}: {video_id} has two masks of object {row.object_id} on frame {frame}")
        try:
            mask = RLEMask.from_dict({"size": [row.height, row.width], "counts": row.counts})
        except ValueError as error:
            place = f"object {row.object_id} of {video_id} on frame {frame}"
            raise ValueError(f"{shown}: the mask of {place} is damaged: {error}") from error
        found[row.object_id] = mask.to_array(order="C")
    if found:
        yield frame, found


class _Shard:
    def __init__(self, fs: Any, path: str, shown: str):
        self._fs, self._path, self._shown = fs, path, shown
        self._groups: weakref.WeakValueDictionary[tuple[int, str], _Group] = weakref.WeakValueDictionary()
        self._file: pq.ParquetFile | None = None

    def video_ids(self) -> set[str]:
        """All videos in the shard."""
        footer, found = self._open().metadata, set()
        column = masks.SCHEMA.get_field_index("video_id")
        for group in range(footer.num_row_groups):
            statistics = footer.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max and statistics.min == statistics.max:
                found.add(statistics.min)
            else:
                found.update(self._open().read_row_group(group, ["video_id"])["video_id"].unique().to_pylist())
        return found

    def streams(self, video_id: str) -> list[Iterator[_Row]]:
        """One stream per object of the video, each in frame order."""
        ids: dict[int, list[int]] = {}
        file = self._open()
        column = masks.SCHEMA.get_field_index("video_id")
        for group in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max and not statistics.min <= video_id <= statistics.max:
                continue  # a compacted shard holds many videos
            table = file.read_row_group(group, ["video_id", "object_id"])
            mine = table.filter(pc.equal(table["video_id"], video_id))["object_id"]
            for object_id in mine.unique().to_pylist():
                ids.setdefault(object_id, []).append(group)
        return [self._rows(video_id, object_id, groups) for object_id, groups in ids.items()]

    def _rows(self, video_id: str, object_id: int, groups: list[int]) -> Iterator[_Row]:
        for number in groups:
            group = self._group(number, video_id)
            for row in np.flatnonzero(group.object_ids == object_id).tolist():
                values = (group.table[name][row].as_py() for name in ("frame_index", "height", "width", "rle_counts"))
                frame, height, width, counts = values
                yield _Row(frame, object_id, height, width, counts)

    def _group(self, number: int, video_id: str) -> _Group:
        group = self._groups.get((number, video_id))
        if group is None:
            table = self._open().read_row_group(number, COLUMNS)
            group = _Group(table.filter(pc.equal(table["video_id"], video_id)).combine_chunks())
            self._groups[number, video_id] = group
        return group

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            try:
                self._file = pq.ParquetFile(self._fs.open(self._path, "rb"))
            except pa.ArrowInvalid as error:
                raise ValueError(f"{self._shown} is not a Parquet file: {error}") from error
            metadata.check_metadata(self._file.schema_arrow.metadata, masks.NAME, masks.VERSION, self._shown)
        return self._file


def _shards(fs: Any, root: str, shown: str, video_id: str | None) -> list[str]:
    """Paths of the shards, or those that the plan names for the video (saves reading every footer)."""
    paths = _parquet_files(fs, f"{root}/masks")
    if not paths:
        raise FileNotFoundError(f"{shown}/masks holds no Parquet files: give the --output of an annotate run")
    if video_id is None:
        return paths
    try:
        with fs.open(f"{root}/_run/plan.parquet", "rb") as file:
            plan = pq.read_table(file, columns=["unit_id", "video_id"])
    except (OSError, pa.ArrowException):
        return paths
    units = set(plan.filter(pc.equal(plan["video_id"], video_id))["unit_id"].to_pylist())
    planned = [path for path in paths if path.rpartition("/")[2].removesuffix(".parquet") in units]
    return planned or paths


def _parquet_files(fs: Any, folder: str) -> list[str]:
    try:
        names = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(".parquet") and name.rpartition("/")[2][:1] not in "._")


def _finished(fs: Any, root: str, video_id: str | None) -> dict[str, tuple[str, str | None]]:
    """Video id -> (status, message) from the `videos` table, of one video or all."""
    found: dict[str, tuple[str, str | None]] = {}
    one = f"{root}/videos/{videos.file_name(video_id)}" if video_id is not None else None
    paths = [one] if one is not None and fs.exists(one) else _parquet_files(fs, f"{root}/videos")
    for path in paths:
        with fs.open(path, "rb") as file:
            table = pq.read_table(file, columns=["video_id", "status", "message"])
        for row in table.to_pylist():
            found[row["video_id"]] = (row["status"], row["message"])
    return found
