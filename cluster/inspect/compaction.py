"""Many small shards -> a new output folder with few large ones. The old one is only read.

Which rows go into which file is decided first and written down, so that a compaction that was stopped continues. What
is published is checked against the shards it came from, and at the end once more as `jobs.verify` would.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config_lock import CONFIG_NAME
from cluster.finalise import publish_rows
from cluster.inspect.inspection import (
    COMPACTION_NAME,
    Output,
    Unreadable,
    look,
    read_json,
    read_rows,
    side_by_side,
)
from cluster.inspect.shard_check import ShardReport, ShardTask
from cluster.inspect.shard_file import fetch_shard
from cluster.inspect.shard_merge import MergeError, SourceVideo, merge, open_shard
from cluster.inspect.verification import run_tasks
from cluster.planning import PLAN_NAME
from cluster.stores.storage import Storage
from cluster.summary import SUMMARY_NAME
from schemas import failures as failures_schema
from schemas import tracks as tracks_schema
from schemas import videos as videos_schema

NAME, VERSION = "stcn-compaction", "1.0.0"
FETCH_THREADS = 4
TABLE_ROWS = 10_000


class CompactionRefused(ValueError):
    """OUT or OUT2 is not in a state to compact. Nothing was written. The message says what to do."""


@dataclass(frozen=True)
class Bundle:
    """Videos whose rows go together into new files: many into one, or a long one into several."""

    parts: tuple[str, ...]
    videos: tuple[str, ...]
    units: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Compacted:
    """What came of it. skipped: files that an earlier run had published."""

    shards_before: int
    shards: int
    skipped: int
    rows: int
    bytes_before: int
    bytes: int
    videos: int
    failed_videos: int
    unfinished_videos: int


def bundles_of(rows: Sequence[Mapping[str, Any]], shard_bytes: int) -> list[Bundle]:
    """Finished videos' rows -> files of about shard_bytes, in order of video ids. Pure.

    A video is spread over several files only where it is larger than one, and over no more than its size asks for.
    """
    groups: list[tuple[int, list[Mapping[str, Any]]]] = []  # (files, videos)
    filled = None
    for row in sorted(rows, key=lambda row: row["video_id"]):
        size = sum(shard["bytes"] for shard in row["shards"])
        if size > shard_bytes:
            groups.append((-(-size // shard_bytes), [row]))
            filled = None
        elif filled is None or filled + size > shard_bytes:
            groups.append((1, [row]))
            filled = size
        else:
            groups[-1][1].append(row)
            filled += size
    bundles, number = [], 0
    for files, videos in groups:
        parts = tuple(f"part-{number + offset:05d}" for offset in range(files))
        units = tuple(shard["unit_id"] for video in videos for shard in video["shards"])
        count = sum(shard["rows"] for video in videos for shard in video["shards"])
        bundles.append(Bundle(parts, tuple(video["video_id"] for video in videos), units, count))
        number += files
    return bundles


def compact(
    source: Storage,
    target: Storage,
    *,
    shard_bytes: int = 128 << 20,
    allow_unfinished: bool = False,
    scratch: str | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Compacted:
    """Writes `target`, or goes on with it. progress: (files done, files). scratch: folder for temporary files.

    Raises NoOutput, Unreadable, CompactionRefused, MergeError (a shard is damaged), OSError.
    """
    output = look(source)
    if output.compaction is not None:
        raise CompactionRefused(f"{source.url} is compacted already. Compact the output of jobs.annotate.")
    videos = _video_rows(output)
    finished = [row for row in videos.values() if row["status"] != videos_schema.FAILED]
    unfinished = _unfinished(output, videos)
    if unfinished and not allow_unfinished:
        raise CompactionRefused(
            f"{source.url} is not finished: {unfinished}. Run the same jobs.annotate command again (with "
            "--forget-missing where they were taken out of its manifest), or compact what is there with "
            "--allow-unfinished."
        )
    if not finished:
        raise CompactionRefused(f"{source.url} has no finished video. There is nothing to compact.")
    bundles = bundles_of(finished, shard_bytes)
    _claim(source, target, finished, bundles, shard_bytes)
    there = target.list("masks")
    total = sum(len(bundle.parts) for bundle in bundles)
    skipped = done = 0
    for bundle in bundles:
        if all(_shard(part) in there for part in bundle.parts):
            skipped += len(bundle.parts)
        else:
            _publish_bundle(source, target, bundle, videos, scratch)
        done += len(bundle.parts)
        if progress is not None:
            progress(done, total)
    reports = _check(target, bundles, processes)
    _publish_tables(output, target, videos, bundles, reports)
    for name in (PLAN_NAME, SUMMARY_NAME):
        if name in output.sizes:
            target.publish(name, source.read(name))
    # Last, as the sign that all is there; under a schema of its own, so that no annotate run goes on in here.
    settings = read_json(source, CONFIG_NAME)
    target.publish(CONFIG_NAME, _json({"schema": NAME, "version": VERSION, "settings": settings}))
    shards = [shard for row in finished for shard in row["shards"]]
    return Compacted(
        shards_before=len(shards),
        shards=total,
        skipped=skipped,
        rows=sum(report.rows for report in reports.values()),
        bytes_before=sum(shard["bytes"] for shard in shards),
        bytes=sum(report.size for report in reports.values()),
        videos=len(finished),
        failed_videos=len(videos) - len(finished),
        unfinished_videos=output.unfinished(videos) or 0,
    )


def _video_rows(output: Output) -> dict[str, dict]:
    """video_id -> row of `videos`, in order of ids. Raises Unreadable."""
    found: dict[str, dict] = {}
    for name, rows in read_rows(output.storage, output.names("videos"), videos_schema):
        if isinstance(rows, Exception):
            raise rows
        for row in rows:
            if row["video_id"] in found or (row["status"] != videos_schema.FAILED and not row["shards"]):
                raise Unreadable(f"{output.storage.url}/{name} cannot be right. See python -m jobs.verify.")
            found[row["video_id"]] = row
    return dict(sorted(found.items()))


def _unfinished(output: Output, videos: Mapping[str, dict]) -> str:
    """What speaks against compacting now; "" for nothing."""
    if output.plan is None:
        return output.plan_error or "it has no plan, so nobody can say what is missing"
    count = output.unfinished(videos)
    return f"{count} of its videos are neither done nor failed" if count else ""


def _claim(
    source: Storage, target: Storage, finished: Sequence[Mapping], bundles: Sequence[Bundle], shard_bytes: int
) -> None:
    """Writes down what is going to be done, unless that stands there already. Raises CompactionRefused."""
    shards = [(row["video_id"], shard) for row in finished for shard in row["shards"]]
    record = {
        "schema": NAME,
        "version": VERSION,
        "source": source.url,
        "shard_bytes": shard_bytes,
        "source_sha256": hashlib.sha256(_json(shards)).hexdigest(),
        "bundles": [{"parts": bundle.parts, "units": bundle.units} for bundle in bundles],
    }
    remedy = "Give --to a place that is empty"
    there = target.list()
    if there and COMPACTION_NAME not in there:
        raise CompactionRefused(f"{target.url} is not empty. {remedy}.")
    if target.create(COMPACTION_NAME, _json(record)):
        return
    begun = read_json(target, COMPACTION_NAME) or {}
    if begun != json.loads(_json(record)):
        raise CompactionRefused(
            f"{target.url} holds a compaction of {begun.get('source')} with --shard-mib "
            f"{(begun.get('shard_bytes') or 0) / (1 << 20):g}, or of an earlier state of it. {remedy}."
        )


def _publish_bundle(
    source: Storage, target: Storage, bundle: Bundle, videos: Mapping[str, dict], scratch: str | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="stcn-compact-", dir=scratch) as folder:
        ours = _fetched(source, [videos[video_id] for video_id in bundle.videos], Path(folder))
        for path in merge(Path(folder), bundle.parts, bundle.rows, ours):
            target.publish(f"masks/{path.name}", path)
            path.unlink()


def _fetched(source: Storage, rows: Sequence[dict], folder: Path) -> Iterator[SourceVideo]:
    """The videos in their order, fetched ahead; copies are removed behind."""

    def fetch(row: dict) -> SourceVideo:
        shards = []
        for shard in row["shards"]:
            name = _shard(shard["unit_id"])
            try:
                path, size, sha256 = fetch_shard(source, name, folder)
            except FileNotFoundError as error:
                raise MergeError(f"{source.url}/{name} is lost. See python -m jobs.verify {source.url}.") from error
            if (size, sha256) != (shard["bytes"], shard["sha256"]):
                raise MergeError(
                    f"{source.url}/{name} is not the file that was published. See python -m jobs.verify {source.url}."
                )
            shards.append(open_shard(name, path))
        return SourceVideo(row, shards)

    for video in side_by_side(fetch, rows, FETCH_THREADS):
        yield video
        if not source.local:
            for shard in video.shards:
                shard.path.unlink(missing_ok=True)


def _check(target: Storage, bundles: Sequence[Bundle], processes: int) -> dict[str, ShardReport]:
    """Everything that was published, read again. Raises MergeError."""
    tasks = [ShardTask(target, _shard(part), compacted=True) for bundle in bundles for part in bundle.parts]
    reports = {report.name: report for report in run_tasks(tasks, processes)}
    wrong = [str(finding) for report in reports.values() for finding in report.findings]
    if wrong:
        raise MergeError(f"{target.url}: {wrong[0]}" + (f" ({len(wrong) - 1} more)" if wrong[1:] else ""))
    for bundle in bundles:
        rows = sum(reports[_shard(part)].rows for part in bundle.parts)
        if rows != bundle.rows:
            raise MergeError(f"{target.url}: {', '.join(bundle.parts)} hold {rows} rows, their shards {bundle.rows}")
    return reports


def _publish_tables(
    output: Output,
    target: Storage,
    videos: Mapping[str, dict],
    bundles: Sequence[Bundle],
    reports: Mapping[str, ShardReport],
) -> None:
    """tracks, videos and failures as one file each."""
    parts = {video_id: bundle.parts for bundle in bundles for video_id in bundle.videos}
    rows = []
    for video_id, row in videos.items():
        shards = []
        for part in parts.get(video_id, ()):
            report = reports[_shard(part)]
            here = {"rows": report.video_rows.get(video_id, 0), "bytes": report.size, "sha256": report.sha256}
            shards.append({"unit_id": part, **here})
        rows.append(row | {"shards": shards or None})
    publish_rows(target, "videos/videos.parquet", videos_schema, rows)
    # A video without objects, as imports have them, has none.
    _publish_sorted(output, target, "tracks", tracks_schema, {name: videos[name]["objects"] != 0 for name in parts})
    _publish_sorted(output, target, "failures", failures_schema, None)


def _publish_sorted(output: Output, target: Storage, table: str, schema: Any, kept: Mapping[str, bool] | None) -> None:
    """A table's files as one, sorted. kept: the videos whose rows are wanted, and whether there must be some; None for
    all."""
    tables = [schema.SCHEMA.empty_table()]
    for _, rows in read_rows(output.storage, output.names(table), schema):
        if isinstance(rows, Exception):
            raise rows
        wanted = [row for row in rows if kept is None or row["video_id"] in kept]
        tables.append(pa.Table.from_pylist(wanted, schema.SCHEMA))
    merged = pa.concat_tables(tables).sort_by([(name, "ascending") for name in schema.SORT])
    there = set(merged["video_id"].unique().to_pylist())
    missing = sorted(video_id for video_id, some in (kept or {}).items() if some and video_id not in there)
    if missing:
        raise Unreadable(f"{output.storage.url} has no tracks of {missing[0]!r}. Run jobs.annotate again.")
    if merged.num_rows:
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema.SCHEMA, **schema.write_options()) as writer:
            writer.write_table(merged, row_group_size=TABLE_ROWS)
        target.publish(f"{table}/{table}.parquet", sink.getvalue().to_pybytes())


def _shard(unit_id: str) -> str:
    return f"masks/{unit_id}.parquet"


def _json(record: object) -> bytes:
    return json.dumps(record, sort_keys=True).encode()
