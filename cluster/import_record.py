"""The mark of an output that jobs.import_masks made: it stands where a run's settings would."""

from collections.abc import Mapping
from typing import Any

NAME = "stcn-import"
VERSION = "1.0.0"


def import_record(form: str, source: str) -> dict[str, Any]:
    """What `_run/config.json` of an imported output says: masks of another format, and no run's settings."""
    return {"schema": NAME, "version": VERSION, "format": form, "source": source}


def is_import(record: Mapping[str, Any]) -> bool:
    """Whether a `_run/config.json` is that of an import."""
    return record.get("schema") == NAME
