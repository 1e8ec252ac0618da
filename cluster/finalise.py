"""`videos` and `tracks` rows, derived from a published shard alone, under names fixed by the video's id.

Idempotent: an actor does it after publishing, and a later run repeats it where the actor died in between.
"""

import datetime
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import Storage
from schemas import failures as failures_schema
from schemas import tracks as tracks_schema
from schemas import videos as videos_schema
from schemas.run_config import RunConfig

VIDEO_KEY = b"video"


def shard_name(unit_id: str) -> str:
    """Where a unit's masks lie. Ids are hexadecimal, so a video's name never becomes a path."""
    return f"masks/{unit_id}.parquet"


def row_name(table: str, video_id: str) -> str:
    """Where a video's row of `videos` or rows of `tracks` lie."""
    return f"{table}/{videos_schema.file_name(video_id)}"


def failure_name(unit_id: str, attempt: int, terminal: bool, cause: str) -> str:
    """Where a failed attempt's row lies. The name says what it was, so that a resume need not open it."""
    kind = "final" if terminal else "lost" if cause == "node-lost" else "retried"
    return f"failures/{unit_id}-{attempt:03d}-{kind}.parquet"


def finalise_published(storage: Storage, unit_id: str) -> dict:
    """Derives the rows of a unit whose actor died after publishing its masks; returns the `videos` row."""
    with storage.open_input(shard_name(unit_id)) as file:
        return finalise_shard(storage, file, {"finished_at": datetime.datetime.now(datetime.UTC)})


def finalise_shard(storage: Storage, shard: Path | io.IOBase, measured: Mapping[str, object]) -> dict:
    """Publishes the rows that follow from one finished shard. measured: timings and the like, known to its maker."""
    with pq.ParquetFile(shard) as file:
        record = json.loads(file.metadata.metadata[VIDEO_KEY])
        objects = {item["object_id"]: item for item in record.pop("tracks")}
        tracks = _tracks(file, record["video_id"], objects)
    publish_rows(storage, row_name("tracks", record["video_id"]), tracks_schema, tracks)
    publish_rows(storage, row_name("videos", record["video_id"]), videos_schema, [{**record, **measured}])
    return record


def publish_failure(storage: Storage, row: Mapping[str, object], config: RunConfig) -> None:
    """One row of `failures`; a terminal one also becomes the video's row, with status `failed`."""
    publish_rows(
        storage,
        failure_name(row["unit_id"], row["attempt"], row["terminal"], row["cause"]),
        failures_schema,
        [dict(row)],
    )
    if row["terminal"]:
        video = {name: row[name] for name in ("video_id", "video", "unit_id", "actor", "device", "message")}
        video |= {"status": "failed", "finished_at": row["happened_at"], "mask_rows": 0, "frames_annotated": 0}
        video |= {"checkpoint_sha256": config.checkpoint_sha256, "settings_sha256": config.fingerprint()}
        publish_rows(storage, row_name("videos", row["video_id"]), videos_schema, [video])


def publish_rows(storage: Storage, name: str, schema_module, rows: list[dict]) -> None:
    """Writes rows (missing columns are null) as one Parquet file in one call."""
    schema = schema_module.SCHEMA
    columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
    unknown = {key for row in rows for key in row} - set(columns)
    if unknown:
        raise ValueError(f"{schema_module.NAME} has no column {sorted(unknown)}")
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **schema_module.write_options()) as writer:
        writer.write_table(pa.Table.from_pydict(columns, schema=schema))
    storage.publish(name, sink.getvalue().to_pybytes())


def _tracks(file: pq.ParquetFile, video_id: str, objects: Mapping[int, Mapping]) -> list[dict]:
    """One row per object, visible or not; reads the shard batch by batch."""
    totals = {
        object_id: {"n_visible": 0, "first_frame": None, "last_frame": None, "areas": 0, "scores": 0.0,
                    "area_min": None, "area_max": None}
        for object_id in objects
    }  # fmt: skip
    for batch in file.iter_batches(columns=["object_id", "frame_index", "area", "score"]):
        for object_id, frame, area, score in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            total = totals[object_id]
            total["n_visible"] += 1
            total["first_frame"] = frame if total["first_frame"] is None else min(total["first_frame"], frame)
            total["last_frame"] = frame if total["last_frame"] is None else max(total["last_frame"], frame)
            total["area_min"] = area if total["area_min"] is None else min(total["area_min"], area)
            total["area_max"] = area if total["area_max"] is None else max(total["area_max"], area)
            total["areas"] += area
            total["scores"] += score
    rows = []
    for object_id, total in sorted(totals.items()):
        areas, scores, visible = total.pop("areas"), total.pop("scores"), total["n_visible"]
        rows.append(
            {
                "video_id": video_id,
                "object_id": object_id,
                "label": objects[object_id]["label"],
                "prompt_frames": objects[object_id]["prompt_frames"],
                **total,
                "area_mean": areas / visible if visible else None,
                "score_mean": scores / visible if visible else None,
            }
        )
    return rows
