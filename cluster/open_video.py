"""A video made ready for work: fetched, probed, its prompts resolved. An actor keeps it open between segments."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.failure import WorkerError
from cluster.found_objects import found_objects
from cluster.frame_grid import FrameGrid
from cluster.frames.decoder import Frames
from cluster.frames.video import working_size
from cluster.frames.video_error import no_frames
from cluster.heartbeat import Heartbeat
from cluster.plan import Unit
from cluster.reading import SharedPass
from cluster.stores.source import fetch_source, read_source, stat_source
from cluster.workbench import Workbench
from schemas.urls import is_local, public_url
from stcn_core.prompts import PromptError, PromptSet, resolve_prompts

HASH_BYTES = 1 << 16


@dataclass(frozen=True)
class BurnInFacts:
    """What the burn-in's decode of the whole range found. positions: frames to be annotated; frames_decoded counts
    from frame 0; damaged: decoding ended with an error or before the last packet; left_out: prompted frames that do not
    decode; visited: how many frames the burn-in visits; first_pictures: frame -> digest of the picture at which a
    segment begins to read."""

    positions: int
    frames_decoded: int
    damaged: bool
    left_out: tuple[int, ...]
    visited: int
    first_pictures: dict[int, str] = field(default_factory=dict)


class OpenVideo:
    """One video as a unit needs it. Raises VideoError, PromptError, OSError.

    folder is a scratch folder of its own; size (h, w) the working size, source (H, W) that of the masks; segmenter is
    set by the units that work on it, so that the next segment need not load the bank again; found is all that a
    detector was asked for.
    """

    def __init__(self, unit: Unit, bench: Workbench, heartbeat: Heartbeat) -> None:
        self.key, self.row, self.bench, self._heartbeat = unit.video_key, unit.row, bench, heartbeat
        try:
            self._scratch = TemporaryDirectory(prefix="video-", dir=bench.scratch)
        except OSError as error:
            raise WorkerError(f"the scratch folder {bench.scratch} cannot be used: {error}") from error
        self.folder = Path(self._scratch.name)
        self.grid = FrameGrid.of(unit.row, bench.config)
        self.segmenter = None
        self.facts: BurnInFacts | None = None
        self.notes: list[str] = []
        self.sha256: str | None = None
        self.shared: SharedPass | None = None  # where it cannot be sought
        self.path: Path | None = None
        try:
            self.path = fetch_source(
                unit.row.video, self.folder, bench.input_options, lambda count: heartbeat.step(done=count)
            )
            _require_planned(unit, bench.input_options)
            heartbeat.stage("probe")
            self.info = bench.decoder.probe(self.path)
            self.source = (self.info.height, self.info.width)
            self.size = working_size(*self.source, bench.config.resolution)
            self.times = bench.decoder.frame_times(self.path, self.folder)
            self.seekable = self.times.seekable if self.times is not None else True
            heartbeat.stage("prompts")
            self.found = found_objects(unit, self)
            self.prompts: PromptSet = resolve_prompts(
                unit.row.prompts, self.source, self.frame_at, self.load, self.found
            )
            if not unit.found:
                # Its id says that it does not exist: masks under that id would contradict the next plan.
                raise FileNotFoundError(
                    f"{public_url(unit.row.video)} or one of its masks was not there when the run was planned, but is "
                    "now: run the same command again"
                )
        except BaseException as error:
            error.video_path = self.path  # so that a message can name the URL instead
            self.close()
            raise

    def close(self) -> None:
        """Removes the scratch folder."""
        self.segmenter = None
        if self.shared is not None:
            self.shared.close()
        self._scratch.cleanup()

    def frames(self, grid: FrameGrid, *, seek: bool = True) -> Frames:
        """The frames of a grid at the working size, decoded ahead in the decoder's process."""
        return self.bench.decoder.frames(
            self.path, self.info, self.size, grid.start, grid.end, grid.stride, seek=seek, times=self.times
        )

    def still_alive(self) -> None:
        """Tells the heartbeat that slow work goes on."""
        self._heartbeat.alive()

    def require_frames(self, annotated: int, decoded: int, error: str | None) -> None:
        """Raises VideoError where no frame of the range is there: nobody means to annotate nothing."""
        if not annotated:
            raise no_frames(self.path, self.grid.start, self.grid.end, decoded, error)

    def require(self, missing: set[int], decoded: int, error: str | None) -> None:
        """Prompts beyond the last frame: an error, unless the file is damaged and every object has another prompt."""
        if not missing:
            return
        rest = {frame: here for frame, here in self.prompts.frames.items() if frame not in missing}
        left = {i for here in rest.values() for i, mask in (*here.given.items(), *here.seeds.items()) if mask.any()}
        if error is None or left < set(self.prompts.object_ids):
            reason = f" ({error})" if error else ""
            raise PromptError(
                f"prompt on frame {min(missing)}: only {decoded} frames, counted from 0, are there{reason}"
            )
        self.leave_out(missing)

    def leave_out(self, frames: Collection[int]) -> None:
        """Does without the prompts on these frames."""
        if frames:
            rest = {frame: here for frame, here in self.prompts.frames.items() if frame not in frames}
            self.prompts = replace(self.prompts, frames=rest)
            self.notes.append(f"prompts on {len(frames)} frame(s) that do not decode were left out")

    def source_sha256(self) -> str:
        """Hex SHA-256 of the file, or of the names and hashes of a folder's files; read once."""
        if self.sha256 is None:
            self.sha256 = _sha256(self.path, self._heartbeat)
        return self.sha256

    def time_of(self, frame: int) -> tuple[int | None, float | None]:
        """(pts, seconds) of a frame; (None, None) where the container has none for it."""
        if self.times is None or frame >= len(self.times):
            return None, None
        return int(self.times.pts[frame]), float(self.times.time_s[frame])

    def prompt_frames(self, object_id: int) -> list[int]:
        """Frames with a given mask of the object."""
        return [frame for frame, here in self.prompts.frames.items() if object_id in here.given]

    def label_of(self, object_id: int) -> str | None:
        """What the manifest calls the object, or else what the detector took it for."""
        label, found = self.row.label_of(object_id), self.prompts.found.get(object_id)
        if label is None and found is not None:
            return self.row.prompts[found.prompt - 1].label or found.class_name
        return label

    def frame_at(self, seconds: float) -> int:
        """The last frame at or before a time. Raises PromptError."""
        if self.times is None:
            raise PromptError(f"prompt at {seconds:.3f} s: a folder of images has no times, give a frame")
        try:
            return self.times.frame_at(seconds)
        except ValueError as error:
            if (self.info.frames_declared or 0) - self.times.hidden > len(self.times):
                return len(self.times)  # lost with the end of a damaged file; `require` judges that
            raise PromptError(f"prompt at {seconds:.3f} s: {error}") from error

    def load(self, url: str) -> bytes:
        """A mask. Raises PromptError, OSError."""
        try:
            return read_source(url, self.bench.input_options)
        except FileNotFoundError as error:
            raise PromptError(f"mask {public_url(url)} does not exist") from error
        except (IsADirectoryError, NotADirectoryError) as error:
            raise PromptError(f"mask {public_url(url)} is no file: give a PNG") from error


def _require_planned(unit: Unit, options: Mapping[str, Any]) -> None:
    """Raises FileNotFoundError where the source is not what it was when the run was planned: the unit's id says so, and
    a video's segments must be of one content. Asked after it was fetched, so that a change meanwhile shows, too.

    On a disk only the size counts: another machine's copy, or a file that was only touched, has another time.
    """
    planned = unit.source
    try:
        now = stat_source(unit.row.video, options)
    except OSError:
        return  # nothing speaks against the copy, which is whole
    if not (planned.exists and now.exists):
        return  # what is wrong then is said elsewhere
    changed = None
    if None not in (planned.size, now.size) and planned.size != now.size:
        changed = f"it had {planned.size} bytes and has {now.size}"
    elif None not in (planned.version, now.version) and planned.version != now.version and not is_local(unit.row.video):
        changed = "its files changed" if now.is_dir else "its etag or modification time changed"
    if changed is not None:
        raise FileNotFoundError(
            f"{public_url(unit.row.video)} was replaced since the run was planned ({changed}): run the same command "
            "again, which plans it anew or, where it has published masks, says what to do"
        )


def _sha256(path: Path, heartbeat: Heartbeat) -> str:
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(HASH_BYTES):
                digest.update(block)
                heartbeat.alive()
        return digest.hexdigest()
    for file in sorted(path.iterdir()):
        if file.is_file():
            digest.update(f"{file.name}\0{_sha256(file, heartbeat)}\n".encode())
    return digest.hexdigest()
