"""One output folder, one answer: the settings that affect masks are locked by the first run into it."""

from cluster.stores.storage import Storage
from schemas.run_config import RunConfig

CONFIG_NAME = "_run/config.json"
AFTERWARDS = "afterwards: "  # in the setting `clean`, before steps that jobs.clean did


class SettingsRefused(ValueError):
    """The output folder belongs to a run with other settings, or a published video has changed."""


def lock_config(storage: Storage, config: RunConfig) -> None:
    """First writer wins. Raises SettingsRefused with the settings that differ."""
    if not storage.create(CONFIG_NAME, config.to_json().encode()):
        check_config(storage, config)


def check_config(storage: Storage, config: RunConfig) -> None:
    """Raises SettingsRefused with the settings that differ from the locked ones, FileNotFoundError where there are
    none."""
    differences = config.differences(read_config(storage))
    if differences:
        lines = "\n  ".join(differences)
        raise SettingsRefused(
            f"{storage.url} was begun with other settings (there -> now):\n  {lines}\n"
            "Use the same settings to go on (another version of this program may have had other defaults: give them as "
            "they were), or a new --output."
        )


def read_config(storage: Storage) -> RunConfig:
    """The locked settings. Raises SettingsRefused where they cannot be read, FileNotFoundError where there are none."""
    try:
        return RunConfig.from_json(storage.read(CONFIG_NAME))
    except ValueError as error:
        raise SettingsRefused(
            f"{storage.url}/{CONFIG_NAME} cannot be used: {error}. A place that jobs.compact or "
            "jobs.import_masks made takes no further runs: use a new --output."
        ) from error
