"""`videos` and `tracks` rows, derived from a video's published shards alone, under names fixed by the video's id.

Idempotent: an actor does it after publishing a whole video, the driver once a split video has all its shards, and a
later run repeats it where either died in between.
"""

import contextlib
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.stores.storage import Published, Storage
from cluster.track_totals import track_row
from schemas import failures as failures_schema
from schemas import tracks as tracks_schema
from schemas import videos as videos_schema
from schemas.parquet import read_table
from schemas.run_config import RunConfig

VIDEO_KEY = b"video"
BANKS = "_run/banks"


class ShardDamaged(OSError):
    """A published shard that cannot be read. The message names it and the remedy."""


class FailureDamaged(OSError):
    """A row of `failures` that cannot be read. The message names it and the remedy."""


def shard_name(unit_id: str) -> str:
    """Where a unit's masks lie. Ids are hexadecimal, so a video's name never becomes a path."""
    return f"masks/{unit_id}.parquet"


def bank_names(unit_id: str) -> tuple[str, str]:
    """Where a burn-in unit's bank lies, and the facts that are published after it: with them the bank is there."""
    return f"{BANKS}/{unit_id}.safetensors", f"{BANKS}/{unit_id}.json"


def row_name(table: str, video_id: str) -> str:
    """Where a video's row of `videos` or rows of `tracks` lie."""
    return f"{table}/{videos_schema.file_name(video_id)}"


def failure_name(unit_id: str, attempt: int, kind: str) -> str:
    """Where a failed attempt's row lies. The name says what it was, so that a resume need not open it.

    kind: retried (a strike), lost (no strike) or final.
    """
    return f"failures/{unit_id}-{attempt:03d}-{kind}.parquet"


def finalise_video(
    storage: Storage,
    unit_ids: Sequence[str],
    measured: Mapping[str, object] | None = None,
    published: Mapping[str, Published] | None = None,
) -> dict:
    """Publishes the rows that follow from a video's shards, given in order of frames; returns the `videos` row.

    measured: timings and the like, known to who made them. published: what is known of shards without reading them.
    """
    parts, shards = [], []
    for unit_id in unit_ids:
        with storage.open_input(shard_name(unit_id)) as file:
            record = _facts_in(file, f"{storage.url}/{shard_name(unit_id)}")
            known = (published or {}).get(unit_id)
            size, digest = (known.size, known.sha256) if known else _digest(file)
        parts.append(record)
        shards.append({"unit_id": unit_id, "rows": record["mask_rows"], "bytes": size, "sha256": digest})
    tracks = [
        track_row(parts[0]["video_id"], [part["tracks"][number] for part in parts])
        for number in range(len(parts[0]["tracks"]))
    ]
    row = {**merge_facts(parts), "shards": shards, "finished_at": datetime.datetime.now(datetime.UTC)}
    row |= measured or {}
    publish_rows(storage, row_name("tracks", row["video_id"]), tracks_schema, tracks)
    publish_rows(storage, row_name("videos", row["video_id"]), videos_schema, [row])
    return row


def merge_facts(parts: Sequence[Mapping]) -> dict:
    """The deterministic part of a video's row from the facts in each of its shards."""
    row = {name: value for name, value in parts[0].items() if name != "tracks"}
    row["mask_rows"] = sum(part["mask_rows"] for part in parts)
    row["frames_annotated"] = sum(part["frames_annotated"] for part in parts)
    row["frames_decoded"] = max(part["frames_decoded"] for part in parts)
    if any(part["status"] == videos_schema.TRUNCATED for part in parts):
        row["status"] = videos_schema.TRUNCATED
    messages = dict.fromkeys(part["message"] for part in parts if part["message"])
    row["message"] = "; ".join(messages) or None
    return row


def publish_failure(storage: Storage, row: Mapping[str, object], kind: str, config: RunConfig) -> None:
    """One row of `failures`; a terminal one also becomes the video's row, with status `failed`."""
    publish_rows(storage, failure_name(row["unit_id"], row["attempt"], kind), failures_schema, [dict(row)])
    if row["terminal"]:
        _publish_failed_video(storage, row, config)


def finalise_failed(storage: Storage, unit_id: str, attempt: int, config: RunConfig) -> None:
    """The row of `videos` of a video whose last failure is written, but whose driver died before that row was. Raises
    FailureDamaged, OSError."""
    name = failure_name(unit_id, attempt, "final")
    try:
        failure = read_table(storage.read(name)).to_pylist()[0]
        _publish_failed_video(storage, failure, config)
    except (pa.ArrowException, LookupError) as error:
        raise FailureDamaged(
            f"{storage.url}/{name} is damaged: --retry-failed tries its video again ({error})"
        ) from error


def _publish_failed_video(storage: Storage, row: Mapping[str, object], config: RunConfig) -> None:
    video = {name: row[name] for name in ("video_id", "video", "unit_id", "actor", "device", "message")}
    video |= {"status": "failed", "finished_at": row["happened_at"], "mask_rows": 0, "frames_annotated": 0}
    video |= {"checkpoint_sha256": config.checkpoint_sha256, "settings_sha256": config.fingerprint()}
    publish_rows(storage, row_name("videos", row["video_id"]), videos_schema, [video])


def delete_bank(storage: Storage, unit_id: str) -> None:
    """Removes a saved bank: first the facts that say that it is there. What cannot be deleted stays."""
    bank, facts = bank_names(unit_id)
    for name in (facts, bank):
        with contextlib.suppress(OSError):
            storage.delete(name)


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


def _facts_in(file, where: str) -> dict:
    try:
        with pq.ParquetFile(file) as shard:
            return json.loads(shard.metadata.metadata[VIDEO_KEY])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ShardDamaged(
            f"{where} is no whole shard of this program ({error}). jobs.verify says what else is damaged; delete it, "
            "and the next run makes it anew"
        ) from error


def _digest(file) -> tuple[int, str]:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")
    return file.tell(), digest.hexdigest()
