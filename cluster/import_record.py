"""The mark of an output that jobs.import_masks made: it stands where a run's settings would."""

import json
from collections.abc import Mapping
from typing import Any

from cluster.config_lock import CONFIG_NAME, SettingsRefused
from cluster.stores.storage import Storage

NAME = "stcn-import"
VERSION = "1.1.0"
CLEANED = "cleaned"  # in the record of what jobs.clean made of an import


def import_record(form: str, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `_run/config.json` of an imported output says: masks of another format, and no run's settings.

    options: name of an option -> its value, of those that decide which rows come of the files.
    """
    return {"schema": NAME, "version": VERSION, "format": form, "source": source, "options": dict(options)}


def is_import(record: Mapping[str, Any]) -> bool:
    """Whether a `_run/config.json` is that of an import."""
    return record.get("schema") == NAME


def lock_import(storage: Storage, record: Mapping[str, Any]) -> bool:
    """Writes the record into an empty folder; says whether the folder is that of an import to go on with.

    Raises SettingsRefused where it was begun with other options, or its record cannot be read.
    """
    if not storage.list():
        storage.create(CONFIG_NAME, json.dumps(record).encode())
    if not storage.exists(CONFIG_NAME):
        return False
    try:
        there = json.loads(storage.read(CONFIG_NAME))
    except ValueError as error:
        raise SettingsRefused(f"{storage.url}/{CONFIG_NAME} cannot be used: {error}. Give another --to.") from error
    if not isinstance(there, dict) or not is_import(there) or CLEANED in there:
        return False
    differences = _differences(there, record)
    if differences:
        lines = "\n  ".join(differences)
        raise SettingsRefused(
            f"{storage.url} was begun with other options (there -> now):\n  {lines}\n"
            "Use the same options to go on, or another --to."
        )
    return True


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Readable lines, one per option that differs: `--name: theirs -> ours`."""
    theirs, ours = ({"format": one["format"], "from": one["source"], **one.get("options", {})} for one in (there, now))
    # A record of 1.0 does not say the options: it is gone on with as that version did.
    names = [name for name in ours | theirs if "options" in there or name in theirs]
    return [
        f"--{name.replace('_', '-')}: {_shown(theirs.get(name))} -> {_shown(ours.get(name))}"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)
