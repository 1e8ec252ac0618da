"""What pick begins with: the JSONL file to work on, made of any manifest or folder where it is not there yet."""

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from cluster.stores.source import list_manifest_rows, list_videos, read_source
from jobs.views.pick.manifest_file import write_whole
from schemas.manifest import ManifestError, Problem
from schemas.manifest_formats import read_records
from schemas.manifest_rows import FLAT_MARK, read_row
from schemas.prompt_record import FIELDS as PROMPT_FIELDS
from schemas.urls import file_name, is_local, parent, public_url, resolve

JSONL = (".jsonl", ".ndjson")
TABLES = (".csv", ".parquet")


def begin(
    manifest: str,
    to: str | None,
    options: Mapping[str, Any] | None = None,
    prompt_masks: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """The file to work on. Raises ValueError (ManifestError among them) and OSError, with the remedy.

    A local JSONL manifest is worked on in place unless `to` names another file. Anything else (CSV, Parquet, a folder
    or glob of videos, a manifest on remote storage) needs `to`: it is made from the manifest's rows; where it is there
    already, work goes on with it, and only rows with a new video_id are added.
    """
    name = file_name(public_url(manifest)).lower()
    in_place = name.endswith(JSONL) and is_local(manifest)
    if to is None:
        if not in_place:
            example = f"{name.rpartition('.')[0] or name or 'videos'}.jsonl"
            raise ValueError(
                f"{public_url(manifest)} cannot be written in place. Give --to {example}, where the rows with their "
                "prompts go."
            )
        return Path(resolve(manifest, "."))
    if not is_local(to) or not to.lower().endswith(JSONL):
        raise ValueError(f"--to {public_url(to)} must be a local file that ends with .jsonl")
    target = Path(resolve(to, "."))
    if in_place and target.resolve() == Path(resolve(manifest, ".")).resolve():
        return target
    if prompt_masks and name.endswith((*JSONL, *TABLES)):
        raise ValueError(f"--prompt-masks goes with a folder or glob; {public_url(manifest)} has prompts of its own")
    records = _records(manifest, options, prompt_masks, say)
    if parent(manifest) != str(target.parent) or not name.endswith((*JSONL, *TABLES)):
        records = [_rebased(record, parent(manifest)) for record in records]
    there = target.read_bytes() if target.exists() else b""
    known, problems = set(), []
    if there:
        present, _, problems = read_records(target.name, there)
        rows = [read_row(number, record, str(target.parent))[0] for number, record in present]
        known = {row.video_id for row in rows if row is not None}
    if problems:
        raise ManifestError(target.name, problems)
    fresh = [record for record in records if _video_id(record) not in known]
    lines = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in fresh)
    if lines:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, there + (b"\n" if there and not there.endswith(b"\n") else b"") + lines)
    say(f"{target}: {len(known)} videos were there, {len(fresh)} added from {public_url(manifest)}")
    return target


def _records(
    manifest: str, options: Mapping[str, Any] | None, prompt_masks: str | None, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    name = file_name(public_url(manifest))
    if not name.lower().endswith((*JSONL, *TABLES)):
        if prompt_masks is None:
            return [{"video": url, "video_id": video_id, "prompts": []} for video_id, url in _listed(manifest, options)]
        rows = list_manifest_rows(manifest, options, prompt_masks, say=say)
        return [
            {
                "video": row.video,
                "video_id": row.video_id,
                "prompts": [{"frame": p.frame, "object_id": p.object_id, "mask": p.mask} for p in row.prompts],
            }
            for row in rows
        ]
    found, merges, problems = read_records(manifest, read_source(manifest, options), foreign=True)
    records = [(number, _plain(record)) for number, record in found]
    if merges:
        records = _merged(records)
    for number, record in records:
        row, wrong = read_row(number, record, ".")
        problems += wrong if row is None else []
    if problems or not records:
        raise ManifestError(name, problems or [Problem(0, "", "it has no rows", "Write one row per video")])
    return [record for _, record in records]


def _listed(folder: str, options: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    found = list_videos(folder, options)
    if not found:
        raise ValueError(f"{public_url(folder)} holds no videos and no folders of numbered images")
    return found


def _merged(records: list[tuple[int, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Flat rows (one prompt each) -> one row per video; of other columns the first value that is given counts."""
    merged: dict[Any, tuple[int, dict[str, Any]]] = {}
    for number, record in records:
        fields = {key: value for key, value in record.items() if value is not None and key != FLAT_MARK}
        prompt = {key: fields.pop(key) for key in PROMPT_FIELDS if key in fields}
        prompts = fields.pop("prompts", []) + ([prompt] if prompt else [])
        identity = _video_id(fields) or number
        _, row = merged.setdefault(identity, (number, {}))
        for key, value in fields.items():
            row.setdefault(key, value)
        row["prompts"] = row.pop("prompts", []) + prompts
    return list(merged.values())


def _video_id(record: Mapping[str, Any]) -> str | None:
    row = read_row(1, record, ".")[0]
    return None if row is None else row.video_id


def _rebased(record: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The record with the video and the masks as absolute URLs."""

    def absolute(value: Any) -> Any:
        return resolve(value, base) if isinstance(value, str) else value

    rebased = {**record, "video": absolute(record["video"])}
    if isinstance(record.get("prompts"), list):
        rebased["prompts"] = [
            {**prompt, "mask": absolute(prompt["mask"])} if isinstance(prompt, Mapping) and "mask" in prompt else prompt
            for prompt in record["prompts"]
        ]
    if "video_id" not in rebased:
        rebased["video_id"] = _video_id(record)
    return rebased


def _plain(value: Any) -> Any:
    """Values of a table as JSON holds them: nothing is lost that JSON can say; nulls of structs are left out."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return {str(key): _plain(item) for key, item in value}  # Parquet's map
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("ascii") if value.isascii() else base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
