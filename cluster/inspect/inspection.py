"""What an output folder says of itself, from storage alone: also while a run writes into it, and after compaction.

Files appear and vanish while we look. What is gone by the time it is read counts as not there.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import pyarrow as pa

from cluster.config_lock import CONFIG_NAME
from cluster.finalise import bank_names
from cluster.plan import BURN_IN
from cluster.plan_table import SCHEMA as PLAN_SCHEMA
from cluster.plan_table import VERSION as PLAN_VERSION
from cluster.planning import PLAN_NAME
from cluster.resume import FAILURE, SHARD
from cluster.stores.storage import Storage
from schemas.metadata import check_metadata
from schemas.parquet import IN_THIS_THREAD, open_file, read_table

COMPACTION_NAME = "_run/compaction.json"
READ_THREADS = 16

DONE, FAILED, LEFT = "done", "failed", "left"


class NoOutput(FileNotFoundError):
    """There is no output folder, or nothing in it."""


class Unreadable(ValueError):
    """A file of the output that is there, but is not what it should be. The message names it."""


@dataclass(frozen=True)
class PlannedUnit:
    """One row of `_run/plan.parquet`; frames is the whole video's count by its container, None = unknown."""

    unit_id: str
    video_key: str
    video_id: str
    video: str
    kind: str
    first: int
    last: int | None
    frames: int | None
    cost: float

    @property
    def has_shard(self) -> bool:
        """Whether its product is a shard (a burn-in's is a saved bank)."""
        return self.kind != BURN_IN


@dataclass(frozen=True)
class Output:
    """One look at an output folder.

    sizes: name -> bytes of every file. plan: None where there is none. plan_error: why it cannot be read. compaction:
    the record of `jobs.compact`, None for an output that `jobs.annotate` wrote.
    """

    storage: Storage
    sizes: Mapping[str, int]
    plan: tuple[PlannedUnit, ...] | None
    plan_error: str | None
    compaction: Mapping[str, Any] | None

    def names(self, table: str) -> list[str]:
        """The Parquet files of masks, tracks, videos or failures; hidden ones are left out, as readers do."""
        start = table + "/"
        return [
            name
            for name in self.sizes
            if name.startswith(start) and name.endswith(".parquet") and name[len(start) :][:1] not in "._"
        ]

    @property
    def compaction_finished(self) -> bool:
        """Whether it is the output of a compaction that came to its end: the settings are written last."""
        return self.compaction is not None and CONFIG_NAME in self.sizes

    def has_bank(self, unit_id: str) -> bool:
        """Whether a burn-in unit's product is there, whole."""
        return all(name in self.sizes for name in bank_names(unit_id))

    def published(self) -> frozenset[str]:
        """Unit ids whose masks are there."""
        if self.compaction is None:
            return frozenset(
                match[1] for name in self.names("masks") if (match := SHARD.fullmatch(name.partition("/")[2]))
            )
        return frozenset(
            unit_id
            for bundle in self.compaction["bundles"]
            if all(f"masks/{part}.parquet" in self.sizes for part in bundle["parts"])
            for unit_id in bundle["units"]
        )

    def products(self) -> frozenset[str]:
        """Unit ids whose masks, or saved bank, are there."""
        banks = {unit.unit_id for unit in self.plan or () if not unit.has_shard and self.has_bank(unit.unit_id)}
        return self.published() | banks

    def terminal(self) -> frozenset[str]:
        """Unit ids with a failure that ended the attempts of its run."""
        found = self.failures().items()
        return frozenset(unit_id for unit_id, before in found if any(kind == "final" for _, kind, _ in before))

    def unfinished(self, ended: Collection[str]) -> int | None:
        """How many planned videos are not among `ended`, those with a row of `videos`; None where no plan says so."""
        return None if self.plan is None else len({unit.video_id for unit in self.plan} - set(ended))

    def failures(self) -> dict[str, list[tuple[int, str, str]]]:
        """unit id -> (attempt, retried | lost | final, file name), from names alone."""
        found: dict[str, list[tuple[int, str, str]]] = {}
        for name in self.names("failures"):
            if match := FAILURE.fullmatch(name.partition("/")[2]):
                found.setdefault(match[1], []).append((int(match[2]), match[3], name))
        return {unit_id: sorted(attempts) for unit_id, attempts in found.items()}


def look(storage: Storage) -> Output:
    """Listings, the plan and the record of a compaction. Raises NoOutput, Unreadable, OSError.

    Rows of `videos` are listed first: what they promise was published before them, so a run at work never looks as if
    it had lost something.
    """
    videos = storage.list("videos")
    sizes = {name: size for name, size in storage.list().items() if not name.startswith("videos/")} | videos
    if not sizes:
        raise NoOutput(f"{storage.url} does not exist or is empty. Give the --output of an annotate run.")
    known = {"_run", "masks", "videos", "tracks", "failures"}
    if not any(name.partition("/")[0] in known and "/" in name for name in sizes):
        raise NoOutput(f"{storage.url} holds no output of jobs.annotate. Give the folder that was its --output.")
    plan, plan_error = None, None
    try:
        plan = read_plan(storage)
    except Unreadable as error:
        plan_error = str(error)
    compaction = read_json(storage, COMPACTION_NAME) if COMPACTION_NAME in sizes else None
    if compaction is not None and not isinstance(compaction.get("bundles"), list):
        raise Unreadable(f"{storage.url}/{COMPACTION_NAME} is no record of a compaction. Compact again to a new place.")
    return Output(storage, sizes, plan, plan_error, compaction)


def read_plan(storage: Storage) -> tuple[PlannedUnit, ...] | None:
    """The plan's units in order of work; None where there is none yet. Raises Unreadable, OSError."""
    where = f"{storage.url}/{PLAN_NAME}"
    remedy = "Run the same jobs.annotate command again: it writes the plan anew"
    try:
        table = read_table(storage.read(PLAN_NAME))
        check_metadata(table.schema.metadata, PLAN_SCHEMA.metadata[b"schema_name"].decode(), PLAN_VERSION, where)
        columns = table.select([field.name for field in fields(PlannedUnit)])
    except FileNotFoundError:
        return None
    except pa.ArrowException as error:
        raise Unreadable(f"{where} cannot be read ({_short(error)}). {remedy}.") from error
    except (ValueError, KeyError) as error:
        raise Unreadable(f"{_short(error)}. {remedy}, or use the program version that wrote it.") from error
    return tuple(PlannedUnit(**record) for record in columns.to_pylist())


def read_json(storage: Storage, name: str) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file. Raises Unreadable, OSError."""
    try:
        record = json.loads(storage.read(name))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Unreadable(f"{storage.url}/{name} is not JSON ({_short(error)})") from error
    if not isinstance(record, dict):
        raise Unreadable(f"{storage.url}/{name} is not a JSON object")
    return record


def read_rows(
    storage: Storage, names: Iterable[str], schema: Any, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, list[dict] | Exception]]:
    """(name, rows, or the OSError or Unreadable why not) of small tables, read side by side, in the order of names.

    schema is a module of `schemas`, such as videos. Files that are gone by now are left out. Columns that an older
    file lacks are None.
    """

    def read(name: str) -> tuple[str, list[dict] | Exception | None]:
        try:
            return name, _read_table(storage, name, schema, columns)
        except FileNotFoundError:
            return name, None
        except (OSError, Unreadable) as error:
            return name, error

    yield from (item for item in side_by_side(read, names) if item[1] is not None)


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], threads: int = READ_THREADS) -> Iterator[Any]:
    """`map` on several threads, for work that waits for storage. Never holds more than a few results ahead.

    After an error, and after Ctrl-C, what was not begun is left."""
    items = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        # islice takes exactly as many as it gives: zip with a range would take one more, and drop it.
        waiting = [pool.submit(work, item) for item in islice(items, 4 * threads)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(work, item) for item in islice(items, 1)]
    finally:
        pool.shutdown(cancel_futures=True)


def video_units(plan: Iterable[PlannedUnit]) -> dict[str, list[PlannedUnit]]:
    """video_id -> its units, in the plan's order."""
    found: dict[str, list[PlannedUnit]] = {}
    for unit in plan:
        found.setdefault(unit.video_id, []).append(unit)
    return found


def video_state(units: Sequence[PlannedUnit], products: frozenset[str], failed: frozenset[str]) -> str:
    """done: all its masks are there; failed: a unit of it failed and has no product since; else left."""
    if all(unit.unit_id in products for unit in units if unit.has_shard):
        return DONE
    return FAILED if any(unit.unit_id in failed - products for unit in units) else LEFT


def _read_table(storage: Storage, name: str, schema: Any, columns: Sequence[str] | None) -> list[dict]:
    where = f"{storage.url}/{name}"
    data = storage.read(name)
    try:
        file = open_file(data)
        check_metadata(file.schema_arrow.metadata, schema.NAME, schema.VERSION, where)
        wanted = [column for column in columns or schema.SCHEMA.names if column in file.schema_arrow.names]
        rows = file.read(columns=wanted, **IN_THIS_THREAD).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"{where} is not a readable Parquet file ({_short(error)})") from error
    except ValueError as error:
        raise Unreadable(_short(error)) from error
    missing = dict.fromkeys(set(columns or schema.SCHEMA.names) - set(wanted))
    return [missing | row for row in rows]


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:190] + "..."
