"""An output's finished videos -> a new output with cleaned masks. The old one is only read.

Frames go by in order, each video's as one stream whatever shards they lie in, so that steps over time do not see where
a video was split. The new output has the same units, plan and manifest; its settings say what was done, in words that
no run of jobs.annotate has, so that none goes on in it. A call that was stopped continues with the next video.
"""

import heapq
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config_lock import AFTERWARDS, CONFIG_NAME, lock_config
from cluster.finalise import VIDEO_KEY, finalise_video, row_name, shard_name
from cluster.import_record import CLEANED, is_import
from cluster.inspect.inspection import Unreadable, look, read_json, read_rows
from cluster.inspect.shard_file import fetch_shard
from cluster.kept_manifest import MANIFEST_NAME
from cluster.plan import settings_json
from cluster.planning import PLAN_NAME
from cluster.shard import ShardWriter
from cluster.stores.storage import Storage
from cluster.summary import SUMMARY_NAME
from schemas import masks as masks_schema
from schemas import videos as videos_schema
from schemas.run_config import RunConfig
from stcn_core.cleanup import Step, clean_video, steps_text
from stcn_core.masks import ObjectMask

BATCH_ROWS = 256
KEPT = (PLAN_NAME, MANIFEST_NAME, SUMMARY_NAME)
MEASURED = ("seconds_total", "seconds_fetch", "seconds_burn_in", "seconds_final", "seconds_network", "device", "actor")

SUMS = ("n_visible", "first_frame", "last_frame", "areas", "scores", "area_min", "area_max")


class CleanRefused(ValueError):
    """OUT or OUT2 is not in a state to clean. The message says what to do."""


@dataclass(frozen=True)
class Cleaned:
    """What came of it. skipped: videos that an earlier call had done, and that are whole. unfinished_videos: neither
    done nor failed, so that they were left out; None where the output has no plan that says which there are."""

    videos: int
    skipped: int
    failed_videos: int
    unfinished_videos: int | None
    rows_before: int
    rows: int


def clean_output(
    source: Storage, target: Storage, steps: Sequence[Step], progress: Callable[[str, int, int], None] | None = None
) -> Cleaned:
    """Writes `target`, or goes on with it. progress: (video, videos done, videos).

    Raises CleanRefused, SettingsRefused (OUT2 was begun with other steps), NoOutput, Unreadable, ShardDamaged, OSError.
    """
    output = look(source)
    if output.compaction is not None:
        raise CleanRefused(f"{source.url} is compacted. Clean the output of jobs.annotate, and compact that.")
    rows = {}
    for name, found in read_rows(source, output.names("videos"), videos_schema):
        if isinstance(found, Exception):
            raise found
        rows |= {row["video_id"]: (name, row) for row in found}
    failed = [(name, row) for name, row in rows.values() if row["status"] == videos_schema.FAILED]
    done = [row for _, row in sorted(rows.values(), key=lambda pair: pair[1]["video_id"]) if row["shards"]]
    if not done:
        raise CleanRefused(f"{source.url} has no finished video. There is nothing to clean.")
    config = _lock(source, target, steps)
    # Each time: rows may have been appended to the source since, or failed videos tried again.
    for name in KEPT:
        if name in output.sizes:
            target.publish(name, source.read(name))
    there = _whole_videos(target)
    skipped = before = after = 0
    for number, row in enumerate(done):
        if progress is not None:
            progress(row["video_id"], number, len(done))
        if there.get(row["video_id"]) == [shard["unit_id"] for shard in row["shards"]]:
            skipped += 1
            continue
        before += row["mask_rows"]
        after += _clean_one(source, target, row, steps, config)
    for name in [*output.names("failures"), *(name for name, _ in failed)]:
        target.publish(name, source.read(name))
    if progress is not None:
        progress("", len(done), len(done))
    return Cleaned(len(done) - skipped, skipped, len(failed), output.unfinished(rows), before, after)


def _lock(source: Storage, target: Storage, steps: Sequence[Step]) -> RunConfig | None:
    """Writes the settings; None where the masks were imported."""
    record = read_json(source, CONFIG_NAME)
    if record is None:
        raise CleanRefused(f"{source.url} has no {CONFIG_NAME}: it was not begun by jobs.annotate.")
    text = AFTERWARDS + steps_text(steps)
    if is_import(record):
        data = json.dumps(record | {CLEANED: [*record.get(CLEANED, []), text]}, sort_keys=True).encode()
        if not target.create(CONFIG_NAME, data) and target.read(CONFIG_NAME) != data:
            raise CleanRefused(f"{target.url} holds another output. Give --to a place that is empty.")
        return None
    try:
        config = RunConfig.from_json(json.dumps(record))
    except ValueError as error:
        raise Unreadable(f"{source.url}/{CONFIG_NAME}: {error}") from error
    config = replace(config, clean="; ".join(filter(None, (config.clean, text))))
    lock_config(target, config)
    return config


def _whole_videos(target: Storage) -> dict[str, list[str]]:
    """Video id -> unit ids of its shards, of the finished videos whose files are all there. Raises OSError.

    A failed video's row is no reason to skip it: it may be done in the source by now.
    """
    sizes = target.list()
    names = [name for name in sizes if name.startswith("videos/") and name.endswith(".parquet")]
    found = {}
    for _, rows in read_rows(target, names, videos_schema, ["video_id", "status", "shards"]):
        if isinstance(rows, OSError):
            raise rows
        # A damaged row is made anew.
        for row in rows if not isinstance(rows, Exception) else ():
            shards = row["shards"] or ()
            whole = all(sizes.get(shard_name(shard["unit_id"])) == shard["bytes"] for shard in shards)
            if row["status"] != videos_schema.FAILED and whole and row_name("tracks", row["video_id"]) in sizes:
                found[row["video_id"]] = [shard["unit_id"] for shard in shards]
    return found


def _clean_one(
    source: Storage, target: Storage, row: Mapping[str, Any], steps: Sequence[Step], config: RunConfig | None
) -> int:
    """One video's shards, cleaned and published; returns the number of masks."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stcn-clean-")))
        shards = []
        for shard in row["shards"]:
            own = folder / shard["unit_id"]
            own.mkdir()
            path, _, digest = fetch_shard(source, shard_name(shard["unit_id"]), own)
            if digest != shard["sha256"]:
                raise Unreadable(
                    f"{source.url}/{shard_name(shard['unit_id'])} is not the file that was published. See python -m "
                    f"jobs.verify {source.url}."
                )
            shards.append(stack.enter_context(_Shard(path, own)))
        rows_of: dict[int, dict[int, dict]] = {}
        first = 0
        for shard in shards:
            first = shard.begin(first)
        last = {shard.last: shard for shard in shards if shard.frames}
        open_shards = iter([shard for shard in shards if shard.frames])
        current = next(open_shards, None)
        written = 0
        for frame, masks in clean_video(_frames(shards, rows_of), steps):
            originals = rows_of.pop(frame)
            for mask in masks:
                current.writer.add(_row(originals[mask.object_id], mask))
            written += len(masks)
            if frame in last:
                current = next(open_shards, None)
        published = {}
        for shard in shards:
            unit_id = shard.metadata[b"unit_id"].decode()
            published[unit_id] = target.publish(shard_name(unit_id), shard.writer.finish(shard.new_metadata(config)))
        measured = {name: row[name] for name in MEASURED if row.get(name) is not None}
        finalise_video(target, [shard["unit_id"] for shard in row["shards"]], measured, published)
    return written


class _Shard:
    """A shard that is read frame by frame, and the writer of its successor."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._file = pq.ParquetFile(path)
        self.metadata = dict(self._file.metadata.metadata or {})
        self.facts = json.loads(self.metadata[VIDEO_KEY])
        self.writer = ShardWriter(folder)
        self.frames: range = range(0)

    def __enter__(self) -> "_Shard":
        return self

    def __exit__(self, *_exc) -> None:
        self.writer.__exit__(*_exc)
        self._file.close()

    @property
    def last(self) -> int:
        """Its last frame."""
        return self.frames[-1]

    def begin(self, position: int) -> int:
        """position: of its first frame among those of the video. Returns that of the next shard's."""
        stride, count = self.facts["stride"] or 1, self.facts["frames_annotated"]
        start = (self.facts["first_frame"] or 0) + position * stride
        self.frames = range(start, start + count * stride, stride)
        return position + count

    def rows(self) -> Iterator[dict]:
        """By frame, then object. A row group's rows of one object are read a few at a time."""
        column = masks_schema.SCHEMA.get_field_index("object_id")
        groups: dict[int, list[int]] = {}
        for number in range(self._file.num_row_groups):
            known = self._file.metadata.row_group(number).column(column).statistics
            ids = [known.min] if known is not None and known.has_min_max and known.min == known.max else None
            if ids is None:
                ids = np.unique(self._file.read_row_group(number, ["object_id"])["object_id"].to_numpy()).tolist()
            for object_id in ids:
                groups.setdefault(object_id, []).append(number)
        streams = [self._object(object_id, numbers) for object_id, numbers in groups.items()]
        return heapq.merge(*streams, key=lambda row: (row["frame_index"], row["object_id"]))

    def _object(self, object_id: int, groups: list[int]) -> Iterator[dict]:
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=groups):
            mine = batch.filter(pa.compute.equal(batch["object_id"], object_id))
            yield from masks_schema.completed(mine).to_pylist()

    def new_metadata(self, config: RunConfig | None) -> dict[bytes, bytes]:
        """Its own, with the new settings and sums."""
        totals = self.writer.totals
        # Of an object that is nowhere visible there are no sums.
        plain = [{name: value for name, value in track.items() if name not in SUMS} for track in self.facts["tracks"]]
        tracks = [{**track, **totals.of(track["object_id"])} for track in plain]
        facts = {**self.facts, "mask_rows": self.writer.rows, "tracks": tracks}
        changed = dict(self.metadata)
        changed.pop(b"ARROW:schema", None)
        if config is not None:
            facts["settings_sha256"] = config.fingerprint()
            changed |= {b"settings_sha256": config.fingerprint().encode(), b"settings": settings_json(config).encode()}
        return changed | {VIDEO_KEY: json.dumps(facts).encode()}


def _frames(shards: Sequence[_Shard], rows_of: dict[int, dict[int, dict]]) -> Iterator[tuple[int, list[ObjectMask]]]:
    """Every annotated frame of the video with its masks; their rows are put into rows_of until they are written."""
    for shard in shards:
        stream = shard.rows()
        row = next(stream, None)
        for frame in shard.frames:
            here: dict[int, dict] = {}
            while row is not None and row["frame_index"] == frame:
                here[row["object_id"]] = row
                row = next(stream, None)
            rows_of[frame] = here
            yield frame, [_mask(one) for one in here.values()]
        if row is not None:
            raise Unreadable(f"a shard of {shard.facts['video_id']!r} has a mask of frame {row['frame_index']}, which "
                             "is none of its frames. See python -m jobs.verify.")  # fmt: skip


def _mask(row: Mapping[str, Any]) -> ObjectMask:
    box = tuple(row[f"bbox_{name}"] for name in "xywh")
    facts = (row["object_id"], row["rle_counts"], row["height"], row["width"], row["area"], box)
    return ObjectMask(*facts, row["score"], row["is_prompt"])


def _row(before: Mapping[str, Any], mask: ObjectMask) -> dict:
    """The row with another mask; everything else, scores too, stays."""
    box = {f"bbox_{name}": value for name, value in zip("xywh", mask.box, strict=True)}
    return {**before, "rle_counts": mask.counts, "area": mask.area, **box}
