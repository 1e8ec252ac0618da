"""An output with all that makes exporting hard: ids that are no file names, gaps, overlaps, a stride, images."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from made_output import CONFIG, hexadecimal
from PIL import Image

from cluster.finalise import finalise_video, shard_name
from cluster.shard import ShardWriter
from cluster.shard_facts import mask_row
from cluster.stores.storage import Storage
from schemas import masks as masks_schema
from schemas.metadata import file_metadata
from stcn_core.masks import encode_mask

SIZE = (24, 32)


@dataclass(frozen=True)
class Clip:
    """masks: frame -> object id -> uint8 [H, W]; labels: of every object, None for none; given: frames of prompts."""

    video_id: str
    frames: range
    masks: Mapping[int, Mapping[int, np.ndarray]]
    labels: Mapping[int, str | None]
    source_frames: int
    fps: float | None = 25.0
    images: Path | None = None
    given: tuple[int, ...] = field(default=())
    size: tuple[int, int] = SIZE


def block(top: int, left: int, height: int = 6, width: int = 9, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A rectangle, uint8 [H, W]."""
    mask = np.zeros(size, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def clips(folder: Path) -> list[Clip]:
    """Four videos; `folder` gets the images of the one that has any."""
    images = folder / "images"
    images.mkdir(parents=True)
    for number in range(1, 10):
        Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(images / f"frame_{number:04d}.png")
    moving = {
        frame: {
            2: block(frame, frame),  # overlaps object 5
            **({} if frame in (3, 4, 9) else {5: block(frame + 2, frame + 4, 3, 5)}),
        }
        for frame in range(12)
    }
    holes = {frame: {1: block(frame, 3) - block(frame + 1, 5, 2, 2)} for frame in range(9) if frame != 2}
    late = {frame: {1: block(2, frame), 3: block(15, 2 * frame % 20)} for frame in range(7, 20, 3)}
    return [
        Clip("dög/run: 1", range(12), moving, {2: "dog", 5: None, 7: "ghost"}, 12, given=(0, 6)),
        Clip("clip", range(9), holes, {1: "dog"}, 9, None, images, given=(0,)),
        Clip("late", range(4, 22, 3), late, {1: "cat", 3: None}, 23, 29.97, given=(7,)),
        Clip("nothing", range(5), {}, {4: None}, 5, size=(7, 5)),
    ]


def write_clips(url: str | Path, made: list[Clip]) -> Storage:
    """The output that a run would have left."""
    storage = Storage(str(url))
    for clip in made:
        write_clip(storage, clip)
    return storage


def write_clip(storage: Storage, clip: Clip) -> None:
    """One video's shard and rows."""
    unit_id = hexadecimal(clip.video_id)
    with tempfile.TemporaryDirectory() as scratch, ShardWriter(Path(scratch)) as writer:
        for frame, found in clip.masks.items():
            for object_id, picture in found.items():
                given = frame in clip.given
                score = 1.0 if given else (40 + frame + object_id) / 100
                mask = encode_mask(picture, object_id, float(np.float32(score)), given)
                seconds = None if clip.fps is None else frame / clip.fps
                pts = None if clip.fps is None else frame * 512
                label = clip.labels[object_id]
                writer.add(mask_row(mask, frame, video_id=clip.video_id, label=label, pts=pts, seconds=seconds))
        tracks = [
            {
                "object_id": object_id,
                "label": label,
                "prompt_frames": [frame for frame in clip.given if object_id in clip.masks.get(frame, {})],
                **writer.totals.of(object_id),
            }
            for object_id, label in clip.labels.items()
        ]
        facts = {
            "unit_id": unit_id, "video_id": clip.video_id, "video": str(clip.images or "/gone/a.mp4"),
            "status": "done", "frames_decoded": clip.source_frames, "frames_declared": clip.source_frames,
            "frames_annotated": len(clip.frames), "first_frame": clip.frames.start, "stride": clip.frames.step,
            "width": clip.size[1], "height": clip.size[0], "fps": clip.fps, "objects": len(tracks),
            "codec": "png" if clip.images else "h264",
            "duration_s": None if clip.fps is None else clip.source_frames / clip.fps, "mask_rows": writer.rows,
            "checkpoint_sha256": CONFIG.checkpoint_sha256, "settings_sha256": CONFIG.fingerprint(), "message": None,
            "tracks": tracks,
        }  # fmt: skip
        metadata = file_metadata(
            masks_schema.NAME, masks_schema.VERSION, unit_id=unit_id, video_key=unit_id, kind="whole"
        )
        storage.publish(shard_name(unit_id), writer.finish({**metadata, b"video": json.dumps(facts).encode()}))
    finalise_video(storage, [unit_id])


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder by relative name."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
