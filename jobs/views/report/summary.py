"""What a report says of a whole run: totals, pace, failures, and one short record per video, the most needy first."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.config_lock import CONFIG_NAME
from cluster.inspect.inspection import Output, Unreadable, read_json, read_rows
from cluster.inspect.status_report import read_status
from cluster.summary import SUMMARY_NAME
from schemas import videos as videos_schema

STAGES = ("fetch", "burn_in", "final", "network")
SHOWN_SETTINGS = (
    "checkpoint", "resolution", "burn_in_passes", "burn_in_frames", "burn_in_order", "burn_in_gate", "memory_frames",
    "memory_policy", "prompt_weight", "recent_frames", "group_frames", "stride", "precision", "seed",
)  # fmt: skip


def read_videos(output: Output) -> tuple[list[dict], list[str]]:
    """(rows of `videos`, what could not be read)."""
    rows, notes = [], []
    for name, found in read_rows(output.storage, output.names("videos"), videos_schema, None):
        if isinstance(found, Exception):
            notes.append(f"{name}: {found}")
        else:
            rows += found
    return rows, notes


def run_summary(output: Output, rows: Sequence[Mapping[str, Any]], notes: list[str]) -> dict[str, Any]:
    """The report's head: plain values for JSON."""
    status = read_status(output.storage)
    done = [row for row in rows if row["status"] != videos_schema.FAILED]
    seconds = {name: sum(row[f"seconds_{name}"] or 0.0 for row in done) for name in (*STAGES, "total")}
    frames = sum(row["frames_annotated"] or 0 for row in done)
    timed = sum(row["frames_annotated"] or 0 for row in done if row["seconds_total"])
    return {
        "output": output.storage.url,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "state": status.state,
        "totals": {
            "videos": status.videos,
            "done": status.done,
            "failed": status.failed,
            "left": status.left,
            "truncated": sum(row["status"] == videos_schema.TRUNCATED for row in done),
            "frames": frames,
            "masks": sum(row["mask_rows"] or 0 for row in done),
            "objects": sum(row["objects"] or 0 for row in done),
            "hours": sum(row["duration_s"] or 0.0 for row in done) / 3600,
            "bytes": sum(size for name, size in output.sizes.items() if name.startswith("masks/")),
        },
        "pace": {
            "seconds": seconds,
            # Of one actor, all of its time for the units counted.
            "frames_per_second": timed / seconds["total"] if seconds["total"] else None,
            "devices": _devices(done),
            "run": _run_pace(output, notes),
        },
        "failures": [asdict(kind) for kind in status.failures],
        "retried": status.attempts_retried,
        "lost": status.attempts_lost,
        "settings": _settings(output),
        "notes": [*notes, *status.notes],
    }


def _devices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        try:
            found[str(json.loads(row["device"] or "{}").get("device") or "")] = None
        except (ValueError, AttributeError):
            found[str(row["device"])] = None
    return sorted(name for name in found if name)


def _run_pace(output: Output, notes: list[str]) -> dict[str, Any] | None:
    """What the last run that did anything wrote of itself."""
    try:
        record = read_json(output.storage, SUMMARY_NAME) or {}
    except Unreadable as error:
        notes.append(str(error))
        return None
    names = ("seconds", "frames_now", "frames_per_second", "actors", "video_hours_per_day_per_actor", "network_share")
    found = {name: record.get(name) for name in names if isinstance(record.get(name), int | float)}
    return found if found.get("frames_now") else None


def _settings(output: Output) -> dict[str, Any]:
    try:
        record = read_json(output.storage, CONFIG_NAME) or {}
    except Unreadable:
        return {}
    record = record.get("settings", record) if output.compaction is not None else record
    return {name: record[name] for name in SHOWN_SETTINGS if record.get(name) is not None}


def video_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the list of videos says of one, before anybody opens it."""
    return {
        "id": row["video_id"],
        "video": row["video"],
        "status": row["status"],
        "message": row["message"],
        "frames": row["frames_annotated"] or 0,
        "first": row["first_frame"] or 0,
        "stride": row["stride"] or 1,
        "width": row["width"],
        "height": row["height"],
        "fps": row["fps"],
        "duration": row["duration_s"],
        "objects": row["objects"] or 0,
        "masks": row["mask_rows"] or 0,
        "seconds": row["seconds_total"],
    }
