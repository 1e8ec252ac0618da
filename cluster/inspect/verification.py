"""Is an output sound? Every shard against its own hashes, the tables, the plan and the other shards.

Reads only; needs no cluster. All problems are found, not just the first.
"""

import json
import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cluster.config_lock import AFTERWARDS, CONFIG_NAME
from cluster.import_record import is_import
from cluster.inspect.inspection import COMPACTION_NAME, Output, look
from cluster.inspect.shard_check import (
    DAMAGED,
    DOUBLED,
    LOST,
    ORPHAN,
    UNFINISHED,
    Finding,
    ShardReport,
    ShardTask,
    check_shard,
)
from cluster.inspect.shard_file import frames_of
from cluster.inspect.tables_check import check_tables
from cluster.planning import PLAN_NAME
from cluster.stores.storage import Storage
from schemas.run_config import RunConfig

SOUND, WRONG, SOUND_BUT_UNFINISHED = 0, 1, 6
SHARDS_PER_PROCESS = 4  # starting a process takes as long as checking a few small shards
AGAIN = "Run the same jobs.annotate command again"


@dataclass(frozen=True)
class Verdict:
    """What verify found. code: 0 sound, 1 something is damaged, lost or doubled, 6 sound but unfinished.

    imported_from: the format that another tool wrote the masks in; no settings of a run are checked then.
    """

    url: str
    code: int
    findings: Sequence[Finding]
    shards: int
    rows: int
    bytes: int
    masks_decoded: int
    videos: Mapping[str, int]
    imported_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the number of findings by kind."""
        counts = Counter(finding.kind for finding in self.findings)
        return asdict(self) | {"counts": dict(counts), "findings": [asdict(finding) for finding in self.findings]}

    def lines(self) -> list[str]:
        """For people: one line per finding, then the sum."""
        text = {SOUND: "sound", WRONG: "NOT sound", SOUND_BUT_UNFINISHED: "sound, but unfinished"}[self.code]
        counts = Counter(finding.kind for finding in self.findings)
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        imported = ""
        if self.imported_from is not None:
            imported = f"; its masks were imported from {self.imported_from}: there are no settings of a run to check"
        videos = ", ".join(f"{count} {state}" for state, count in sorted(self.videos.items())) or "none"
        return [
            *(str(finding) for finding in self.findings),
            f"{self.url}: {text}" + (f" ({found})" if found else "") + imported,
            f"checked {self.shards} shards of {self.bytes} bytes with {self.rows} rows, {self.masks_decoded} masks "
            f"decoded; videos: {videos}",
        ]


def verify(
    storage: Storage,
    *,
    all_masks: bool = False,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Checks everything. progress is called with (shards checked, shards). Raises NoOutput, Unreadable, OSError."""
    output = look(storage)
    findings = list(_check_run_files(output))
    config, imported_from = _config(output, findings)
    tasks = list(_tasks(output, config, all_masks))
    reports: dict[str, ShardReport] = {}
    for report in run_tasks(tasks, processes):
        reports[report.name] = report
        findings += report.findings
        if progress is not None:
            progress(len(reports), len(tasks))
    findings += _strange_files(output)
    findings += _doubled(storage, reports)
    states, more = check_tables(output, reports, config)
    findings += more
    made_by = "jobs.import_masks" if imported_from is not None else _made_by(config)
    findings = [replace(f, remedy=f.remedy.replace("jobs.annotate", made_by)) for f in findings]
    kinds = {finding.kind for finding in findings}
    code = WRONG if kinds & {DAMAGED, LOST, DOUBLED} else SOUND_BUT_UNFINISHED if UNFINISHED in kinds else SOUND
    order = (DAMAGED, LOST, DOUBLED, UNFINISHED, ORPHAN)
    return Verdict(
        url=storage.url,
        code=code,
        findings=tuple(sorted(findings, key=lambda f: (order.index(f.kind), f.file, f.what))),
        shards=len(reports),
        rows=sum(report.rows for report in reports.values()),
        bytes=sum(report.size or 0 for report in reports.values()),
        masks_decoded=sum(report.masks_decoded for report in reports.values()),
        videos=dict(states),
        imported_from=imported_from,
    )


def _made_by(config: RunConfig | None) -> str:
    """The command that goes on in this output."""
    return "jobs.clean" if config is not None and AFTERWARDS in config.clean else "jobs.annotate"


def run_tasks(tasks: Sequence[ShardTask], processes: int) -> Iterator[ShardReport]:
    """Checks shards side by side. A file that kills its reader is a finding, not the end."""
    processes = min(processes, -(-len(tasks) // SHARDS_PER_PROCESS))
    if processes <= 1:
        yield from map(check_shard, tasks)
        return
    context = multiprocessing.get_context("spawn")  # storage clients do not survive a fork
    left = deque(tasks)
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            # Tasks of a chunk share one connection to the storage.
            chunk = max(SHARDS_PER_PROCESS, min(64, len(tasks) // (8 * processes)))
            for report in pool.map(check_shard, tasks, chunksize=chunk):
                left.popleft()
                yield report
        except BrokenProcessPool:
            pass
    for task in left:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                yield pool.submit(check_shard, task).result()
            except BrokenProcessPool:
                what = "reading it kills the process that does (a damaged file, or too little memory)"
                yield ShardReport(task.name, findings=[Finding(DAMAGED, task.name, what, task.remedy)])


def _check_run_files(output: Output) -> Iterator[Finding]:
    shards = output.names("masks")
    if output.plan_error:
        yield Finding(DAMAGED, PLAN_NAME, output.plan_error, AGAIN)
    elif output.plan is None:
        begun = output.compaction is not None and not output.compaction_finished
        kind = LOST if shards and not begun else UNFINISHED
        yield Finding(kind, PLAN_NAME, "there is no plan, so nobody can say what is missing", AGAIN)
    if output.compaction is not None and not output.compaction_finished:
        remedy = "Run the same jobs.compact command again: it continues"
        yield Finding(UNFINISHED, COMPACTION_NAME, "the compaction was not finished", remedy)


def _config(output: Output, findings: list[Finding]) -> tuple[RunConfig | None, str | None]:
    """(the run's settings, the format that the masks were imported from); at most one of them is known."""
    try:
        record = json.loads(output.storage.read(CONFIG_NAME))
        # A compacted output keeps the settings inside a record of its own, so that no run goes on in it.
        record = record["settings"] if output.compaction is not None else record
        if is_import(record):
            return None, str(record["format"])
        return RunConfig.from_json(json.dumps(record)), None
    except FileNotFoundError:
        if output.names("masks") and (output.compaction is None or output.compaction_finished):
            findings.append(Finding(LOST, CONFIG_NAME, "the settings of the run are gone", AGAIN))
    except (ValueError, KeyError, TypeError) as error:
        findings.append(Finding(DAMAGED, CONFIG_NAME, f"it cannot be used ({error})", "Put a copy back"))
    return None, None


def _tasks(output: Output, config: RunConfig | None, all_masks: bool) -> Iterator[ShardTask]:
    compacted = output.compaction is not None
    planned = {
        f"masks/{u.unit_id}.parquet": (u.unit_id, u.video_key, u.kind, u.video_id, u.first, u.last)
        for u in output.plan or ()
        if u.has_shard
    }
    hashes = {}
    if config is not None:
        hashes = {"checkpoint_sha256": config.checkpoint_sha256, "settings_sha256": config.fingerprint()}
    for name in output.names("masks"):
        task = ShardTask(output.storage, name, planned.get(name), compacted, hashes, all_masks)
        if compacted:
            task = ShardTask(output.storage, name, None, True, hashes, all_masks, "Compact again to a new place")
        elif output.plan is not None and name not in planned:
            # Of another plan: its hashes may be those of other settings.
            remedy = "Delete the file if nothing needs it"
            task = ShardTask(output.storage, name, None, False, {}, all_masks, remedy)
        yield task


def _strange_files(output: Output) -> Iterator[Finding]:
    """Everything that readers of the tables do not see. Reported, never deleted."""
    tables = ("masks", "tracks", "videos", "failures")
    known = {name for table in tables for name in output.names(table)}
    for name in output.sizes:
        if name not in known and name.partition("/")[0] != "_run":
            yield Finding(ORPHAN, name, "it is no file of an output", "Delete it if nothing needs it")


def _doubled(storage: Storage, reports: Mapping[str, ShardReport]) -> Iterator[Finding]:
    """The same video, object and frame in two shards. Only stretches that overlap are read again."""
    places: dict[tuple[str, int], list[tuple[int, int, str]]] = {}
    for report in reports.values():
        for video_id, objects in report.objects.items():
            for object_id, rows in objects.items():
                stretch = (rows.first_frame, rows.last_frame, report.name)
                places.setdefault((video_id, object_id), []).append(stretch)
    pairs: dict[tuple[str, str], list] = {}
    for (video_id, object_id), stretches in places.items():
        stretches.sort()
        for number, (_, last, name) in enumerate(stretches):
            for first, _, other in stretches[number + 1 :]:
                if first > last:
                    break
                twice = np.intersect1d(*(frames_of(storage, n, video_id, object_id) for n in (name, other)))
                if len(twice):
                    found = pairs.setdefault((name, other), [0, f"{video_id}, object {object_id}, frame {twice[0]}"])
                    found[0] += len(twice)
    for (name, other), (count, place) in pairs.items():
        remedy = "Keep the one that videos.shards names, delete the other"
        yield Finding(DOUBLED, other, f"{count} rows are also in {name} (first: {place})", remedy)
