"""The tables of an output against its plan and its shards: what is lost, unfinished, left over or does not agree."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.finalise import BANKS, row_name
from cluster.inspect.inspection import DONE, LEFT, Output, PlannedUnit, read_rows, video_state, video_units
from cluster.inspect.inspection import FAILED as UNIT_FAILED
from cluster.inspect.shard_check import DAMAGED, DOUBLED, LOST, ORPHAN, UNFINISHED, Finding, ObjectRows, ShardReport
from cluster.resume import SHARD
from cluster.track_totals import SCORE_STEPS
from schemas import failures as failures_schema
from schemas import tracks as tracks_schema
from schemas import videos as videos_schema
from schemas.run_config import RunConfig

AGAIN = "Run the same jobs.annotate command again: it makes it anew"
DELETE = "Delete the file and run the same jobs.annotate command again: it derives it anew"
COMPACT = "Compact again to a new place"
SCORE_ERROR = 1e-6


def check_tables(
    output: Output, reports: Mapping[str, ShardReport], config: RunConfig | None
) -> tuple[Counter[str], list[Finding]]:
    """(number of videos done, truncated, failed and left, findings). reports: name of a shard -> what is in it."""
    check = _Tables(output, reports, config)
    return check.states, list(check.run())


class _Tables:
    def __init__(self, output: Output, reports: Mapping[str, ShardReport], config: RunConfig | None):
        self.output, self.reports, self.config = output, reports, config
        self.states: Counter[str] = Counter()
        self.delete, self.again = (DELETE, AGAIN) if output.compaction is None else (COMPACT, COMPACT)

    def run(self) -> Iterator[Finding]:
        columns = ["video_id", "unit_id", "attempt", "terminal"]
        terminal = set()
        for _, row in self._rows("failures", failures_schema, columns):
            if isinstance(row, Finding):
                yield row
            elif row["terminal"]:
                terminal.add(row["video_id"])
        videos: dict[str, tuple[str, dict]] = {}
        yield from self._by_video("videos", videos_schema, videos)
        tracks: dict[str, list[dict]] = {}
        track_files: dict[str, str] = {}
        for name, row in self._rows("tracks", tracks_schema, None):
            if isinstance(row, Finding):
                yield row
            else:
                tracks.setdefault(row["video_id"], []).append(row)
                track_files[row["video_id"]] = name
        planned = video_units(self.output.plan or ())
        yield from self._unfinished(planned, videos, terminal)
        claimed: set[str] = set()
        for video_id, (name, row) in videos.items():
            self.states[row["status"]] += 1
            if row["status"] == videos_schema.FAILED:
                if video_id not in terminal:
                    yield Finding(LOST, name, f"{video_id!r} failed, but no row of failures says why", self.again)
            elif row["status"] not in videos_schema.STATUSES:
                yield Finding(DAMAGED, name, f"the status {row['status']!r} is not known", self.delete)
            else:
                claimed |= {f"masks/{shard['unit_id']}.parquet" for shard in row["shards"] or ()}
                yield from self._video(name, row, planned.get(video_id))
                file = track_files.get(video_id, row_name("tracks", video_id))
                yield from self._tracks(file, row, tracks.get(video_id, []))
            if self.output.plan is not None and video_id not in planned:
                yield Finding(ORPHAN, name, f"{video_id!r} is not in the plan", "Nothing needs to be done")
        for video_id, name in track_files.items():
            if self.output.plan is not None and video_id not in planned:
                yield Finding(ORPHAN, name, f"{video_id!r} is not in the plan", "Nothing needs to be done")
        yield from self._orphans(claimed, planned, videos)

    def _rows(self, table: str, schema: Any, columns: Sequence[str] | None) -> Iterator[tuple[str, dict | Finding]]:
        for name, rows in read_rows(self.output.storage, self.output.names(table), schema, columns):
            if isinstance(rows, Exception):
                remedy = self.again if table == "failures" else self.delete
                yield name, Finding(DAMAGED, name, str(rows), remedy)
                continue
            for row in rows:
                named = SHARD.fullmatch(name.partition("/")[2])
                if named and table != "failures" and row_name(table, row["video_id"]) != name:
                    yield (
                        name,
                        Finding(DAMAGED, name, f"it holds a row of another video, {row['video_id']!r}", self.delete),
                    )
                else:
                    yield name, row

    def _by_video(self, table: str, schema: Any, into: dict[str, tuple[str, dict]]) -> Iterator[Finding]:
        for name, row in self._rows(table, schema, None):
            if isinstance(row, Finding):
                yield row
            elif row["video_id"] in into:
                other = into[row["video_id"]][0]
                yield Finding(DOUBLED, name, f"{row['video_id']!r} is in {other} too", "Delete one of them")
            else:
                into[row["video_id"]] = (name, row)

    def _unfinished(
        self, planned: Mapping[str, list[PlannedUnit]], videos: Mapping[str, tuple[str, dict]], terminal: set[str]
    ) -> Iterator[Finding]:
        products, failed = self.output.products(), self.output.terminal()
        left, units_left = [], 0
        for video_id, units in planned.items():
            state = video_state(units, products, failed)
            finished = video_id in videos and videos[video_id][1]["status"] != videos_schema.FAILED
            if self.output.compaction is not None and video_id in videos:
                continue  # its units have no files of their own here
            if state == DONE and not finished:
                what = f"all masks of {video_id!r} are there, but its row is not"
                yield Finding(UNFINISHED, row_name("videos", video_id), what, self.again)
            elif state == UNIT_FAILED and video_id not in videos:
                what = f"{video_id!r} failed, but its row is not there"
                remedy = (
                    "Run the same jobs.annotate command again, with --retry-failed if that does not help, or with "
                    "--forget-missing where it was taken out of the manifest"
                )
                yield Finding(UNFINISHED, row_name("videos", video_id), what, remedy)
            elif state == LEFT and not finished:
                left.append(video_id)
                units_left += sum(unit.has_shard and unit.unit_id not in products for unit in units)
        self.states["left"] = len(left)
        if left:
            what = f"{len(left)} of {len(planned)} videos ({units_left} shards) are to be done, e.g. {left[0]!r}"
            remedy = (
                "Run the same jobs.annotate command again: it continues. Where they were taken out of its manifest, "
                "--forget-missing leaves out those without masks; put those with a part of theirs back"
            )
            if self.output.compaction is not None:
                remedy = "Finish the output that was compacted, and compact it again to a new place"
            yield Finding(UNFINISHED, "masks", what, remedy)

    def _video(self, name: str, row: Mapping[str, Any], planned: Sequence[PlannedUnit] | None) -> Iterator[Finding]:
        """A finished video's row against its shards."""
        video_id, shards = row["video_id"], row["shards"] or []
        if not shards:
            yield Finding(DAMAGED, name, f"{video_id!r} is {row['status']}, but no shards are named", self.delete)
            return
        if planned and self.output.compaction is None:
            wanted = [unit.unit_id for unit in planned if unit.has_shard]
            if sorted(wanted) != sorted(shard["unit_id"] for shard in shards):
                yield Finding(DAMAGED, name, f"its shards of {video_id!r} are not the plan's", self.delete)
        for shard in shards:
            file = f"masks/{shard['unit_id']}.parquet"
            report = self.reports.get(file)
            if report is None and self.output.storage.exists(file):
                continue  # newer than our listing: the video had failed then, and is done now
            if report is None or report.size is None:
                yield Finding(
                    LOST, file, f"{name} says that {video_id!r} is {row['status']}, but it is gone", self.again
                )
                continue
            if (report.size, report.sha256) != (shard["bytes"], shard["sha256"]):
                what = (
                    f"it has {report.size} bytes, hash {report.sha256[:12]}; {name} recorded {shard['bytes']} bytes, "
                )
                yield Finding(DAMAGED, file, what + f"hash {str(shard['sha256'])[:12]}", self._shard_remedy())
            found = report.video_rows.get(video_id, 0)
            if found != shard["rows"]:
                what = f"it holds {found} rows of {video_id!r}, {name} says {shard['rows']}"
                yield Finding(DAMAGED, file, what, self._shard_remedy())
        total = sum(shard["rows"] or 0 for shard in shards)
        if total != row["mask_rows"]:
            yield Finding(DAMAGED, name, f"mask_rows is {row['mask_rows']}, its shards have {total}", self.delete)
        if self.config is not None:
            wanted = (self.config.checkpoint_sha256, self.config.fingerprint())
            if (row["checkpoint_sha256"], row["settings_sha256"]) != wanted:
                yield Finding(DAMAGED, name, f"{video_id!r} was made with other settings than the run's", self.delete)
        if row["first_frame"] is not None and row["frames_annotated"] is not None:
            end = row["first_frame"] + row["frames_annotated"] * (row["stride"] or 1)
            for object_id, rows in self._objects(row).items():
                if rows.last_frame is not None and rows.last_frame >= end:
                    what = (
                        f"object {object_id} of {video_id!r} has frame {rows.last_frame}, its frames end before {end}"
                    )
                    yield Finding(DAMAGED, name, what, self.delete)

    def _shard_remedy(self) -> str:
        if self.output.compaction is not None:
            return COMPACT
        return "Delete the shard and the video's row, and run the same jobs.annotate command again"

    def _objects(self, row: Mapping[str, Any]) -> dict[int, ObjectRows]:
        """Sums over all shards of the video, by object."""
        found: dict[int, list[ObjectRows]] = {}
        for shard in row["shards"] or ():
            report = self.reports.get(f"masks/{shard['unit_id']}.parquet")
            for object_id, rows in (report.objects.get(row["video_id"], {}) if report else {}).items():
                found.setdefault(object_id, []).append(rows)
        return {object_id: _add(parts) for object_id, parts in found.items()}

    def _tracks(self, name: str, row: Mapping[str, Any], tracks: Sequence[dict]) -> Iterator[Finding]:
        """A finished video's rows of `tracks` against its masks."""
        video_id = row["video_id"]
        if not row["shards"]:
            return
        if not tracks:
            if row["objects"] == 0 and self.output.compaction is not None:
                return  # of an import: here it has no file of its own that could be without rows
            if self.output.storage.exists(row_name("tracks", video_id)):
                return  # newer than our listing, or reported as damaged
            yield Finding(LOST, name, f"the tracks of {video_id!r} are not there", self.again)
            return
        ids = [track["object_id"] for track in tracks]
        if len(set(ids)) < len(ids):
            yield Finding(DOUBLED, name, f"an object of {video_id!r} has two tracks", self.delete)
        if row["objects"] is not None and len(set(ids)) != row["objects"]:
            yield Finding(
                DAMAGED, name, f"{len(set(ids))} tracks of {video_id!r}, but {row['objects']} objects", self.delete
            )
        objects = self._objects(row)
        if any(f"masks/{shard['unit_id']}.parquet" not in self.reports for shard in row["shards"]):
            return
        for object_id in sorted(set(objects) - set(ids)):
            yield Finding(DAMAGED, name, f"object {object_id} of {video_id!r} has masks, but no track", self.delete)
        for track in tracks:
            found = objects.get(track["object_id"], ObjectRows())
            wrong = [key for key, value in _track_values(found).items() if not _same(track[key], value)]
            if not set(found.prompt_frames) <= set(track["prompt_frames"] or ()):
                wrong.append("prompt_frames")
            if wrong:
                what = f"{', '.join(wrong)} of object {track['object_id']} of {video_id!r} do not agree with its masks"
                yield Finding(DAMAGED, name, what, self.delete)

    def _orphans(
        self, claimed: set[str], planned: Mapping[str, list[PlannedUnit]], videos: Mapping[str, tuple[str, dict]]
    ) -> Iterator[Finding]:
        """Shards that no plan asks for. Nothing is ever deleted here."""
        if self.output.plan is None:
            return
        if self.output.compaction is None:
            wanted = {f"masks/{unit.unit_id}.parquet" for units in planned.values() for unit in units if unit.has_shard}
        else:
            wanted = {
                f"masks/{part}.parquet" for bundle in self.output.compaction["bundles"] for part in bundle["parts"]
            }
            for name in sorted(wanted - set(self.reports)) if self.output.compaction_finished else ():
                yield Finding(LOST, name, "the compaction wrote it, but it is gone", COMPACT)
        for name in sorted(set(self.reports) - wanted - claimed):
            what = f"no unit of the plan has this name (it holds {self.reports[name].rows} rows)"
            remedy = "Keep it or delete it; readers of the whole folder see its rows"
            yield Finding(ORPHAN, name, what, remedy)
        products = self.output.products()
        wanted_banks = {
            unit.unit_id
            for units in planned.values()
            if any(unit.has_shard and unit.unit_id not in products for unit in units)
            for unit in units
        }
        for name in self.output.sizes:
            if name.startswith(BANKS + "/") and name.removeprefix(BANKS + "/").partition(".")[0] not in wanted_banks:
                yield Finding(ORPHAN, name, "a saved bank that no video needs any more", "Delete it to save space")


def _add(parts: Sequence[ObjectRows]) -> ObjectRows:
    return ObjectRows(
        n_visible=sum(part.n_visible for part in parts),
        first_frame=min(part.first_frame for part in parts),
        last_frame=max(part.last_frame for part in parts),
        areas=sum(part.areas for part in parts),
        area_min=min(part.area_min for part in parts),
        area_max=max(part.area_max for part in parts),
        scores=sum(part.scores for part in parts),
        prompt_frames=[frame for part in parts for frame in part.prompt_frames],
    )


def _track_values(rows: ObjectRows) -> dict[str, float | None]:
    mean = rows.areas / rows.n_visible if rows.n_visible else None
    score = rows.scores / SCORE_STEPS / rows.n_visible if rows.n_visible else None
    return {
        "n_visible": rows.n_visible,
        "first_frame": rows.first_frame,
        "last_frame": rows.last_frame,
        "area_min": rows.area_min,
        "area_max": rows.area_max,
        "area_mean": mean,
        "score_mean": score,
    }


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=SCORE_ERROR, abs_tol=SCORE_ERROR)
