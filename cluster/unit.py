"""One unit from source to published product: what an actor does when the driver gives it a unit."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cluster.bank import fetch_bank, publish_bank
from cluster.burn_in_frames import collect
from cluster.failure import BankError, error_class
from cluster.finalise import finalise_video, shard_name
from cluster.frames.decoder import Frames
from cluster.frames.frame_store import FrameStore
from cluster.heartbeat import Heartbeat
from cluster.open_video import OpenVideo
from cluster.plan import BURN_IN, WHOLE, Unit
from cluster.reading import Picture, SharedPass, sought
from cluster.segmenter import VideoFacts
from cluster.shard import ShardWriter
from cluster.shard_facts import Stretch, shard_metadata, stretch, video_mask_row
from cluster.stores.storage import Published
from cluster.workbench import Workbench, offline_settings
from schemas import videos as videos_schema
from schemas.urls import public_url
from stcn_core.cleanup import clean_frame, parse_steps

log = logging.getLogger(__name__)

# Shares of a unit's time for the progress bar: a burn-in visit encodes values, a final frame mostly does not.
COLLECT_SHARE = 0.05


@dataclass(frozen=True)
class UnitDone:
    """The answer of a unit whose product is published. measured: seconds by stage and who did it."""

    unit_id: str
    status: str  # done, truncated
    mask_rows: int
    frames: int
    seconds: float
    published: Published | None = None
    measured: dict = field(default_factory=dict)


@dataclass(frozen=True)
class UnitFailed:
    """The answer of a unit that failed in an orderly way. Plain values: no exception crosses Ray."""

    unit_id: str
    error_class: str
    stage: str
    message: str
    frames_done: int
    cause: str = "exception"


class UnitRun:
    """The state of one unit while it is worked on."""

    def __init__(self, unit: Unit, bench: Workbench, heartbeat: Heartbeat) -> None:
        self.unit, self.bench, self.heartbeat = unit, bench, heartbeat
        self.settings = offline_settings(bench.config)
        self.clean = parse_steps(bench.config.clean)
        self.seconds = {"fetch": 0.0, "burn_in": 0.0, "final": 0.0, "network": 0.0}
        self.final_from = 0.0  # share of the unit's work done when the final pass begins

    def run(self) -> UnitDone:
        """Raises VideoError, PromptError, OSError, BankError, or what the network raises."""
        started = time.monotonic()
        self.heartbeat.start(self.unit.unit_id)
        self.bench.decoder.progress = lambda *_: self.heartbeat.alive()  # while it skips to a far frame
        with self._timed("fetch"):
            video = self._open()
        if self.unit.kind == BURN_IN:
            self._burn_in(video)
            self.heartbeat.stage("publish", work=1.0)
            status, rows, frames = videos_schema.DONE, 0, 0
            published = publish_bank(self.unit.unit_id, video, self.bench)
        else:
            with ShardWriter(video.folder) as writer:
                made = self._segment(video, writer) if self.settings.burn_in_passes else self._causal(video, writer)
                self.heartbeat.stage("publish", work=1.0)
                status, rows, frames = made.status, writer.rows, made.frames
                shard = writer.finish(shard_metadata(self.unit, video, writer, made))
                published = self.bench.storage.publish(shard_name(self.unit.unit_id), shard)
        measured = {f"seconds_{name}": value for name, value in self.seconds.items()}
        measured |= {"seconds_total": time.monotonic() - started, "actor": self.bench.actor}
        measured |= {"device": self.bench.segmenters.device_profile()}
        if self.unit.kind == WHOLE:
            finalise_video(self.bench.storage, [self.unit.unit_id], measured, {self.unit.unit_id: published})
        return UnitDone(self.unit.unit_id, status, rows, frames, measured["seconds_total"], published, measured)

    def _open(self) -> OpenVideo:
        """The video: still open from its last segment, or opened now."""
        bench = self.bench
        if bench.opened is None or bench.opened.key != self.unit.video_key:
            bench.put_away()
            bench.opened = OpenVideo(self.unit, bench, self.heartbeat)
        return bench.opened

    def _begin(self, video: OpenVideo, visited: int | None) -> None:
        facts = VideoFacts(video.source, video.size, video.row.video_id, visited)
        video.segmenter = self.bench.segmenters.begin(self.settings, video.prompts, facts)

    def _burn_in(self, video: OpenVideo) -> None:
        """Fills the memory."""
        with self._timed("burn_in"), contextlib.closing(FrameStore(self.bench.ram_bytes, video.folder)) as store:
            choice, video.facts = collect(video, self.settings, store, self.heartbeat)
            self._begin(video, len(choice))
            video.segmenter.memorise_prompts(store.get)
            self.heartbeat.stage("burn-in", len(choice), COLLECT_SHARE)
            # Half of what is left is final pass where all frames are visited once, more where they are sampled.
            final = video.facts.positions if self.unit.kind == WHOLE else 0
            share = (1 - COLLECT_SHARE) * len(choice) / max(1, len(choice) + final)
            order = choice.order(video.prompts.shown_frames)
            visits = self._stopped("network", video.segmenter.burn_in(order, store.get))
            for number, _ in enumerate(visits, 1):
                # A gate visits frames again.
                self.heartbeat.step(COLLECT_SHARE + share * min(1, number / len(choice)))
            self.final_from = COLLECT_SHARE + share

    def _segment(self, video: OpenVideo, writer: ShardWriter) -> Stretch:
        """The final pass of a segment, its ring rebuilt from the frames before it, or of a whole video."""
        unit = self.unit
        if unit.kind == WHOLE:
            self._burn_in(video)
        elif video.segmenter is None:
            self.heartbeat.stage("bank")
            path = fetch_bank(unit, video, self.bench)
            self._begin(video, video.facts.visited)
            try:
                video.segmenter.load_bank(path)
            except ValueError as error:
                raise BankError(f"the saved bank of {unit.row.video_id}: {error}") from error
            path.unlink()
        grid, positions = video.grid.part(unit.first, unit.last), video.facts.positions
        if unit.first >= positions:
            return stretch(video, grid, 0, video.facts.frames_decoded, None)  # fewer frames than the container said
        self.heartbeat.stage("final", 0, self.final_from)
        with self._timed("final"):
            before, pictures, reader = self._pictures(video)
            results = video.segmenter.final_pass(self._stopped("network", pictures, -1), before)
            frames = self._write(video, results, writer, min(unit.last or positions, positions) - unit.first)
        return stretch(video, grid, frames, reader.decoded, reader.error)

    def _pictures(self, video: OpenVideo) -> tuple[list[Picture], Iterator[Picture], Frames]:
        """(those that the ring is rebuilt from, those of the unit, who reads them)."""
        unit, facts = self.unit, video.facts
        if unit.kind == WHOLE:
            # A damaged file is read from its beginning: seeking could give other pictures from run to run.
            reader = video.frames(video.grid, seek=not facts.damaged)
            return [], iter(reader), reader
        warm = min(unit.first, video.segmenter.ring_frames)
        if video.seekable and not facts.damaged:
            reader = video.frames(video.grid.part(unit.first - warm, unit.last))
            found = sought(reader, warm, facts.first_pictures.get(reader.start))
            if found is not None:
                return *found, reader
            log.warning("%s: seeking gives wrong pictures, it is read in order", video.row.video_id)
            video.seekable = False
        if video.shared is None or video.shared.position > unit.first:
            keep = video.segmenter.ring_frames
            video.shared = SharedPass(video.frames(video.grid, seek=False), keep, self.heartbeat.alive)
        return *video.shared.stretch(unit.first, unit.last, warm), video.shared.frames

    def _causal(self, video: OpenVideo, writer: ShardWriter) -> Stretch:
        """The frames to be annotated and, in their places, prompted frames that are not among them."""
        prompted = set(video.prompts.frames)
        self._begin(video, None)
        reader = video.frames(video.grid.with_frames(prompted))
        with self._timed("final"), contextlib.closing(iter(reader)) as stream:
            pictures = ((frame, picture) for frame, picture in stream if frame in video.grid or frame in prompted)
            results = video.segmenter.causal_pass(self._stopped("network", pictures, -1))
            frames = self._write(video, results, writer, self.unit.probe.frames or 0)
        video.require_frames(frames, reader.decoded, reader.error)
        video.require({frame for frame in prompted if frame >= reader.decoded}, reader.decoded, reader.error)
        return stretch(video, video.grid, frames, reader.decoded, reader.error)

    def _write(self, video: OpenVideo, results: Iterable, writer: ShardWriter, expected: int) -> int:
        first, frames = self.final_from, 0
        self.heartbeat.stage("final", expected, first)
        for frame, masks in self._stopped("network", results):
            if frame not in video.grid:
                continue  # a prompt of a causal run that lies between or outside the frames to be annotated
            frames += 1
            for mask in clean_frame(masks, self.clean):
                writer.add(video_mask_row(video, frame, mask))
            self.heartbeat.step(first + (1 - first) * min(1.0, frames / max(1, expected, frames)), written=1)
        return frames

    def _stopped(self, name: str, items: Iterable, sign: int = 1) -> Iterator:
        """The items; the time in which they are made counts for `name`, or (sign -1) against it."""
        iterator = iter(items)
        while True:
            before = time.monotonic()
            item = next(iterator, None)
            self.seconds[name] += sign * (time.monotonic() - before)
            if item is None:
                return
            yield item

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        before = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - before


def annotate_unit(unit: Unit, bench: Workbench, heartbeat: Heartbeat) -> UnitDone | UnitFailed:
    """One unit, whole. Whatever goes wrong with it is an answer, not an exception."""
    keep = False
    try:
        done = UnitRun(unit, bench, heartbeat).run()
        keep = unit.kind != WHOLE  # the driver gives this actor the video's next segment, if there is one
        return done
    except Exception as error:
        kind = error_class(error, bench.segmenters)
        if kind == "missing" and unit.found:
            kind = "gone"  # perhaps only here: a disk that this machine does not have
        text = str(error)
        if kind == "internal":
            log.exception("%s: %s failed", bench.actor, unit.row.video_id)
            text = f"{type(error).__name__}: {error}"
        path = bench.opened.path if bench.opened is not None else getattr(error, "video_path", None)
        if path is not None:
            text = text.replace(str(path), public_url(unit.row.video))
        beat = heartbeat.beat
        cause = getattr(error, "signal", None) or "exception"
        return UnitFailed(unit.unit_id, kind, beat.stage, public_url(text), beat.done, cause)
    finally:
        if not keep:
            bench.put_away()
        heartbeat.idle()
