"""A second run with corrections takes over what an earlier output holds: the shards whose unit ids are the same.

A unit id is a hash over everything that decides the masks, so a shard of the same id is the same answer. It is copied
by the same publish as a fresh one; a shard that is damaged, or is not what its `videos` row says, is made anew.
"""

import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config_lock import CONFIG_NAME, SettingsRefused, read_config
from cluster.finalise import finalise_video, row_name, shard_name
from cluster.frames.probe import Probe
from cluster.inspect.inspection import COMPACTION_NAME, side_by_side
from cluster.inspect.shard_file import fetch_shard
from cluster.plan import Unit
from cluster.plan_table import known_probes
from cluster.planning import read_plan_or_refuse
from cluster.resume import OutputState, by_video
from cluster.stores.storage import Published, Storage
from schemas.parquet import read_table
from schemas.run_config import RunConfig

MEASURED = ("seconds_total", "seconds_fetch", "seconds_burn_in", "seconds_final", "seconds_network", "actor", "device")
SAID_EVERY = 500


@dataclass(frozen=True)
class Reused:
    """What was taken over. videos: those that are whole in the new output by it."""

    shards: int
    bytes: int
    videos: int
    notes: tuple[str, ...]


def reuse_shards(
    source: Storage,
    storage: Storage,
    units: Sequence[Unit],
    config: RunConfig,
    published: frozenset[str],
    say: Callable[[str], None],
) -> Reused:
    """Copies the planned units' shards that are in `source` and not yet `published` in `storage`.

    Raises SettingsRefused where `source` was made with other settings, so that nothing could be taken over; OSError
    where there is no output, or it cannot be read or written.
    """
    check_source(source, storage, config)
    wanted = reusable_shards(source, units, published).keys()
    videos = [video for video in by_video(units) if any(unit.unit_id in wanted for unit in video)]
    shards = copied = whole = 0
    notes = []
    for number, found in enumerate(
        side_by_side(lambda v: _take(source, storage, v, wanted, published, config), videos), 1
    ):
        taken, is_whole, wrong = found
        shards += len(taken)
        copied += sum(done.size for done in taken.values())
        whole += is_whole
        notes += wrong
        if number % SAID_EVERY == 0:
            say(f"taken over: {number} of {len(videos)} videos")
    return Reused(shards, copied, whole, tuple(notes))


def reusable_shards(source: Storage, units: Sequence[Unit], published: frozenset[str]) -> dict[str, int]:
    """Unit id -> bytes of the shards that `reuse_shards` will copy, unless one turns out to be damaged: names alone
    are looked at. Raises OSError."""
    there = source.list("masks")
    names = {unit.unit_id: shard_name(unit.unit_id) for unit in units if unit.has_shard}
    return {one: there[name] for one, name in names.items() if one not in published and name in there}


def probes_of(source: Storage) -> dict[str, Probe]:
    """video_key -> what the run into `source` found out about a video, so that it is not looked into again.

    Raises SettingsRefused for a plan that this program cannot read, OSError.
    """
    return known_probes(read_plan_or_refuse(source), OutputState.of(source.list("masks")).published)


def check_source(source: Storage, storage: Storage | None, config: RunConfig) -> None:
    """Raises SettingsRefused, OSError as `reuse_shards`. storage: None where there is no new output yet."""
    if storage is not None and source.url == storage.url:
        raise OSError(f"--reuse {source.url} is the --output itself: give a new --output")
    if source.exists(COMPACTION_NAME):
        raise OSError(
            f"--reuse {source.url} was made by jobs.compact: its files no longer are the units of a run. "
            "Give the output that was compacted"
        )
    try:
        earlier = read_config(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"--reuse {source.url} holds no {CONFIG_NAME}: give the --output of an annotate run"
        ) from error
    differences = config.differences(earlier)
    if differences:
        lines = "\n  ".join(differences)
        raise SettingsRefused(
            f"--reuse {source.url} was made with other settings (there -> now), so none of its masks can be taken "
            f"over:\n  {lines}\nUse the same settings, or leave --reuse out."
        )


def _take(
    source: Storage,
    storage: Storage,
    video: Sequence[Unit],
    wanted: Collection[str],
    published: frozenset[str],
    config: RunConfig,
) -> tuple[dict[str, Published], bool, list[str]]:
    """One video's shards: (those that were published, whether all are there now, what is wrong)."""
    before = _videos_row(source, video[0].row.video_id)
    recorded = {shard["unit_id"]: shard["sha256"] for shard in before.get("shards") or ()}
    taken: dict[str, Published] = {}
    notes = []
    for unit in video:
        if unit.unit_id in wanted:
            with tempfile.TemporaryDirectory(prefix="stcn-reuse-") as folder:
                path, _, sha256 = fetch_shard(source, shard_name(unit.unit_id), Path(folder))
                wrong = _wrong(path, unit, config)
                if wrong is None and recorded.get(unit.unit_id, sha256) != sha256:
                    wrong = "it is not the file that its row of videos names"
                if wrong is None:
                    taken[unit.unit_id] = storage.publish(shard_name(unit.unit_id), path)
                else:
                    notes.append(f"{source.url}/{shard_name(unit.unit_id)} is made anew: {wrong}")
    shards = [unit.unit_id for unit in video if unit.has_shard]
    whole = all(unit_id in taken or unit_id in published for unit_id in shards)
    if whole:
        measured = {name: before[name] for name in MEASURED if before.get(name) is not None}
        finalise_video(storage, shards, measured, taken)
    return taken, whole, notes


def _wrong(path: Path, unit: Unit, config: RunConfig) -> str | None:
    """Why a shard is not the unit's, or None. Its rows are checked by their hash when it is verified."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        rows = json.loads(metadata[b"rows"])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        return f"it is damaged ({' '.join(str(error).split())[:200]})"
    facts = {"unit_id": unit.unit_id, "settings_sha256": config.fingerprint()}
    for name, value in facts.items():
        found = metadata.get(name.encode(), b"").decode("utf-8", "replace")
        if found != value:
            return f"it says {name} {found}, not {value}"
    return None if isinstance(rows, int) else "its number of rows is no number"


def _videos_row(source: Storage, video_id: str) -> dict:
    """The row of `videos`, {} where there is none that can be read (the run may have died before it)."""
    try:
        return read_table(source.read(row_name("videos", video_id))).to_pylist()[0]
    except (FileNotFoundError, pa.ArrowException, IndexError):
        return {}
