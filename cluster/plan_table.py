"""The plan as it lies on storage, `_run/plan.parquet`: written before work starts, extended by later runs."""

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from cluster.changed_videos import refusal
from cluster.frames.probe import Probe
from cluster.plan import Unit, video_units
from cluster.resume import by_video
from cluster.stores.source import SourceStat
from schemas.run_config import RunConfig
from schemas.urls import public_url

VERSION = "2.0.0"
PROBE_COLUMNS = ("frames", "width", "height", "fps", "duration_s", "codec")
SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("video_key", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("video", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("first", pa.int64(), nullable=False),
        pa.field("last", pa.int64()),
        pa.field("source_size", pa.int64()),
        pa.field("source_version", pa.string()),
        pa.field("objects_prompted", pa.int32(), nullable=False),
        pa.field("frames", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("codec", pa.string()),
        pa.field("probe_error", pa.string()),
        pa.field("cost", pa.float64(), nullable=False),
    ],
    metadata={"schema_name": "stcn-plan", "schema_version": VERSION},
)


class PlanError(ValueError):
    """A plan that contradicts what is already published, or that this program cannot read."""


class PlannedOtherwise(ConnectionError):
    """Another run works on the same output by another plan: it passes. The message says so."""


def plan_table(units: Sequence[Unit]) -> pa.Table:
    """One row per unit. Bytes of inline masks stay in the manifest."""
    rows = [
        {
            "unit_id": unit.unit_id,
            "video_key": unit.video_key,
            "video_id": unit.row.video_id,
            "video": public_url(unit.row.video),
            "row": unit.row.row,
            "kind": unit.kind,
            "first": unit.first,
            "last": unit.last,
            "source_size": unit.source.size,
            "source_version": unit.source.version,
            "objects_prompted": unit.row.objects_expected,
            **{name: getattr(unit.probe, name) for name in PROBE_COLUMNS},
            "probe_error": unit.probe.error,
            "cost": unit.cost,
        }
        for unit in units
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def check_version(table: pa.Table, where: str) -> None:
    """Raises PlanError for a plan of another major version."""
    version = (table.schema.metadata or {}).get(b"schema_version", b"?").decode()
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise PlanError(f"{where} has version {version}, this program reads {VERSION}. Use a new --output.")


def known_probes(earlier: pa.Table | None, settled: Collection[str] = ()) -> dict[str, Probe]:
    """video_key -> what an earlier run found out about the video, so that it is not looked into again.

    An error counts as known only where a unit of the video is in `settled` (unit ids with a shard, or with a failure
    that is not tried again): the error may have been storage's of a moment, and would keep the video in one piece for
    good. With a unit settled, other units of the same video would be a second answer.
    """
    if earlier is None:
        return {}
    records = earlier.select(["unit_id", "video_key", *PROBE_COLUMNS, "probe_error"]).to_pylist()
    final = {record["video_key"] for record in records if record["unit_id"] in settled}
    return {
        record["video_key"]: _probe(record)
        for record in records
        if record["probe_error"] is None or record["video_key"] in final
    }


def keep_published(
    units: Sequence[Unit], earlier: pa.Table | None, published: set[str], config: RunConfig
) -> list[Unit]:
    """A video that is published stays done when its source is gone or cannot be looked up any more."""
    lost = {unit.row.video_id for unit in units if not unit.found}
    if earlier is None or not lost:
        return list(units)
    before: dict[str, list[dict]] = {}
    for record in earlier.to_pylist():
        if record["video_id"] in lost:
            before.setdefault(record["video_id"], []).append(record)
    kept = []
    for unit in units:
        records = before.get(unit.row.video_id, [])
        shards = {record["unit_id"] for record in records if record["kind"] != "burn-in"}
        if not unit.found and shards and shards <= published:
            kept += _units_again(unit, records[0], config)
        else:
            kept.append(unit)
    return kept


def _units_again(unit: Unit, record: Mapping[str, object], config: RunConfig) -> list[Unit]:
    source = SourceStat(True, False, record["source_size"], record["source_version"])
    return video_units(unit.row, source, record["video_key"], _probe(record), config)


def _probe(record: Mapping[str, object]) -> Probe:
    return Probe(*(record[name] for name in PROBE_COLUMNS), record["probe_error"])


def keep_planned(units: Sequence[Unit], there: pa.Table, config: RunConfig) -> list[Unit]:
    """The units as they are where another run has planned the same videos, and may be at work on them: it may have got
    another answer of the probe, and two ways of splitting a video are two answers for it.

    Raises PlannedOtherwise where it has other prompts or another file for a video.
    """
    planned: dict[str, list[dict]] = {}
    for record in there.to_pylist():
        planned.setdefault(record["video_id"], []).append(record)
    kept: list[Unit] = []
    otherwise = []
    for video in by_video(units):
        records = planned.get(video[0].row.video_id, [])
        ids = {record["unit_id"] for record in records}
        if records and ids != {unit.unit_id for unit in video}:
            unit = video[0]
            if unit.found:
                video = video_units(unit.row, unit.source, unit.video_key, _probe(records[0]), config)
            else:  # it was there for the other one, and may be there again
                video = _units_again(unit, records[0], config)
            if ids != {part.unit_id for part in video}:
                otherwise.append(unit.row.video_id)
        kept += video
    if otherwise:
        raise PlannedOtherwise(
            f"{len(otherwise)} video(s) (such as {otherwise[0]!r}) are planned with another file, other prompts or "
            "another manifest row by a run that works on the same --output, or did while this one planned: run this "
            "command again once it has ended"
        )
    return kept


def merge_plans(units: Sequence[Unit], earlier: pa.Table | None, published: set[str]) -> pa.Table:
    """Today's plan with the earlier rows of videos that it does not name.

    Raises PlanError where a video's masks are published already under another key: the video, its prompts or its row
    in the manifest changed since, and one folder never holds two answers for one video.
    """
    today = plan_table(units)
    if earlier is None:
        return today
    current = {unit.row.video_id: unit for unit in units}
    kept: list[dict] = []
    changed: dict[str, tuple[Unit, dict]] = {}
    for record in earlier.to_pylist():
        if record["video_id"] not in current:
            kept.append(record)
        elif record["video_key"] != current[record["video_id"]].video_key and record["unit_id"] in published:
            changed[record["video_id"]] = current[record["video_id"]], record
    if changed:
        raise PlanError(refusal(list(changed.values())))
    return pa.concat_tables([today, pa.Table.from_pylist(kept, SCHEMA)])
