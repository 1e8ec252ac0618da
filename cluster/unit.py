"""One unit from source to published shard: what an actor does when the driver gives it a video."""

import contextlib
import datetime
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cluster.failure import error_class
from cluster.finalise import VIDEO_KEY, finalise_shard, shard_name
from cluster.frame_grid import FrameGrid
from cluster.frame_store import FrameStore
from cluster.heartbeat import Heartbeat
from cluster.plan import Unit, settings_json, video_record
from cluster.prefetch import ahead
from cluster.shard import ShardWriter
from cluster.source import fetch_source, read_source
from cluster.video import FrameReader, frame_times, probe_video, working_size
from cluster.workbench import Workbench, offline_settings
from schemas import masks as masks_schema
from schemas.metadata import file_metadata
from schemas.urls import public_url
from stcn_core.burn_in import BurnInChoice
from stcn_core.checkpoint import file_sha256
from stcn_core.masks import ObjectMask
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import PromptError, PromptSet, resolve_prompts
from stcn_core.propagation import Propagation

log = logging.getLogger(__name__)

DECODE_AHEAD = 16  # frames in the queue between decoder and network
# Shares of a unit's time for the progress bar: a burn-in visit encodes values, a final frame mostly does not.
COLLECT_SHARE = 0.05


@dataclass(frozen=True)
class UnitDone:
    """The answer of a unit that was published."""

    unit_id: str
    status: str  # done, truncated
    mask_rows: int
    frames: int
    seconds: float
    outcome: str  # of the publish: created, same, replaced


@dataclass(frozen=True)
class UnitFailed:
    """The answer of a unit that failed in an orderly way. Plain values: no exception crosses Ray."""

    unit_id: str
    error_class: str
    stage: str
    message: str
    frames_done: int


class UnitRun:
    """The state of one unit while it is worked on. `annotate` is the whole way."""

    def __init__(self, unit: Unit, bench: Workbench, heartbeat: Heartbeat) -> None:
        self.unit, self.bench, self.heartbeat = unit, bench, heartbeat
        self.started = time.monotonic()
        self.path: Path | None = None
        self.collected = 0  # frames to be annotated, once a burn-in has counted them
        self.final_from = 0.0  # share of the unit's work done when the final pass begins
        self.seconds: dict[str, float] = {}
        self.grid = FrameGrid.of(unit.row, bench.config)
        self.notes: list[str] = []
        self.settings = offline_settings(bench.config)

    def annotate(self) -> UnitDone:
        """Fetches, segments, publishes. Raises VideoError, PromptError, OSError, torch.OutOfMemoryError."""
        self.heartbeat.start(self.unit.unit_id)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="unit-", dir=self.bench.scratch)))
            with self._timed("fetch"):
                path = self.path = fetch_source(self.unit.row.video, folder, self.bench.input_options)
            self.heartbeat.stage("probe")
            self.info = probe_video(path)
            self.source = (self.info.height, self.info.width)
            self.size = working_size(*self.source, self.bench.config.resolution)
            self.times = frame_times(path)
            self.prompts = self._prompts()
            store = stack.enter_context(contextlib.closing(FrameStore(self.bench.ram_bytes, folder)))
            writer = ShardWriter(folder)
            if self.settings.burn_in_passes:
                results = self._offline(path, store)
            else:
                results = self._segmenter(None).causal_pass(self._causal_frames(path))
            with self._timed("final"):
                frames = self._write(results, writer)
            return self._publish(path, writer, frames)

    def _prompts(self) -> PromptSet:
        self.heartbeat.stage("prompts")

        def frame_at(seconds: float) -> int:
            if self.times is None:
                raise PromptError(f"prompt at {seconds:.3f} s: a folder of images has no times, give a frame")
            try:
                return self.times.frame_at(seconds)
            except ValueError as error:
                if (self.info.frames_declared or 0) - self.times.hidden > len(self.times):
                    return len(self.times)  # lost with the end of a damaged file; `_require` judges that
                raise PromptError(f"prompt at {seconds:.3f} s: {error}") from error

        def load(url: str) -> bytes:
            try:
                return read_source(url, self.bench.input_options)
            except FileNotFoundError as error:
                raise PromptError(f"mask {public_url(url)} does not exist") from error

        return resolve_prompts(self.unit.row.prompts, self.source, frame_at, load)

    def _offline(self, path: Path, store: FrameStore) -> Iterator[tuple[int, list[ObjectMask]]]:
        with self._timed("burn_in"):
            choice = self._collect(path, store)
            segmenter = self._segmenter(len(choice))
            segmenter.memorise_prompts(store.get)
            self.heartbeat.stage("burn-in", len(choice), COLLECT_SHARE)
            # Half of what is left is final pass where all frames are visited once, more where they are sampled.
            share = (1 - COLLECT_SHARE) * len(choice) / (len(choice) + max(1, self.collected))
            for number, _ in enumerate(segmenter.burn_in(choice.order(), store.get), 1):
                self.heartbeat.step(COLLECT_SHARE + share * number / len(choice))
            self.final_from = COLLECT_SHARE + share
        store.close()
        return segmenter.final_pass(self._final_frames(path))

    def _collect(self, path: Path, store: FrameStore) -> BurnInChoice:
        """One sequential decode keeps the prompted frames and those of lowest priority."""
        wanted = set(self.prompts.frames)
        settings, unit = self.settings, self.unit
        choice = BurnInChoice(settings.seed, unit.row.video_id, settings.burn_in_passes, settings.visited_frames)
        reader = self.grid.reading(path, self.info, self.size, wanted)
        self.heartbeat.stage("decode", self.info.frames_declared or 0)
        found = set()
        for frame, picture in ahead(reader, DECODE_AHEAD):
            self.heartbeat.step()
            kept, dropped = False, []
            if frame in self.grid:
                self.collected += 1
                if not (frame in wanted and self.prompts.frames[frame].given):
                    kept, dropped = choice.offer(frame)
            if frame in wanted:
                found.add(frame)
            if (kept and frame not in dropped) or frame in wanted:
                store.put(frame, picture)
            for old in dropped:
                if old != frame and old not in wanted:
                    store.discard(old)
        self._require(wanted - found, reader)
        return choice

    def _require(self, missing: set[int], reader: FrameReader) -> None:
        """Prompts beyond the last frame: an error, unless the file is damaged and every object has another prompt."""
        if not missing:
            return
        rest = {frame: here for frame, here in self.prompts.frames.items() if frame not in missing}
        left = {i for here in rest.values() for i, mask in (*here.given.items(), *here.seeds.items()) if mask.any()}
        if reader.error is None or left < set(self.prompts.object_ids):
            reason = f" ({reader.error})" if reader.error else ""
            raise PromptError(
                f"prompt on frame {min(missing)}: only {reader.decoded} frames, counted from 0, are there{reason}"
            )
        self.prompts = PromptSet(self.prompts.object_ids, rest)
        self.notes.append(f"prompts on {len(missing)} frame(s) that do not decode were left out")

    def _segmenter(self, visited: int | None) -> OfflineSegmenter:
        propagation = Propagation(
            self.bench.network, self.size, device=self.bench.device, precision=self.bench.config.precision
        )
        return OfflineSegmenter(
            propagation,
            self.settings,
            self.prompts,
            source=self.source,
            size=self.size,
            video_id=self.unit.row.video_id,
            visited=visited,
        )

    def _final_frames(self, path: Path) -> Iterator[tuple[int, np.ndarray]]:
        self.reader = FrameReader(path, self.info, self.size, self.grid.start, self.grid.end, self.grid.stride)
        return ahead(self.reader, DECODE_AHEAD)

    def _causal_frames(self, path: Path) -> Iterator[tuple[int, np.ndarray]]:
        """The frames to be annotated and, in their places, prompted frames that are not among them."""
        self.reader = self.grid.reading(path, self.info, self.size, set(self.prompts.frames))
        for frame, picture in ahead(self.reader, DECODE_AHEAD):
            if frame in self.grid or frame in self.prompts.frames:
                yield frame, picture

    def _write(self, results: Iterator[tuple[int, list[ObjectMask]]], writer: ShardWriter) -> int:
        expected = self.collected or self.info.frames_declared or 0
        first = self.final_from
        self.heartbeat.stage("final", expected, first)
        labels = {object_id: self.unit.row.label_of(object_id) for object_id in self.prompts.object_ids}
        frames = 0
        for frame, masks in results:
            if frame not in self.grid:
                continue  # a prompt of a causal run that lies between or outside the frames to be annotated
            frames += 1
            timed = self.times is not None and frame < len(self.times)
            for mask in masks:
                writer.add(
                    {
                        "video_id": self.unit.row.video_id,
                        "object_id": mask.object_id,
                        "label": labels[mask.object_id],
                        "frame_index": frame,
                        "pts": int(self.times.pts[frame]) if timed else None,
                        "time_s": float(self.times.time_s[frame]) if timed else None,
                        "height": mask.height,
                        "width": mask.width,
                        "rle_counts": mask.counts,
                        "area": mask.area,
                        "bbox_x": mask.box[0],
                        "bbox_y": mask.box[1],
                        "bbox_w": mask.box[2],
                        "bbox_h": mask.box[3],
                        "score": mask.score,
                        "is_prompt": mask.is_prompt,
                    }
                )
            self.heartbeat.step(first + (1 - first) * min(1.0, frames / max(1, expected, frames)), written=1)
        return frames

    def _publish(self, path: Path, writer: ShardWriter, frames: int) -> UnitDone:
        self.heartbeat.stage("publish", work=1.0)
        if not self.settings.burn_in_passes:
            self._require({f for f in self.prompts.frames if f >= self.reader.decoded}, self.reader)
        status = self._status()
        facts = self._facts(path, writer.rows, frames, status)
        metadata = {
            **file_metadata(
                masks_schema.NAME,
                masks_schema.VERSION,
                unit_id=self.unit.unit_id,
                checkpoint_sha256=self.bench.config.checkpoint_sha256,
                settings_sha256=self.bench.config.fingerprint(),
                settings=settings_json(self.bench.config),
                device_profile=self.bench.device_profile(),
            ),
            VIDEO_KEY: json.dumps(facts).encode(),
        }
        shard = writer.finish(metadata)
        published = self.bench.storage.publish(shard_name(self.unit.unit_id), shard)
        total = time.monotonic() - self.started
        finalise_shard(
            self.bench.storage,
            shard,
            {
                "seconds_total": total,
                **{f"seconds_{name}": value for name, value in self.seconds.items()},
                "device": self.bench.device_profile(),
                "actor": self.bench.actor,
                "finished_at": datetime.datetime.now(datetime.UTC),
            },
        )
        return UnitDone(self.unit.unit_id, status, writer.rows, frames, total, published.outcome)

    def _status(self) -> str:
        declared, decoded = self.info.frames_declared, self.reader.decoded
        if declared is not None and self.times is not None:
            declared -= self.times.hidden  # packets that an edit list hides are declared too
        expected = declared if self.grid.end is None or declared is None else min(declared, self.grid.end)
        # With a stride the reader may stop up to stride - 1 frames before the last one.
        short = expected is not None and decoded + self.grid.stride - 1 < expected
        if self.reader.error:
            self.notes.append(self.reader.error)
        elif short:
            self.notes.append(f"{decoded} of {declared} declared frames decode")
        return "truncated" if self.reader.error or short else "done"

    def _facts(self, path: Path, rows: int, frames: int, status: str) -> dict:
        """The deterministic part of the `videos` row and of its tracks: the same bytes for the same answer."""
        tracks = [
            {
                "object_id": object_id,
                "label": self.unit.row.label_of(object_id),
                "prompt_frames": [frame for frame, here in self.prompts.frames.items() if object_id in here.given],
            }
            for object_id in self.prompts.object_ids
        ]
        info = self.info
        return {
            **video_record(self.unit),
            "status": status,
            "frames_decoded": self.reader.decoded,
            "frames_declared": info.frames_declared,
            "frames_annotated": frames,
            "first_frame": self.grid.start,
            "stride": self.grid.stride,
            "width": info.width,
            "height": info.height,
            "working_width": self.size[1],
            "working_height": self.size[0],
            "fps": info.fps,
            "duration_s": info.duration_s,
            "rotation": info.rotation,
            "codec": info.codec,
            "source_size": self.unit.source.size,
            "source_version": self.unit.source.version,
            "source_sha256": source_sha256(path),
            "objects": len(self.prompts.object_ids),
            "mask_rows": rows,
            "checkpoint_sha256": self.bench.config.checkpoint_sha256,
            "settings_sha256": self.bench.config.fingerprint(),
            "message": "; ".join(self.notes) or None,
            "tracks": tracks,
        }

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - start


def source_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, or of the names and hashes of a folder's files."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.is_file():
            digest.update(f"{file.name}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def annotate_unit(unit: Unit, bench: Workbench, heartbeat: Heartbeat) -> UnitDone | UnitFailed:
    """One unit, whole. Whatever goes wrong with it is an answer, not an exception."""
    run = UnitRun(unit, bench, heartbeat)
    try:
        return run.annotate()
    except Exception as error:
        kind = error_class(error)
        text = str(error)
        if kind == "internal":
            log.exception("%s: %s failed", bench.actor, unit.row.video_id)
            text = f"{type(error).__name__}: {error}"
        if run.path is not None:
            text = text.replace(str(run.path), public_url(unit.row.video))
        beat = heartbeat.beat
        return UnitFailed(unit.unit_id, kind, beat.stage, public_url(text), beat.done)
    finally:
        heartbeat.idle()
