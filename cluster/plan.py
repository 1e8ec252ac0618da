"""The plan: which units there are, fixed before work starts. Pure functions.

A unit is one video. Its id is a hash over everything that decides its masks, so the same command finds its own work
again, and anything that would give other masks gives another id.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from cluster.source import SourceStat
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig
from schemas.urls import public_url

PLAN_SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("video", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("source_size", pa.int64()),
        pa.field("source_version", pa.string()),
        pa.field("objects_prompted", pa.int32(), nullable=False),
    ],
    metadata={"schema_name": "stcn-plan", "schema_version": "1.0.0"},
)


class PlanError(ValueError):
    """A plan that contradicts what is already published."""


@dataclass(frozen=True)
class Unit:
    """One video's work. cost is a guess in bytes of source, used for order and time left only.

    found: the video and all its masks were there when the plan was made. A unit that was not found fails in its actor,
    with the reason.
    """

    unit_id: str
    row: VideoRow
    source: SourceStat
    cost: float
    found: bool = True


def unit_id(row: VideoRow, source: SourceStat, masks: Mapping[str, SourceStat], config: RunConfig) -> str:
    """32 hex digits over video id, the source's size and version, the prompts' content and the settings."""
    prompts = []
    for prompt in row.prompts:
        content, version = json.loads(prompt.to_json()), None
        if prompt.mask is not None:
            # By content, not by URL: a presigned URL is another one every day.
            del content["mask"]
            version = [masks[prompt.mask].exists, masks[prompt.mask].size, masks[prompt.mask].version]
        prompts.append([content, version])
    record = {
        "video_id": row.video_id,
        "source": [source.exists, source.size, source.version],
        "prompts": prompts,
        "range": [row.start, row.end, row.stride],
        "labels": row.labels,
        "settings": config.fingerprint(),
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:32]


def make_plan(
    rows: Sequence[VideoRow], sources: Mapping[str, SourceStat], masks: Mapping[str, SourceStat], config: RunConfig
) -> list[Unit]:
    """One unit per row, longest first by the size of the source (ties by video id)."""
    units = []
    for row in rows:
        source = sources[row.video]
        found = source.exists and all(masks[prompt.mask].exists for prompt in row.prompts if prompt.mask is not None)
        cost = float(max(source.size or 0, 1))
        units.append(Unit(unit_id(row, source, masks, config), row, source, cost, found))
    return sorted(units, key=lambda unit: (-unit.cost, unit.row.video_id))


def plan_table(units: Sequence[Unit]) -> pa.Table:
    """The plan as it is written to `_run/plan.parquet`. Bytes of inline masks stay in the manifest."""
    rows = [
        {
            "unit_id": unit.unit_id,
            "video_id": unit.row.video_id,
            "video": public_url(unit.row.video),
            "row": unit.row.row,
            "source_size": unit.source.size,
            "source_version": unit.source.version,
            "objects_prompted": len({prompt.object_id for prompt in unit.row.prompts}),
        }
        for unit in units
    ]
    return pa.Table.from_pylist(rows, PLAN_SCHEMA)


def keep_published(units: Sequence[Unit], earlier: pa.Table | None, published: set[str]) -> list[Unit]:
    """A video that is published stays done when its source is gone or cannot be looked up any more."""
    if earlier is None:
        return list(units)
    before = dict(zip(earlier["video_id"].to_pylist(), earlier["unit_id"].to_pylist(), strict=True))
    return [
        replace(unit, unit_id=before[unit.row.video_id])
        if not unit.found and before.get(unit.row.video_id) in published
        else unit
        for unit in units
    ]


def merge_plans(units: Sequence[Unit], earlier: pa.Table | None, published: set[str]) -> pa.Table:
    """Today's plan with the earlier rows that it does not name.

    Raises PlanError where a video's masks are published already under another unit id: the video, its prompts or
    its row in the manifest changed since, and one folder never holds two answers for one video.
    """
    today = plan_table(units)
    if earlier is None:
        return today
    current = {unit.row.video_id: unit.unit_id for unit in units}
    kept, changed = [], []
    for record in earlier.to_pylist():
        if record["video_id"] not in current:
            kept.append(record)
        elif record["unit_id"] != current[record["video_id"]] and record["unit_id"] in published:
            changed.append(record["video_id"])
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise PlanError(
            f"{len(changed)} video(s) have published masks, but the file, its prompts or its manifest row changed "
            f"since: {shown}. Use a new --output, or put them back as they were."
        )
    return pa.concat_tables([today, pa.Table.from_pylist(kept, PLAN_SCHEMA)])


def video_record(unit: Unit) -> dict:
    """What every table says of the unit's video."""
    return {"unit_id": unit.unit_id, "video_id": unit.row.video_id, "video": public_url(unit.row.video)}


def settings_json(config: RunConfig) -> str:
    """The settings as one line, for a shard's metadata."""
    return json.dumps(asdict(config), sort_keys=True)
