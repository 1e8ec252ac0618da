"""An output folder, seen as the formats see it: its finished videos, one by one."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import tracks, videos
from schemas.convert.video import ConvertError, OutVideo, Track
from schemas.parquet import read_table
from schemas.reader import connected, open_masks
from schemas.urls import public_url

# In a shard's metadata, of a compacted one in the entry of its video: the names of a video's images where an import was
# told them (annotated, and all).
IMAGES_KEY = b"image_names"


@dataclass(frozen=True)
class FinishedVideo:
    """A row of `videos`, as far as it matters here. masks: rows in `masks`."""

    video_id: str
    url: str
    failed: bool
    message: str | None
    masks: int
    row: Mapping[str, Any]


class MasksOutput:
    """An output folder on any fsspec URL. Raises what the storage raises, ConvertError where no video is finished,
    and ValueError for files of another kind."""

    def __init__(self, out: str, options: Mapping[str, Any] | None = None):
        self._out, self._options = out, dict(options or {})
        self._fs, self._root = connected(out, options)
        self.shown = public_url(out).rstrip("/")
        self._images: tuple[str, dict[str | None, Any]] | None = None

    def finished(self) -> list[FinishedVideo]:
        """All finished videos, failed ones too, in order of ids."""
        rows = sorted(self._table("videos", videos), key=lambda row: row["video_id"])
        return [
            FinishedVideo(
                row["video_id"], row["video"], row["status"] == videos.FAILED, row["message"], row["mask_rows"], row
            )
            for row in rows
        ]

    def tracks(self) -> dict[str, list[Track]]:
        """Video id -> its objects in order of ids."""
        found: dict[str, list[Track]] = {}
        for row in self._table("tracks", tracks):
            track = Track(
                row["object_id"],
                row["label"],
                tuple(row["prompt_frames"] or ()),
                row["n_visible"],
                row["first_frame"],
                row["area_mean"],
                row["score_mean"],
            )
            found.setdefault(row["video_id"], []).append(track)
        return {video_id: sorted(own, key=lambda track: track.object_id) for video_id, own in found.items()}

    def video(
        self,
        video: FinishedVideo,
        objects: Sequence[Track],
        images: Sequence[str] | None = None,
        read: Callable[[int], None] | None = None,
        unlisted: str | None = None,
    ) -> OutVideo:
        """A finished video, ready for a format. images: the names of its source's images in order, where it is an
        image folder; otherwise those that an import recorded. unlisted: why there are none although it is one. read is
        called with the number of rows that were read.
        """
        row = video.row
        count, first, stride = row["frames_annotated"], row["first_frame"] or 0, row["stride"] or 1
        frames = range(first, first + count * stride, stride)
        masks = open_masks(self._out, video.video_id, self._options, row=row)
        names = sources = None
        if images is not None and (not frames or frames[-1] < len(images)):
            names, sources = [images[frame] for frame in frames], list(images)
        elif row["shards"] and row["checkpoint_sha256"] == videos.IMPORTED:
            names, sources = self._recorded(row["shards"][0]["unit_id"], video.video_id, count)

        def rows() -> Iterator[Any]:
            for frame, found in masks.frames():
                if read is not None:
                    read(len(found))
                yield frame, found

        def track(object_id: int) -> Iterator[Any]:
            for found in masks.track(object_id):
                if read is not None:
                    read(1)
                yield found

        known = [number for number in (row["frames_declared"], row["frames_decoded"]) if number is not None]
        return OutVideo(
            video_id=video.video_id,
            height=row["height"],
            width=row["width"],
            frames=frames,
            names=names,
            source_names=sources,
            source_frames=max(known, default=None) if known else None,
            fps=row["fps"],
            duration_s=row["duration_s"],
            tracks=tuple(objects),
            rows=rows,
            track=track,
            unlisted=unlisted if names is None else None,
        )

    def _recorded(self, unit_id: str, video_id: str, count: int) -> tuple[list[str] | None, list[str] | None]:
        images = self._images_in(unit_id)
        record = images.get(video_id, images.get(None))
        if record is None:
            return None, None
        annotated = record["annotated"]
        return annotated if annotated is not None and len(annotated) == count else None, record["source"]

    def _images_in(self, unit_id: str) -> dict[str | None, Any]:
        """video_id (None: its only video) -> what a shard records. That of the last shard is kept: a compacted one has
        many videos, one after the other."""
        if self._images is not None and self._images[0] == unit_id:
            return self._images[1]
        name = f"masks/{unit_id}.parquet"
        try:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                metadata = pq.read_metadata(file).metadata or {}
        except FileNotFoundError as error:
            raise ConvertError(f"{self.shown}/{name} is lost: see python -m jobs.verify") from error
        except pa.ArrowException as error:
            raise ConvertError(f"{self.shown}/{name} is damaged ({error}): see python -m jobs.verify") from error
        listed = json.loads(metadata.get(b"videos", b"[]"))
        found = {video["video_id"]: video.get(IMAGES_KEY.decode()) for video in listed}
        if IMAGES_KEY in metadata:
            found[None] = json.loads(metadata[IMAGES_KEY])
        self._images = unit_id, found
        return found

    def _table(self, name: str, schema: Any) -> Iterator[dict[str, Any]]:
        folder = f"{self._root}/{name}"
        try:
            paths = sorted(self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            if name == "tracks":
                return  # of a run whose videos all failed
            raise ConvertError(f"{self.shown} has no finished video: give the --output of an annotate run") from None
        columns = [field.name for field in schema.SCHEMA]
        for path in paths:
            if path.endswith(".parquet") and path.rpartition("/")[2][:1] not in "._":
                try:
                    with self._fs.open(path, "rb") as file:
                        table = read_table(file)
                except pa.ArrowException as error:
                    raise ValueError(f"{self.shown}/{name}/{path.rpartition('/')[2]} is damaged: {error}") from error
                for row in table.to_pylist():
                    yield dict.fromkeys(columns) | row
