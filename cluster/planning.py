"""Making a run's plan: looks every source up, probes the videos that no earlier run has, writes the plan down."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config_lock import SettingsRefused
from cluster.frames.probe import Probe, probe_sources
from cluster.plan import Unit, is_found, make_plan
from cluster.plan_table import PlanError, check_version, keep_planned, keep_published, known_probes, merge_plans
from cluster.source_stats import stat_all
from cluster.stores.storage import Storage
from cluster.video_keys import video_keys
from schemas.manifest import VideoRow
from schemas.parquet import read_table
from schemas.run_config import RunConfig
from schemas.urls import public_url

PLAN_NAME = "_run/plan.parquet"
KEY_COLUMNS = ("video_id", "video_key")
UNIT_COLUMNS = ("video_id", "unit_id")
PROBED_AT_A_TIME = 2000


def plan_run(
    storage: Storage,
    rows: Sequence[VideoRow],
    config: RunConfig,
    options: Mapping,
    published: set[str],
    say: Callable[[str], None],
    *,
    given_up: Collection[str] = (),
    known: Mapping[str, Probe] | None = None,
    look_again: bool = True,
    met: Callable[[], bool] = lambda: False,
) -> list[Unit]:
    """The units of all rows, written down as the run's plan. published: unit ids with a shard; given_up: those with a
    failure that is not tried again; known: video_key -> what another output's plan says of the video; look_again: at
    videos that an earlier run could not look into, which is right only while no other driver works by that plan: such a
    video may then be other units; met: whether another driver has come meanwhile.

    Where there is another driver, or the plan is not what this run has left there, what it says of a video stands.
    Raises SettingsRefused; PlannedOtherwise, which passes; and OSError where nothing at all can be looked up.
    """
    earlier = read_plan_or_refuse(storage)
    left = _planned(earlier)

    def settle(units: list[Unit]) -> list[Unit]:
        """Writes them down beside what is there by now, and returns them as they then are."""
        nonlocal left
        there = read_plan(storage)
        table = merge_plans(units, there, published)
        foreign = there
        if there is not None and look_again and not met():  # then what we found there, or left there, may be changed
            foreign = there.filter(pa.array([pair not in left for pair in _pairs(there)], pa.bool_()))
        if foreign is not None and len(foreign):
            units = keep_planned(units, foreign, config)
            table = merge_plans(units, there, published)
        publish_plan(storage, table)
        left = _planned(table)
        return units

    try:
        return settle(_units(rows, config, options, earlier, published, say, settle, given_up, known, look_again))
    except PlanError as error:
        raise SettingsRefused(str(error)) from error


def read_plan_or_refuse(storage: Storage) -> pa.Table | None:
    """The plan on storage, or None. Raises SettingsRefused where it cannot be used."""
    try:
        return read_plan(storage)
    except PlanError as error:
        raise SettingsRefused(str(error)) from error


def draft(
    rows: Sequence[VideoRow],
    config: RunConfig,
    options: Mapping,
    earlier: pa.Table | None,
    published: set[str],
    say: Callable[[str], None],
    *,
    given_up: Collection[str] = (),
    known: Mapping[str, Probe] | None = None,
) -> tuple[list[Unit], pa.Table]:
    """(units of all rows, the table that holds them and those of the earlier plan). Writes nothing. The rest is as
    `plan_run` has it.

    Raises SettingsRefused, and OSError where nothing at all can be looked up.
    """
    try:
        units = _units(rows, config, options, earlier, published, say, given_up=given_up, known=known)
        return units, merge_plans(units, earlier, published)
    except PlanError as error:
        raise SettingsRefused(str(error)) from error


def _units(
    rows: Sequence[VideoRow],
    config: RunConfig,
    options: Mapping,
    earlier: pa.Table | None,
    published: set[str],
    say: Callable[[str], None],
    save: Callable[[list[Unit]], object] | None = None,
    given_up: Collection[str] = (),
    known: Mapping[str, Probe] | None = None,
    look_again: bool = True,
) -> list[Unit]:
    settled = {*published, *given_up}
    if earlier is not None and not look_again:
        settled |= set(earlier["unit_id"].to_pylist())
    probes = dict(known or {}) | known_probes(earlier, settled)
    before = {} if earlier is None else dict(zip(*(earlier[name].to_pylist() for name in KEY_COLUMNS), strict=True))
    units = look_up(rows, config, options, probes, say, save, before)
    return keep_published(units, earlier, published, config)


def _planned(table: pa.Table | None) -> set[tuple[str, str]]:
    """(video id, unit id) of all that a plan holds."""
    return set() if table is None else set(_pairs(table))


def _pairs(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(video id, unit id) of each row."""
    return zip(*(table[name].to_pylist() for name in UNIT_COLUMNS), strict=True)


def publish_plan(storage: Storage, table: pa.Table) -> None:
    """Writes the plan in place of the one that is there. Raises OSError."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.publish(PLAN_NAME, sink.getvalue().to_pybytes())


def read_plan(storage: Storage) -> pa.Table | None:
    """The plan on storage, or None. Raises PlanError for another version's or a damaged one."""
    if not storage.exists(PLAN_NAME):
        return None
    where = f"{storage.url}/{PLAN_NAME}"
    try:
        table = read_table(storage.read(PLAN_NAME))
    except pa.ArrowInvalid as error:
        raise PlanError(f"{where} is damaged ({error}). Delete it: the next run makes it anew.") from error
    check_version(table, where)
    return table


def look_up(
    rows: Sequence[VideoRow],
    config: RunConfig,
    options: Mapping,
    known: Mapping[str, Probe],
    say: Callable[[str], None],
    save: Callable[[list[Unit]], object] | None = None,
    before: Mapping[str, str] | None = None,
) -> list[Unit]:
    """Looks at every source and mask, and into the videos that are not known (by video_key). Writes nothing itself.
    before: video_id -> video_key in the output's plan.

    save, where given, gets the units of all videos probed so far now and then: a planning that is killed after hours
    goes on where it was.
    """
    given = {prompt.mask for row in rows for prompt in row.prompts if prompt.mask is not None}
    stats = stat_all({row.video for row in rows} | given, options)
    keys, read = video_keys(rows, stats, config, options, before or {}, known.keys())
    masks = stats | read
    probed: dict[str, Probe] = {}

    def probes() -> dict[str, Probe]:
        """By video: of two videos in one file one may be published, and must stay what it was."""
        found = {row.video_id: known.get(keys[row.video_id]) or probed.get(row.video) for row in rows}
        return {video_id: probe for video_id, probe in found.items() if probe is not None}

    wanted = (row for row in rows if keys[row.video_id] not in known and is_found(row, stats, masks))
    unknown = list(dict.fromkeys(row.video for row in wanted))
    for begin in range(0, len(unknown), PROBED_AT_A_TIME):
        if begin and save is not None:
            so_far = probes()
            some = [row for row in rows if row.video_id in so_far]
            save(make_plan(some, stats, masks, config, so_far, keys))
            say(f"looked into {begin} of {len(unknown)} videos")
        probed |= probe_sources(unknown[begin : begin + PROBED_AT_A_TIME], options, say=say)
    unread = [url for url in unknown if probed[url].error is not None]
    if unread:
        say(_unread(unread, len(unknown), probed[unread[0]].error))
    return make_plan(rows, stats, masks, config, probes(), keys)


def _unread(urls: Sequence[str], tried: int, reason: str) -> str:
    shown = public_url(urls[0])
    example = reason if shown in reason else f"{shown}: {reason}"
    return (
        f"{len(urls)} of {tried} sources could not be looked into (such as {example}). Each is tried in one piece; a "
        "later run looks into it again unless it has masks or a final failure by then"
    )
