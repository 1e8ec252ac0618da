"""A checked row as it may stand in a JSONL manifest again: reading it back gives an equal row."""

from dataclasses import asdict
from typing import Any

from schemas.prompt import Prompt
from schemas.video_row import VideoRow


def row_record(row: VideoRow) -> dict[str, Any]:
    """JSON values only. URLs are absolute; what is not set is left out."""
    record: dict[str, Any] = {"video": row.video, "video_id": row.video_id}
    record |= {name: getattr(row, name) for name in ("start", "end", "stride") if getattr(row, name) is not None}
    if row.labels:
        record["labels"] = {str(object_id): label for object_id, label in row.labels}
    return record | {"prompts": [prompt_record(prompt) for prompt in row.prompts]}


def prompt_record(prompt: Prompt) -> dict[str, Any]:
    """One prompt with the manifest's names."""
    record = {name: value for name, value in asdict(prompt).items() if value is not None and value is not False}
    if prompt.time_s is not None:
        record["time"] = record.pop("time_s")
    if prompt.rle is not None:
        height, width, counts = prompt.rle
        record["rle"] = {"size": [height, width], "counts": counts.decode("ascii")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}
