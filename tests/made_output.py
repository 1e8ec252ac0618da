"""A small output folder as a run leaves it, without running one: plan, shards, tables, a failure, progress."""

import datetime
import hashlib
import io
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rlemasklib import RLEMask

from cluster.finalise import finalise_video, publish_failure, shard_name
from cluster.plan_table import SCHEMA as PLAN_SCHEMA
from cluster.shard import ShardWriter
from cluster.stores.storage import Storage
from schemas import masks as masks_schema
from schemas.metadata import file_metadata
from schemas.run_config import RunConfig

SIZE = (24, 32)
SEGMENT = 10
CONFIG = RunConfig("tiny.safetensors", "c" * 64, segment_frames=SEGMENT)


class DeadlyStorage(Storage):
    """A storage whose file `deadly` kills the process that opens it, as a decoder's defect might."""

    deadly = ""

    def open_input(self, name: str) -> io.IOBase:
        if name == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open_input(name)


@dataclass(frozen=True)
class MadeVideo:
    """frames annotated, every stride-th from start; split: a burn-in and segments of 10 frames; objects: their ids."""

    video_id: str
    frames: int = 12
    split: bool = False
    objects: tuple[int, ...] = (2, 5)
    start: int = 0
    stride: int = 1

    @property
    def key(self) -> str:
        return hexadecimal(self.video_id)

    def units(self) -> list[tuple[str, str, int, int | None]]:
        """(unit_id, kind, first, last)."""
        if not self.split:
            return [(self.key, "whole", 0, None)]
        firsts = range(0, self.frames, SEGMENT)
        ends = [first + SEGMENT if first != firsts[-1] else None for first in firsts]
        segments = [
            (hexadecimal(f"{self.video_id} {first}"), "segment", first, last)
            for first, last in zip(firsts, ends, strict=True)
        ]
        return [(hexadecimal(f"{self.video_id} bank"), "burn-in", 0, None), *segments]

    def shards(self) -> list[str]:
        """Names of its shards in order of frames."""
        return [shard_name(unit_id) for unit_id, kind, _, _ in self.units() if kind != "burn-in"]


VIDEOS = (MadeVideo("short"), MadeVideo("ü long", 35, split=True, start=4, stride=3), MadeVideo("one", 7, objects=(1,)))


def hexadecimal(text: str) -> str:
    """32 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_output(
    url: str | Path, videos: Sequence[MadeVideo] = VIDEOS, unfinished: Sequence[str] = (), options: dict | None = None
) -> Storage:
    """Everything done except `unfinished` video ids, which are planned only."""
    storage = Storage(str(url), options)
    write_plan(storage, videos)
    for video in videos:
        if video.video_id not in unfinished:
            write_video(storage, video)
    return storage


def write_plan(storage: Storage, videos: Sequence[MadeVideo]) -> None:
    """Settings and plan."""
    storage.publish("_run/config.json", CONFIG.to_json().encode())
    rows = [
        {
            "unit_id": unit_id,
            "video_key": video.key,
            "video_id": video.video_id,
            "video": f"/in/{video.video_id}.mp4",
            "row": number,
            "kind": kind,
            "first": first,
            "last": last,
            "objects_prompted": len(video.objects),
            "frames": video.frames,
            "width": SIZE[1],
            "height": SIZE[0],
            "cost": 1.0,
        }
        for number, video in enumerate(videos, 1)
        for unit_id, kind, first, last in video.units()
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, PLAN_SCHEMA), sink)
    storage.publish("_run/plan.parquet", sink.getvalue().to_pybytes())


def write_video(storage: Storage, video: MadeVideo) -> None:
    """Its shards, and its rows of tracks and videos."""
    units = [unit for unit in video.units() if unit[1] != "burn-in"]
    for unit in units:
        write_shard(storage, video, *unit)
    finalise_video(storage, [unit[0] for unit in units], {"seconds_total": 1.0, "actor": "actor-0"})


def write_shard(storage: Storage, video: MadeVideo, unit_id: str, kind: str, first: int, last: int | None) -> None:
    """A shard with a moving rectangle per object; the first object is hidden on every fourth frame."""
    positions = range(first, min(last or video.frames, video.frames))
    with tempfile.TemporaryDirectory() as scratch:
        writer = ShardWriter(Path(scratch))
        for position in positions:
            for number, object_id in enumerate(video.objects):
                if number or position % 4 != 3:
                    writer.add(made_row(video, position, object_id))
        tracks = [
            {"object_id": o, "label": None, "prompt_frames": [video.start], **writer.totals.of(o)}
            for o in sorted(video.objects)
        ]
        facts = {
            "unit_id": video.key, "video_id": video.video_id, "video": f"/in/{video.video_id}.mp4", "status": "done",
            "frames_decoded": video.frames * video.stride, "frames_declared": video.frames * video.stride,
            "frames_annotated": len(positions), "first_frame": video.start, "stride": video.stride,
            "width": SIZE[1], "height": SIZE[0], "objects": len(video.objects), "mask_rows": writer.rows,
            "checkpoint_sha256": CONFIG.checkpoint_sha256, "settings_sha256": CONFIG.fingerprint(),
            "message": None, "tracks": tracks,
        }  # fmt: skip
        metadata = file_metadata(
            masks_schema.NAME, masks_schema.VERSION, unit_id=unit_id, video_key=video.key, kind=kind,
            checkpoint_sha256=CONFIG.checkpoint_sha256, settings_sha256=CONFIG.fingerprint(),
            device_profile="cpu, 1 thread",
        )  # fmt: skip
        shard = writer.finish({**metadata, b"video": json.dumps(facts).encode()})
        storage.publish(shard_name(unit_id), shard)


def made_row(video: MadeVideo, position: int, object_id: int) -> dict:
    """One row of `masks`."""
    picture = np.zeros(SIZE, np.uint8)
    top, left = (position + object_id) % 12, (3 * position + 5 * object_id) % 20
    picture[top : top + 6, left : left + 4 + object_id % 3] = 1
    mask = RLEMask.from_array(picture)
    x, y, w, h = (int(value) for value in mask.bbox())
    frame = video.start + position * video.stride
    return {
        "video_id": video.video_id, "object_id": object_id, "label": None, "frame_index": frame,
        "pts": frame * 512, "time_s": frame / 25, "height": SIZE[0], "width": SIZE[1],
        "rle_counts": mask.to_dict()["counts"], "area": int(mask.area()),
        "bbox_x": x, "bbox_y": y, "bbox_w": w, "bbox_h": h,
        "score": 1.0 if position == 0 else 0.75, "is_prompt": position == 0, "margin": 0.5, "edge_margin": 0.25,
        "soft_iou": 0.5, "match_entropy": 0.75, "match_distance": 1.5, "second_opinion": None,
        "doubt": 0.0 if position == 0 else (position * object_id % 10) / 10,
    }  # fmt: skip


def write_failure(
    storage: Storage, video: MadeVideo, kind: str = "final", error_class: str = "decode", attempt: int = 1
) -> None:
    """An attempt at the video's first unit that failed; final: the video failed."""
    row = {
        "unit_id": video.units()[0][0], "video_id": video.video_id, "video": f"/in/{video.video_id}.mp4",
        "attempt": attempt,
        "terminal": kind == "final", "stage": "final", "error_class": error_class, "cause": "exception",
        "message": f"/in/{video.video_id}.mp4: does not decode", "frames_done": 3,
        "host": None, "actor": "actor-0", "device": None,
        "happened_at": datetime.datetime.now(datetime.UTC),
    }  # fmt: skip
    publish_failure(storage, row, kind, CONFIG)


def write_progress(storage: Storage, state: str = "running", age_seconds: float = 0.0, **facts: object) -> None:
    """`_run/progress.json` as a driver wrote it that many seconds ago."""
    time = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_seconds)
    record = {"time": time.isoformat(), "state": state, "frames_per_second": 12.5, "seconds_left": 90.0,
              "actors_busy": 3, "actors_starting": 1, **facts}  # fmt: skip
    storage.publish("_run/progress.json", json.dumps(record).encode())
