"""Reads masks back from an output folder, frame by frame, in memory that does not grow with the video."""

import heapq
import weakref
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rlemasklib import RLEMask

from schemas import masks, metadata, videos
from schemas.parquet import IN_THIS_THREAD, open_file, read_table
from schemas.urls import public_url, uncached

COLUMNS = (
    "frame_index", "object_id", "height", "width", "rle_counts", "area",
    "bbox_x", "bbox_y", "bbox_w", "bbox_h", "score", "is_prompt",
)  # fmt: skip
ROWS_AT_A_TIME = 256


class MaskRow(NamedTuple):
    """One row of `masks`; counts is COCO's compressed run-length code, box is x, y, w, h in pixels."""

    frame: int
    object_id: int
    height: int
    width: int
    counts: bytes
    area: int
    box: tuple[int, int, int, int]
    score: float
    is_prompt: bool

    def decode(self) -> np.ndarray:
        """uint8 [height, width] of 0 and 1. Raises ValueError for counts that do not fit the size."""
        mask = RLEMask.from_dict({"size": [self.height, self.width], "counts": self.counts})
        return mask.to_array(order="C")


def read_masks(
    out: str,
    video_id: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    filesystem: Any = None,
    row: Mapping[str, Any] | None = None,
) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    """Yields (frame_index, {object_id: uint8 [H, W] of 0 and 1}) in frame order, of every frame with a mask.

    out is the output folder (any fsspec URL), options its storage options; with an fsspec `filesystem` of your own, out
    is a path in it. Frames on which nothing is visible are not yielded. video_id may be left out where `out` holds one
    video. row is the video's row of `videos` (status, message, shards), for who reads many videos and has it: it
    is not looked for then. Works at any moment of a run: whole units only.

    Raises FileNotFoundError where there are no shards, LookupError where the video is not there or has failed or
    cannot be chosen, ValueError for shards of another schema or major version, with a mask that lies twice, or with
    RLE counts that do not decode.
    """
    return _decoded(open_masks(out, video_id, options, filesystem=filesystem, row=row))


def _decoded(video: "VideoMasks") -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    for frame, rows in video.frames():
        found = {}
        for row in rows:
            try:
                found[row.object_id] = row.decode()
            except ValueError as error:
                place = f"object {row.object_id} of {video.video_id} on frame {frame}"
                raise ValueError(f"{video.shown}: the mask of {place} is damaged: {error}") from error
        yield frame, found


def open_masks(
    out: str,
    video_id: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    filesystem: Any = None,
    row: Mapping[str, Any] | None = None,
) -> "VideoMasks":
    """The rows of a video's masks, not decoded. Arguments and errors are those of `read_masks`."""
    fs, root = connected(out, options, filesystem)
    shown = public_url(out).rstrip("/")
    if video_id is None:
        shards = [_Shard(fs, name, _shown(shown, name)) for name in _listed(fs, root, shown)]
        failed = {name for name, row in _finished(fs, root, None).items() if row["status"] == videos.FAILED}
        found = sorted(set().union(*(shard.video_ids() for shard in shards)) - failed)
        if len(found) != 1:
            some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            raise LookupError(f"{shown} holds masks of {len(found)} videos ({some}): say which with video_id")
        return VideoMasks(shards, found[0], shown)
    row = _finished(fs, root, video_id).get(video_id) if row is None else row
    if row is not None and row["status"] == videos.FAILED:
        raise LookupError(f"{video_id!r} in {shown} failed: {row['message']}")
    if row is not None and row.get("shards"):
        # Their folder is not listed: with many videos on an object store that would be most of the work.
        names = [f"{root}/masks/{shard['unit_id']}.parquet" for shard in row["shards"]]
    else:
        names = _planned(fs, root, _listed(fs, root, shown), video_id)
    shards = [_Shard(fs, name, _shown(shown, name)) for name in names]
    if row is None and not any(video_id in shard.video_ids() for shard in shards):
        raise LookupError(f"{shown} holds no masks of {video_id!r}")
    return VideoMasks(shards, video_id, shown)


class VideoMasks:
    """A video's rows of `masks`, read as they are asked for; several passes are allowed. shown: for messages."""

    def __init__(self, shards: list["_Shard"], video_id: str, shown: str):
        self.video_id, self.shown = video_id, shown
        self._shards = shards

    def frames(self) -> Iterator[tuple[int, list[MaskRow]]]:
        """(frame, its rows in order of object ids) in frame order, of every frame with a mask. Raises ValueError."""
        for shards in self._batches():
            streams = [shard.rows(self.video_id, object_id) for shard, ids in shards for object_id in ids]
            merged = heapq.merge(*streams, key=attrgetter("frame", "object_id"))
            for frame, group in groupby(merged, key=attrgetter("frame")):
                rows = list(group)
                for one, two in zip(rows, rows[1:], strict=False):
                    if one.object_id == two.object_id:
                        what = f"{self.video_id} has two masks of object {one.object_id} on frame {frame}"
                        raise ValueError(f"{self.shown}: {what}")
                yield frame, rows
            for shard, _ in shards:
                shard.close()

    def track(self, object_id: int) -> Iterator[MaskRow]:
        """The rows of one object in frame order; none where it is nowhere visible."""
        for shards in self._batches():
            streams = [shard.rows(self.video_id, object_id) for shard, ids in shards if object_id in ids]
            yield from heapq.merge(*streams, key=attrgetter("frame"))
            for shard, _ in shards:
                shard.close()

    def _batches(self) -> Iterator[list[tuple["_Shard", list[int]]]]:
        """Shards with the ids of their objects, in order of frames; those whose frames overlap come together.

        The segments of a long video do not overlap: only one of them is held at a time.
        """
        parts = [(shard, *part) for shard in self._shards if (part := shard.part(self.video_id)) is not None]
        batch: list[tuple[_Shard, list[int]]] = []
        end = -1
        for shard, first, last, ids in sorted(parts, key=lambda part: part[1:3]):
            if batch and first > end:
                yield batch
                batch = []
            batch.append((shard, ids))
            end = max(end, last)
        if batch:
            yield batch


class _Group:
    """One row group's rows of one video, in columns; shared by the objects that lie in it."""

    def __init__(self, table: pa.Table):
        self.object_ids = table["object_id"].to_numpy()
        self.table = table


class _Shard:
    def __init__(self, fs: Any, path: str, shown: str):
        self._fs, self._path, self._shown = fs, path, shown
        self._groups: weakref.WeakValueDictionary[tuple[int, str], _Group] = weakref.WeakValueDictionary()
        self._file: pq.ParquetFile | None = None
        self._parts: dict[str, tuple[int, int, dict[int, list[int]]] | None] = {}

    def video_ids(self) -> set[str]:
        """All videos in the shard."""
        footer, found = self._open().metadata, set()
        for group in range(footer.num_row_groups):
            low, high = _range(footer, group, "video_id")
            if low is not None and low == high:
                found.add(low)
            else:
                found.update(
                    self._open().read_row_group(group, ["video_id"], **IN_THIS_THREAD)["video_id"].unique().to_pylist()
                )
        self.close()
        return found

    def part(self, video_id: str) -> tuple[int, int, list[int]] | None:
        """(first frame, last frame, object ids) of what the shard has of the video, the frames by its statistics at
        most; None where it has nothing."""
        if video_id not in self._parts:
            self._parts[video_id] = self._part(video_id)
            self.close()
        part = self._parts[video_id]
        return None if part is None else (part[0], part[1], list(part[2]))

    def rows(self, video_id: str, object_id: int) -> Iterator[MaskRow]:
        """The video's rows of an object that `part` names, in the order of the file."""
        for number in self._parts[video_id][2][object_id]:
            group = self._group(number, video_id)
            mine = np.flatnonzero(group.object_ids == object_id)
            for start in range(0, len(mine), ROWS_AT_A_TIME):
                found = group.table.take(mine[start : start + ROWS_AT_A_TIME]).to_pydict()
                for row in zip(*(found[name] for name in COLUMNS), strict=True):
                    yield MaskRow(*row[:6], row[6:10], *row[10:])

    def close(self) -> None:
        """Lets go of the file; it is opened again when it is needed."""
        if self._file is not None:
            self._file.close(force=True)
            self._file = None

    def _part(self, video_id: str) -> tuple[int, int, dict[int, list[int]]] | None:
        file, frames = self._open(), []
        ids: dict[int, list[int]] = {}
        for group in range(file.metadata.num_row_groups):
            low, high = _range(file.metadata, group, "video_id")
            if low is not None and not low <= video_id <= high:
                continue  # a compacted shard holds many videos
            table = file.read_row_group(group, ["video_id", "object_id", "frame_index"], **IN_THIS_THREAD)
            mine = table.filter(pc.equal(table["video_id"], video_id))
            for object_id in mine["object_id"].unique().to_pylist():
                ids.setdefault(object_id, []).append(group)
            if mine.num_rows:
                span = pc.min_max(mine["frame_index"]).as_py()
                frames += [span["min"], span["max"]]
        return (min(frames), max(frames), ids) if frames else None

    def _group(self, number: int, video_id: str) -> _Group:
        group = self._groups.get((number, video_id))
        if group is None:
            table = self._open().read_row_group(number, ["video_id", *COLUMNS], **IN_THIS_THREAD)
            group = _Group(table.filter(pc.equal(table["video_id"], video_id)).combine_chunks())
            self._groups[number, video_id] = group
        return group

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            try:
                self._file = open_file(self._fs.open(self._path, "rb"))
            except FileNotFoundError as error:
                lost = FileNotFoundError(f"{self._shown} is lost: see python -m jobs.verify")
                lost.explained = True  # the remedy is not to correct a path
                raise lost from error
            except pa.ArrowInvalid as error:
                raise ValueError(f"{self._shown} is damaged ({error}): see python -m jobs.verify") from error
            metadata.check_metadata(self._file.schema_arrow.metadata, masks.NAME, masks.VERSION, self._shown)
        return self._file


def connected(out: str, options: Mapping[str, Any] | None = None, filesystem: Any = None) -> tuple[Any, str]:
    """(filesystem, path of the output in it without a slash at its end). Listings are not cached."""
    if filesystem is not None:
        return filesystem, filesystem._strip_protocol(out).rstrip("/")
    import fsspec

    fs, root = fsspec.core.url_to_fs(out, **(uncached(out) | dict(options or {})))
    return fs, root.rstrip("/")


def _range(footer: pq.FileMetaData, group: int, column: str) -> tuple[Any, Any]:
    """Smallest and largest value of a column in a row group by its statistics; (None, None) without any."""
    statistics = footer.row_group(group).column(footer.schema.names.index(column)).statistics
    if statistics is None or not statistics.has_min_max:
        return None, None
    return statistics.min, statistics.max


def _listed(fs: Any, root: str, shown: str) -> list[str]:
    """All shards. Raises FileNotFoundError where there are none."""
    names = _parquet_files(fs, f"{root}/masks")
    if not names:
        raise FileNotFoundError(f"{shown}/masks holds no Parquet files: give the --output of an annotate run")
    return names


def _planned(fs: Any, root: str, names: list[str], video_id: str) -> list[str]:
    """Those of the files that the plan names for the video: saves reading every footer."""
    try:
        with fs.open(f"{root}/_run/plan.parquet", "rb") as file:
            plan = read_table(file, ["unit_id", "video_id"])
    except (OSError, pa.ArrowException):
        return names
    units = set(plan.filter(pc.equal(plan["video_id"], video_id))["unit_id"].to_pylist())
    planned = [name for name in names if name.rpartition("/")[2].removesuffix(".parquet") in units]
    return planned or names


def _parquet_files(fs: Any, folder: str) -> list[str]:
    try:
        names = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(".parquet") and name.rpartition("/")[2][:1] not in "._")


def _shown(out: str, path: str) -> str:
    return f"{out}/masks/{path.rpartition('/')[2]}"


def _finished(fs: Any, root: str, video_id: str | None) -> dict[str, dict[str, Any]]:
    """Video id -> row of `videos` (video_id, status, message, shards), of one video or all."""
    found: dict[str, dict[str, Any]] = {}
    one = f"{root}/videos/{videos.file_name(video_id)}" if video_id is not None else None
    paths = [one] if one is not None and fs.exists(one) else _parquet_files(fs, f"{root}/videos")
    for path in paths:
        with fs.open(path, "rb") as file:
            table = read_table(file, ["video_id", "status", "message", "shards"])
        for row in table.to_pylist():
            found[row["video_id"]] = row
    return found
