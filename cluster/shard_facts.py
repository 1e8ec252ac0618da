"""What a shard says of itself: its rows, and the facts from which `videos` and `tracks` follow."""

import json
from dataclasses import asdict, dataclass

from cluster.finalise import VIDEO_KEY
from cluster.frame_grid import FrameGrid
from cluster.open_video import OpenVideo
from cluster.plan import Unit, settings_json, video_record
from cluster.shard import ShardWriter
from schemas import masks as masks_schema
from schemas import videos as videos_schema
from schemas.metadata import file_metadata
from stcn_core.masks import ObjectMask


@dataclass(frozen=True)
class Stretch:
    """What became of the frames of a unit. decoded counts source frames from frame 0."""

    frames: int
    decoded: int
    status: str
    notes: tuple[str, ...]


def stretch(video: OpenVideo, grid: FrameGrid, frames: int, decoded: int, error: str | None) -> Stretch:
    """Judges whether all frames of the grid that should be there were there."""
    notes = list(video.notes)
    declared = video.info.frames_declared
    if declared is not None and video.times is not None:
        declared -= video.times.hidden  # packets that an edit list hides are declared too
    expected = declared if grid.end is None or declared is None else min(declared, grid.end)
    # With a stride the reader may stop up to stride - 1 frames before the last one.
    short = expected is not None and decoded + grid.stride - 1 < expected
    if error:
        notes.append(error)
    elif short:
        notes.append(f"{decoded} of {declared} declared frames decode")
    status = videos_schema.TRUNCATED if error or short else videos_schema.DONE
    return Stretch(frames, decoded, status, tuple(notes))


def video_mask_row(video: OpenVideo, frame: int, mask: ObjectMask) -> dict:
    """One row of the `masks` table."""
    pts, seconds = video.time_of(frame)
    label = video.label_of(mask.object_id)
    return mask_row(mask, frame, video_id=video.row.video_id, label=label, pts=pts, seconds=seconds)


def mask_row(
    mask: ObjectMask, frame: int, *, video_id: str, label: str | None, pts: int | None, seconds: float | None
) -> dict:
    """A mask with what is known of its frame, as a row of the `masks` table."""
    return {
        "video_id": video_id,
        "object_id": mask.object_id,
        "label": label,
        "frame_index": frame,
        "pts": pts,
        "time_s": seconds,
        "height": mask.height,
        "width": mask.width,
        "rle_counts": mask.counts,
        "area": mask.area,
        "bbox_x": mask.box[0],
        "bbox_y": mask.box[1],
        "bbox_w": mask.box[2],
        "bbox_h": mask.box[3],
        "score": mask.score,
        "is_prompt": mask.is_prompt,
        **asdict(mask.more),
        "doubt": 0.0 if mask.is_prompt else mask.more.doubt,
    }


def shard_metadata(unit: Unit, video: OpenVideo, writer: ShardWriter, made: Stretch) -> dict[bytes, bytes]:
    """The shard's file metadata. The same answer gives the same bytes: no time, no host, no actor in it."""
    config = video.bench.config
    return {
        **file_metadata(
            masks_schema.NAME,
            masks_schema.VERSION,
            unit_id=unit.unit_id,
            video_key=unit.video_key,
            kind=unit.kind,
            checkpoint_sha256=config.checkpoint_sha256,
            settings_sha256=config.fingerprint(),
            settings=settings_json(config),
            device_profile=video.bench.segmenters.device_profile(),
        ),
        VIDEO_KEY: json.dumps(_facts(unit, video, writer, made)).encode(),
    }


def _facts(unit: Unit, video: OpenVideo, writer: ShardWriter, made: Stretch) -> dict:
    """A `videos` row as far as this shard knows it, and each object's sums."""
    info, config = video.info, video.bench.config
    tracks = [
        {
            "object_id": object_id,
            "label": video.label_of(object_id),
            "prompt_frames": video.prompt_frames(object_id),
            **(video.prompts.found[object_id].provenance() if object_id in video.prompts.found else {}),
            **writer.totals.of(object_id),
        }
        for object_id in video.prompts.object_ids
    ]
    return {
        **video_record(unit),
        "unit_id": unit.video_key,
        "status": made.status,
        "frames_decoded": made.decoded,
        "frames_declared": info.frames_declared,
        "frames_annotated": made.frames,
        "first_frame": video.grid.start,
        "stride": video.grid.stride,
        "width": info.width,
        "height": info.height,
        "working_width": video.size[1],
        "working_height": video.size[0],
        "fps": info.fps,
        "duration_s": info.duration_s,
        "rotation": info.rotation,
        "codec": info.codec,
        "source_size": unit.source.size,
        "source_version": unit.source.version,
        "source_sha256": video.source_sha256(),
        "objects": len(video.prompts.object_ids),
        "mask_rows": writer.rows,
        "checkpoint_sha256": config.checkpoint_sha256,
        "settings_sha256": config.fingerprint(),
        "message": "; ".join(made.notes) or None,
        "tracks": tracks,
    }
