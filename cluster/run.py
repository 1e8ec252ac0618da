"""A whole run: lock the settings, plan, resume, drive, sum up. What `jobs.annotate` calls."""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from cluster.actor import ActorSettings
from cluster.checkpoint_fetch import fetch_checkpoint
from cluster.driver import Driver
from cluster.exit_codes import ExitCode
from cluster.finalise import failure_name, finalise_published
from cluster.ledger import Tally, first_line
from cluster.plan import PlanError, Unit, keep_published, make_plan, merge_plans
from cluster.progress import Progress, duration
from cluster.ray_session import connect
from cluster.resume import OutputState, Todo, sort_out
from cluster.source import SourceStat, stat_source
from cluster.storage import Storage
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig

CONFIG_NAME = "_run/config.json"
PLAN_NAME = "_run/plan.parquet"
SUMMARY_NAME = "_run/summary.json"
STAT_THREADS = 32
GPU_ACTOR_THREADS = 4


class SettingsRefused(ValueError):
    """The output folder belongs to a run with other settings, or a published video has changed."""


@dataclass(frozen=True)
class RunRequest:
    """What a person asked for. actors and threads None = chosen by what the cluster has."""

    output: str
    checkpoint: str
    actors: int | None = None
    threads: int | None = None
    device: str = "auto"
    address: str | None = None
    drain_seconds: float = 30.0
    retry_failed: str | None = None  # None = no, "" = all, otherwise one error class
    failed_videos_exit: int = int(ExitCode.FAILED_VIDEOS)
    ram_bytes: int = 1 << 30
    output_options: dict = field(default_factory=dict, repr=False)
    input_options: dict = field(default_factory=dict, repr=False)


def checkpoint_identity(url: str, options: Mapping) -> tuple[str, str, tuple[str, ...]]:
    """(name, SHA-256, notes) of the checkpoint, after loading it once so that a wrong file stops the run here."""
    with tempfile.TemporaryDirectory(prefix="stcn-checkpoint-") as scratch:
        _, info = fetch_checkpoint(url, Path(scratch), dict(options))
    return info.name, info.sha256, info.notes


def lock_config(storage: Storage, config: RunConfig) -> None:
    """First writer wins. Raises SettingsRefused with the settings that differ."""
    if storage.create(CONFIG_NAME, config.to_json().encode()):
        return
    try:
        locked = RunConfig.from_json(storage.read(CONFIG_NAME))
    except ValueError as error:
        raise SettingsRefused(f"{storage.url}/{CONFIG_NAME} cannot be used: {error}") from error
    differences = config.differences(locked)
    if differences:
        lines = "\n  ".join(differences)
        raise SettingsRefused(
            f"{storage.url} was begun with other settings (there -> now):\n  {lines}\n"
            "Use the same settings to go on, or a new --output."
        )


def plan_run(
    storage: Storage, rows: Sequence[VideoRow], config: RunConfig, options: Mapping, published: set[str]
) -> list[Unit]:
    """Looks every source and mask up, makes the plan and writes it. published: unit ids. Raises SettingsRefused."""
    masks = {prompt.mask for row in rows for prompt in row.prompts if prompt.mask is not None}
    stats = _stat_all({row.video for row in rows} | masks, options)
    units = make_plan(rows, stats, stats, config)
    earlier = None
    if storage.exists(PLAN_NAME):
        earlier = pq.read_table(pa.BufferReader(storage.read(PLAN_NAME)))
    units = keep_published(units, earlier, published)
    try:
        table = merge_plans(units, earlier, published)
    except PlanError as error:
        raise SettingsRefused(str(error)) from error
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.publish(PLAN_NAME, sink.getvalue().to_pybytes())
    return units


def run(request: RunRequest, config: RunConfig, rows: Sequence[VideoRow], say: Callable[[str], None]) -> int:
    """Plans, resumes and works until all units are terminal. Returns the exit code.

    Raises SettingsRefused; storage errors are OSError that names the URL.
    """
    started = time.monotonic()
    storage = Storage(request.output, request.output_options)
    probe = storage.probe()
    say(probe.message)
    lock_config(storage, config)
    state = OutputState.of(
        [name for table in ("masks", "failures", "videos", "tracks") for name in storage.list(table)]
    )
    units = plan_run(storage, rows, config, request.input_options, set(state.published))
    todo = sort_out(units, state, _to_retry(storage, units, state, request.retry_failed))
    for unit in todo.finalise:
        finalise_published(storage, unit.unit_id)
    say(_describe(todo, units))
    tally, code = Tally(), ExitCode.FAILED_VIDEOS if todo.failed else ExitCode.DONE
    if todo.work:
        if not probe.shared:
            raise OSError(f"{storage.url} is visible to this process only; actors need storage that all processes see")
        try:
            tally, code = _drive(request, config, storage, todo, state, say)
        except OSError as error:
            say(f"stopped: {first_line(error)}")
            code = ExitCode.CIRCUIT_BREAKER
    _sum_up(storage, units, todo, tally, code, time.monotonic() - started, say)
    return request.failed_videos_exit if code == ExitCode.FAILED_VIDEOS else int(code)


def _drive(
    request: RunRequest, config: RunConfig, storage: Storage, todo: Todo, state: OutputState, say: Callable[[str], None]
) -> tuple[Tally, ExitCode]:
    cores = os.cpu_count() or 1
    address = connect(request.address, (request.actors or 1) * (request.threads or 1))
    try:
        resources = ray.cluster_resources()
        device = request.device
        if device == "auto":
            device = "cuda" if resources.get("GPU", 0) else "cpu"
        actors = request.actors or (max(1, int(resources.get("GPU", 0))) if device == "cuda" else 1)
        threads = request.threads or (GPU_ACTOR_THREADS if device == "cuda" else max(1, cores // actors))
        say(f"Ray at {address}: {actors} {device} actor(s), {threads} thread(s) each")
        settings = ActorSettings(
            config=config,
            checkpoint=request.checkpoint,
            storage=storage,
            device=device,
            threads=threads,
            ram_bytes=request.ram_bytes,
            input_options=request.input_options,
        )
        forgive = request.retry_failed is not None
        progress = Progress()
        driver = Driver(
            todo.work,
            {unit.unit_id: state.record(unit.unit_id, forgive) for unit in todo.work},
            settings,
            progress,
            actors=actors,
            drain_seconds=request.drain_seconds,
            earlier=(len(todo.done), len(todo.failed)),
        )
        code = driver.run()
        progress.close()
        return driver.ledger.tally, code
    finally:
        ray.shutdown()


def _stat_all(urls: Iterable[str], options: Mapping) -> dict[str, SourceStat]:
    """Looks every URL up. One that cannot be looked up is left to its unit to fail at, unless all cannot."""
    ordered = sorted(urls)
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        found = list(pool.map(lambda url: _stat(url, options), ordered))
    problems = [item for item in found if isinstance(item, OSError)]
    if problems and len(problems) == len(ordered):
        raise problems[0]
    nothing = SourceStat(False, False, None, None)
    return {url: nothing if isinstance(item, OSError) else item for url, item in zip(ordered, found, strict=True)}


def _stat(url: str, options: Mapping) -> SourceStat | OSError:
    try:
        return stat_source(url, dict(options))
    except (OSError, ValueError) as error:
        return error if isinstance(error, OSError) else OSError(str(error))


def _to_retry(storage: Storage, units: Sequence[Unit], state: OutputState, asked: str | None) -> dict[str, str] | None:
    """unit id -> error class of the failed units that `--retry-failed` means."""
    if asked is None:
        return None
    classes = {}
    for unit in units:
        if unit.unit_id in state.failed and unit.unit_id not in state.published:
            name = failure_name(unit.unit_id, state.failed[unit.unit_id], terminal=True, cause="")
            row = pq.read_table(pa.BufferReader(storage.read(name)), columns=["error_class"])
            classes[unit.unit_id] = row["error_class"][0].as_py()
    return {unit_id: kind for unit_id, kind in classes.items() if asked in ("", kind)}


def _describe(todo: Todo, units: Sequence[Unit]) -> str:
    parts = [f"{len(units)} videos: {len(todo.work)} to do"]
    if todo.done:
        parts.append(f"{len(todo.done)} done before")
    if todo.failed:
        parts.append(f"{len(todo.failed)} failed before (--retry-failed tries them again)")
    return ", ".join(parts)


def _sum_up(
    storage: Storage,
    units: Sequence[Unit],
    todo: Todo,
    tally: Tally,
    code: ExitCode,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    frames = sum(done.frames for done in tally.done)
    classes = Counter(kind for _, kind, _ in tally.failed)
    truncated = sum(done.status == "truncated" for done in tally.done)
    summary = {
        "state": {ExitCode.DONE: "done", ExitCode.FAILED_VIDEOS: "done"}.get(code, code.name.lower()),
        "exit_code": int(code),
        "videos": len(units),
        "done": len(todo.done) + len(tally.done),
        "truncated_now": truncated,
        "failed": len(todo.failed) + len(tally.failed),
        "failed_now_by_class": dict(classes),
        "left": len(todo.work) - len(tally.done) - len(tally.failed),
        "frames_now": frames,
        "mask_rows_now": sum(done.mask_rows for done in tally.done),
        "replaced_publishes": tally.replaced,
        "seconds": round(seconds, 3),
        "frames_per_second": round(frames / seconds, 3) if seconds else None,
    }
    try:
        storage.publish(SUMMARY_NAME, json.dumps(summary, indent=2).encode())
    except OSError as error:
        say(f"the summary cannot be written: {first_line(error)}")
    say(
        f"{summary['done']} of {len(units)} videos done, {summary['failed']} failed, {summary['left']} left; "
        f"{frames} frames in {duration(seconds)} ({frames / max(seconds, 1e-9):.1f} frames/s, start-up included)"
    )
    for kind, count in classes.most_common():
        say(f"  {count} x {kind}")
    if summary["failed"]:
        say(f"why: the table {storage.url}/failures")
    say(f"masks: {storage.url}/masks")
