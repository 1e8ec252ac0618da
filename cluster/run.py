"""A whole run: lock the settings, plan, resume, drive, sum up. What `jobs.annotate` calls."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import ray

from cluster.actor import ActorSettings
from cluster.config_lock import lock_config
from cluster.crew import Crew
from cluster.deadline import STALL_SECONDS, Deadline
from cluster.detector_weights import DetectorWeights
from cluster.driver import Driver, DriverSettings
from cluster.exit_codes import ExitCode
from cluster.finalise import delete_bank, finalise_failed, finalise_video, row_name
from cluster.frames.probe import Probe
from cluster.kept_manifest import keep_manifest
from cluster.ledger import Ledger, Tally, first_line
from cluster.metrics import RunMetrics
from cluster.missing_videos import forget_missing, say_missing
from cluster.planning import plan_run
from cluster.progress import Progress, Standing
from cluster.progress_file import ProgressFile
from cluster.ray_session import check_address, connect
from cluster.resume import TABLES, OutputState, Todo, sort_out
from cluster.reuse import check_source, probes_of, reuse_shards
from cluster.second_chance import to_retry
from cluster.segmenter import Segmenters
from cluster.stop_policy import allowed_drain
from cluster.stores.checkpoint_fetch import fetch_checkpoint
from cluster.stores.storage import Storage
from cluster.summary import Outcome, sum_up
from schemas.manifest import VideoRow
from schemas.parquet import read_table
from schemas.run_config import RunConfig

GPU_ACTOR_THREADS = 4
DECODER_SECONDS = 120.0


@dataclass(frozen=True)
class RunRequest:
    """What a person asked for. actors and threads None = chosen by what the cluster has; times in seconds."""

    output: str
    segmenters: Segmenters
    actors: int | None = None
    threads: int | None = None
    device: str = "auto"
    address: str | None = None
    drain_seconds: float = 30.0
    ready_seconds: float = 900.0
    stall_seconds: float = STALL_SECONDS
    decoder_seconds: float = DECODER_SECONDS
    nvdec: bool = False  # let the GPU's decoder read videos first
    job_seconds: float | None = None
    reuse: str | None = None  # an earlier output whose shards are taken over where their unit ids are the same
    reuse_options: dict = field(default_factory=dict, repr=False)
    forget_missing: bool = False  # takes videos without masks that are not among the rows out of the plan
    retry_failed: str | None = None  # None = no, "" = all, otherwise one error class
    failed_videos_exit: int = int(ExitCode.FAILED_VIDEOS)
    ram_bytes: int = 1 << 30
    output_options: dict = field(default_factory=dict, repr=False)
    input_options: dict = field(default_factory=dict, repr=False)
    detectors: dict[str, DetectorWeights] = field(default_factory=dict)


@dataclass(frozen=True)
class _Begun:
    """A run that has its settings and its place. started: time.monotonic()."""

    request: RunRequest
    config: RunConfig
    storage: Storage
    file: ProgressFile
    say: Callable[[str], None]
    started: float


def checkpoint_identity(url: str, options: Mapping) -> tuple[str, str, tuple[str, ...]]:
    """(name, SHA-256, notes) of the checkpoint, after loading it once so that a wrong file stops the run here."""
    with tempfile.TemporaryDirectory(prefix="stcn-checkpoint-") as scratch:
        _, info = fetch_checkpoint(url, Path(scratch), dict(options))
    return info.name, info.sha256, info.notes


def run(request: RunRequest, config: RunConfig, rows: Sequence[VideoRow], say: Callable[[str], None]) -> int:
    """Plans, resumes and works until all units are terminal. Returns the exit code.

    Raises SettingsRefused; ClusterRefused for an address that is none; ConnectionError where another run is in the way;
    storage errors are OSError that names the URL.
    """
    started = time.monotonic()
    check_address(request.address)  # planning may take hours
    storage = Storage(request.output, request.output_options)
    probe = storage.probe()
    say(probe.message)
    file = ProgressFile(storage)
    other = file.other()
    if other is not None:
        say(f"warning: {other} works on the same --output. No mask is lost or doubled by that, but work is done twice")
    if request.forget_missing:
        _wait_for(other)
    source = known = None
    if request.reuse:
        source = Storage(request.reuse, request.reuse_options)
        check_source(source, storage, config)  # before anything is written
        known = probes_of(source)
    lock_config(storage, config)
    with file:  # from here on other runs, jobs.status and --forget-missing see that this one is at work
        begun = _Begun(request, config, storage, file, say, started)
        todo, state = _plan(begun, rows, source, known)
        say(_describe(todo))
        if todo.work:
            if not probe.shared:
                raise OSError(
                    f"{storage.url} is visible to this process only; actors need storage that all processes see"
                )
            outcome = _drive(begun, todo, state)
        else:
            outcome = Outcome(ExitCode.FAILED_VIDEOS if todo.failed else ExitCode.DONE, Tally(), 0.0)
            file.close(Standing(todo.done, todo.failed, todo.total), Tally(), outcome.state)
    sum_up(storage, outcome, todo, say)
    return request.failed_videos_exit if outcome.code == ExitCode.FAILED_VIDEOS else int(outcome.code)


def _plan(
    begun: _Begun, rows: Sequence[VideoRow], source: Storage | None, known: Mapping[str, Probe] | None
) -> tuple[Todo, OutputState]:
    """What is to be done and what is there, once the plan is written and what needs no actor is done. source: of
    --reuse; known: what its plan says of videos."""
    request, config, storage, say = begun.request, begun.config, begun.storage, begun.say
    state = _published(storage)
    retry = to_retry(storage, state, request.retry_failed, say)
    units = plan_run(
        storage,
        rows,
        config,
        request.input_options,
        set(state.published),
        say,
        given_up=state.failed.keys() - retry.keys(),
        known=known,
        look_again=not begun.file.met(),
        met=begun.file.met,
    )
    if request.forget_missing:
        _wait_for(begun.file.other())  # planning may have taken hours
        forget_missing(storage, rows, say)
    else:
        keep_manifest(storage, rows)
        say_missing(storage, rows, state.published, say)
    if source is not None:
        found = reuse_shards(source, storage, units, config, state.published, say)
        say("\n".join((*found.notes, f"took over {found.shards} shard(s) of {found.videos} whole video(s)")))
        state = _published(storage)
    todo = sort_out(units, state, retry)
    _catch_up(storage, todo, state, config, say)
    return todo, state


def _published(storage: Storage) -> OutputState:
    return OutputState.of(name for table in TABLES for name in storage.list(table))


def _wait_for(other: str | None) -> None:
    """Raises ConnectionError, which passes: where another driver is at work, its videos must not be forgotten."""
    if other is not None:
        raise ConnectionError(
            f"--forget-missing has to wait until {other} has ended: it may work on what would be forgotten"
        )


def _catch_up(storage: Storage, todo: Todo, state: OutputState, config: RunConfig, say: Callable[[str], None]) -> None:
    """What an earlier run should have written or removed after its last unit of a video."""
    for video in todo.finalise:
        try:
            if not has_good_row(storage, video[0].row.video_id, state):
                finalise_video(storage, [unit.unit_id for unit in video if unit.has_shard])
        except OSError as error:
            say(f"{video[0].row.video_id}: its rows cannot be written: {first_line(error)}")
    for unit_id in todo.finalise_failed:
        try:
            finalise_failed(storage, unit_id, state.failed[unit_id], config)
        except OSError as error:
            say(f"a failed video's row cannot be written: {first_line(error)}")
    for unit_id in todo.leftover_banks:
        delete_bank(storage, unit_id)


def has_good_row(storage: Storage, video_id: str, state: OutputState) -> bool:
    """Whether a video's rows are there, and that of `videos` does not say that it failed."""
    names = [row_name(table, video_id) for table in ("videos", "tracks")]
    if not state.rows.issuperset(names):
        return False
    try:
        return read_table(storage.read(names[0]), ["status"])["status"][0].as_py() != "failed"
    except (pa.ArrowException, IndexError):
        return False


def _drive(begun: _Begun, todo: Todo, state: OutputState) -> Outcome:
    request, say = begun.request, begun.say
    address = connect(request.address, (request.actors or 1) * (request.threads or 1))
    try:
        device = request.device
        if device == "auto":
            device = "cuda" if _gpus() else "cpu"
        follows_cluster = request.actors is None and device == "cuda"
        actors = request.actors or (max(1, _gpus()) if device == "cuda" else 1)
        cores = os.cpu_count() or 1
        threads = request.threads or (GPU_ACTOR_THREADS if device == "cuda" else max(1, cores // actors))
        say(f"Ray at {address}: {actors} {device} actor(s), {threads} thread(s) each")
        drain, warning = allowed_drain(request.drain_seconds, os.environ)
        if warning:
            say(f"warning: {warning}")
        crew = Crew(
            ActorSettings(
                config=begun.config,
                segmenters=request.segmenters,
                storage=begun.storage,
                device=device,
                threads=threads,
                ram_bytes=request.ram_bytes,
                decoder_seconds=request.decoder_seconds,
                nvdec=request.nvdec,
                input_options=request.input_options,
                detectors=request.detectors,
            )
        )
        settings = DriverSettings(
            actors=_gpus if follows_cluster else lambda: actors,
            drain_seconds=drain,
            ready_seconds=request.ready_seconds,
            job_seconds=request.job_seconds,
            began=begun.started,
            deadline=Deadline(stall_seconds=request.stall_seconds),
        )
        return _watched(begun, todo, state, crew, settings)
    finally:
        ray.shutdown()


def _watched(begun: _Begun, todo: Todo, state: OutputState, crew: Crew, settings: DriverSettings) -> Outcome:
    """The driver at work, seen on the terminal, on storage and in Ray's metrics."""
    forgive = begun.request.retry_failed is not None
    records = {unit.unit_id: state.record(unit.unit_id, forgive) for unit in todo.work}
    progress, file, metrics = Progress(), begun.file, RunMetrics()
    ledger = Ledger(todo.work, todo.videos, records, begun.storage, begun.config, progress.note)
    most = 0
    predicted = None

    def show(standing: Standing) -> None:
        nonlocal most, predicted
        progress.show(standing)
        file.show(standing, ledger.tally)
        tally = ledger.tally
        metrics.update(
            frames=standing.frames,
            units_done=tally.units,
            failures=tally.attempts,
            units_waiting=standing.queued,
            actors_busy=standing.busy,
            actors_starting=standing.waiting_actors,
            device_busy_share=tally.network_seconds / tally.seconds if tally.seconds else None,
        )
        most = max(most, standing.busy)
        if predicted is None and standing.all_work and standing.work >= 0.1 * standing.all_work:
            predicted = round((time.monotonic() - begun.started) * standing.all_work / standing.work, 1)

    driver = Driver(ledger, crew, settings, progress.note, show, (todo.done, todo.failed))
    code = ExitCode.INTERNAL_ERROR
    try:
        code = driver.run()
    except OSError as error:
        progress.note(f"stopped: {first_line(error)}")
        code = ExitCode.CIRCUIT_BREAKER
    finally:
        outcome = Outcome(
            code,
            ledger.tally,
            time.monotonic() - begun.started,
            most,
            crew.settings.device,
            predicted_seconds=predicted,
        )
        progress.show(driver.standing(), final=True)
        progress.close()
        file.close(driver.standing(), ledger.tally, outcome.state)
    return outcome


def _gpus() -> int:
    """GPUs of the cluster as it is now."""
    return int(ray.cluster_resources().get("GPU", 0))


def _describe(todo: Todo) -> str:
    parts = [f"{todo.total} videos: {len(todo.videos)} to do"]
    if len(todo.work) > len(todo.videos):
        parts[0] += f" in {len(todo.work)} units"
    if todo.done:
        parts.append(f"{todo.done} done before")
    if todo.failed:
        parts.append(f"{todo.failed} failed before (--retry-failed tries them again)")
    return ", ".join(parts)
