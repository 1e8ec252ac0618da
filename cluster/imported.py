"""An output made from masks that other tools wrote: the same tables as a run's, through the same makers of rows.

What only a run can know stays null: working size, codec, rotation, hashes and version of the source, timings, device,
actor; pts and time_s too, unless the source is given. checkpoint_sha256 and settings_sha256 read "imported".
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rlemasklib import RLEMask

from cluster.config_lock import SettingsRefused
from cluster.finalise import finalise_video, row_name, shard_name
from cluster.frames.frame_times import FrameTimes
from cluster.import_record import import_record, lock_import
from cluster.plan import WHOLE
from cluster.plan_table import SCHEMA as PLAN_SCHEMA
from cluster.plan_table import PlanError
from cluster.planning import PLAN_NAME, read_plan
from cluster.shard import ShardWriter
from cluster.shard_facts import mask_row
from cluster.stores.storage import Storage
from schemas import masks as masks_schema
from schemas import videos as videos_schema
from schemas.convert.output import IMAGES_KEY
from schemas.convert.video import ConvertError, FoundMask, FoundVideo, grid_of
from schemas.metadata import file_metadata
from stcn_core.masks import ObjectMask

MOST_FRAMES = 1 << 24  # six days at 30 frames a second


@dataclass(frozen=True)
class Source:
    """The video that masks are of, where it is given. times: None for image folders."""

    url: str
    frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    codec: str | None = None
    times: FrameTimes | None = None


@dataclass
class Import:
    """One import into an output. sources: video id -> its source, None where it is not given. options: what else
    decides the rows, by name; one output holds one answer. skipped: videos that an earlier try had finished; scoreless:
    masks without a score, which get 1; unnamed: frames between the file's first and last one on its grid for which it
    has no word.
    """

    storage: Storage
    form: str
    source: str
    sources: Callable[[str], Source | None] = lambda _video_id: None
    options: Mapping[str, Any] = field(default_factory=dict)
    videos: int = 0
    masks: int = 0
    skipped: int = 0
    scoreless: int = 0
    unnamed: int = 0
    _units: dict[str, str] = field(default_factory=dict, repr=False)

    def begin(self, videos: Sequence[FoundVideo]) -> None:
        """Claims the folder and writes the plan: these videos, and those that earlier calls chose.

        Raises ConvertError: two videos of one id, or the folder is neither empty nor an import's. Raises
        SettingsRefused: it was begun from other files or with other options, or its plan cannot be read.
        """
        for video in videos:
            if video.video_id in self._units:
                files = sorted({one.source for one in videos if one.video_id == video.video_id})
                where = files[0] if len(files) == 1 else f"{files[0]} and {files[1]}"
                raise ConvertError(f"{where}: two videos have the id {video.video_id!r}; choose with --files or --only")
            key = [self.form, self.source, video.video_id]
            self._units[video.video_id] = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        if not lock_import(self.storage, import_record(self.form, self.source, self.options)):
            raise ConvertError(f"{self.storage.url} is not empty, nor the same import begun earlier: give another --to")
        rows = [self._planned(number, video) for number, video in enumerate(videos, 1)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows + self._planned_earlier(), PLAN_SCHEMA), sink)
        self.storage.publish(PLAN_NAME, sink.getvalue().to_pybytes())

    def add(self, video: FoundVideo, scratch: Path, read: Callable[[int], None] | None = None) -> None:
        """Publishes a video's shard, and its rows of tracks and videos; nothing where they are there already.

        read is called with the number of masks that were read. Raises ConvertError and what storage raises.
        """
        self.videos += 1
        unit_id, source = self._units[video.video_id], self.sources(video.video_id)
        names = (shard_name(unit_id), row_name("tracks", video.video_id), row_name("videos", video.video_id))
        if all(self.storage.exists(name) for name in names):
            self.skipped += 1
            return
        with ShardWriter(scratch) as writer:
            prompts = self._add_rows(writer, video, source, read)
            facts = self._facts(video, source, unit_id, writer, prompts)
            extra = {}
            if video.image_names is not None or video.source_names is not None:
                whole = facts["frames_annotated"] == len(video.frames)
                annotated = list(video.image_names) if video.image_names is not None and whole else None
                extra[IMAGES_KEY] = json.dumps({"annotated": annotated, "source": video.source_names}).encode()
            shard = writer.finish(self._metadata(unit_id) | {b"video": json.dumps(facts).encode()} | extra)
            published = self.storage.publish(shard_name(unit_id), shard)
        finalise_video(self.storage, [unit_id], published={unit_id: published})

    def _add_rows(
        self, writer: ShardWriter, video: FoundVideo, source: Source | None, read: Callable[[int], None] | None
    ) -> dict[int, list[int]]:
        """Frames with a given mask, by object; every object of the video has an entry."""
        prompts: dict[int, list[int]] = {object_id: [] for object_id in sorted(video.labels)}
        before: dict[int, int] = {}
        times = source.times if source is not None else None
        for found in video.masks():
            if read is not None:
                read(1)
            if before.get(found.object_id, -1) >= found.frame:
                where = f"{video.source}: {video.video_id} has two masks of object {found.object_id}"
                raise ConvertError(f"{where} on frame {found.frame}, or its frames are not in order")
            before[found.object_id] = found.frame
            frames = prompts.setdefault(found.object_id, [])
            mask = self._mask(found, video)
            if mask is None:
                continue
            if found.is_prompt:
                frames.append(found.frame)
            pts = seconds = None
            if times is not None:
                if found.frame >= len(times):
                    where = f"{video.video_id} has a mask of frame {found.frame}"
                    raise ConvertError(f"{where}, but {source.url} has {len(times)} frames: check --videos")
                pts, seconds = int(times.pts[found.frame]), float(times.time_s[found.frame])
            label = video.labels.get(found.object_id)
            row = mask_row(mask, found.frame, video_id=video.video_id, label=label, pts=pts, seconds=seconds)
            writer.add(row)
        self.masks += writer.rows
        return prompts

    def _mask(self, found: FoundMask, video: FoundVideo) -> ObjectMask | None:
        """None for an empty one: that the object is not visible is said by no row."""
        score = 1.0 if found.score is None else found.score
        if not (math.isfinite(score) and 0 <= score <= 1):
            where = f"{video.source}: {video.video_id}, frame {found.frame}, object {found.object_id}"
            raise ConvertError(f"{where} has the score {score}: 0 to 1 is needed")
        size = (found.height, found.width)
        rle = RLEMask.from_dict({"size": list(size), "counts": found.counts})
        area = int(rle.area())
        if area == 0:
            return None
        self.scoreless += found.score is None
        box = tuple(int(value) for value in rle.bbox())
        return ObjectMask(found.object_id, found.counts, *size, area, box, score, found.is_prompt)

    def _facts(
        self,
        video: FoundVideo,
        source: Source | None,
        unit_id: str,
        writer: ShardWriter,
        prompts: Mapping[int, list[int]],
    ) -> dict:
        """A `videos` row as far as it is known, and each object's sums: what a shard of a run says of itself."""
        first, stride, count = grid_of(video.frames)
        between = count - len(video.frames)
        self.unnamed += between
        notes = [f"imported from {self.form}"]
        if between:
            notes.append(f"{between} of its {count} frames have no mask file and count as empty")
        tracks = [
            {
                "object_id": object_id,
                "label": video.labels.get(object_id),
                "prompt_frames": prompts[object_id],
                **writer.totals.of(object_id),
            }
            for object_id in sorted(prompts)
        ]
        return {
            "unit_id": unit_id,
            "video_id": video.video_id,
            "video": source.url if source is not None else video.source,
            "status": videos_schema.DONE,
            "frames_decoded": None,
            "frames_declared": source.frames if source is not None and source.frames else video.source_frames,
            "frames_annotated": count,
            "first_frame": first,
            "stride": stride,
            "width": video.width,
            "height": video.height,
            "fps": source.fps if source is not None else video.fps,
            "duration_s": source.duration_s if source is not None else video.duration_s,
            "codec": source.codec if source is not None else None,
            "objects": len(tracks),
            "mask_rows": writer.rows,
            "checkpoint_sha256": videos_schema.IMPORTED,
            "settings_sha256": videos_schema.IMPORTED,
            "message": "; ".join(notes),
            "tracks": tracks,
        }

    def _metadata(self, unit_id: str) -> dict[bytes, bytes]:
        return file_metadata(
            masks_schema.NAME,
            masks_schema.VERSION,
            unit_id=unit_id,
            video_key=unit_id,
            kind=WHOLE,
            checkpoint_sha256=videos_schema.IMPORTED,
            settings_sha256=videos_schema.IMPORTED,
            imported_from=self.form,
        )

    def _planned_earlier(self) -> list[dict]:
        """The plan's rows of other videos than today's."""
        try:
            earlier = read_plan(self.storage)
        except PlanError as error:
            raise SettingsRefused(str(error)) from error
        rows = [] if earlier is None else earlier.to_pylist()
        return [row for row in rows if row["video_id"] not in self._units]

    def _planned(self, number: int, video: FoundVideo) -> dict:
        unit_id, frames = self._units[video.video_id], grid_of(video.frames)[2]
        if frames > MOST_FRAMES:
            what = f"{video.source}: the frames of {video.video_id} go from {video.frames[0]} to {video.frames[-1]}"
            raise ConvertError(f"{what}: if these numbers are no frame indices, use --frames order")
        return {
            "unit_id": unit_id,
            "video_key": unit_id,
            "video_id": video.video_id,
            "video": video.source,
            "row": number,
            "kind": WHOLE,
            "first": 0,
            "objects_prompted": len(video.labels),
            "frames": frames,
            "width": video.width,
            "height": video.height,
            "cost": 0.0,
        }
