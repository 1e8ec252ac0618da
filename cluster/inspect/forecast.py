"""What a run will take, before it is begun: units, time, bytes, and the videos that could not be looked into.
Pure.

Time is predicted work (cluster/cost.py) times the seconds that one actor takes for a unit of it. Over N actors it is
at least total / N, and at least the longest chain (a long video's burn-in, then one of its segments); the driver comes
close to the larger of the two.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from cluster.cost import annotated_frames, frames_known_or_guessed
from cluster.frames.video import working_size
from cluster.plan import BURN_IN, Unit, frame_range
from cluster.progress import duration
from cluster.workbench import offline_settings
from schemas.run_config import RunConfig
from schemas.urls import public_url

MASK_BYTES, MASK_HEIGHT = 150, 480  # zstd-3 Parquet, measured on DAVIS; an outline grows with the height
SHARD_BYTES = 16_000  # what a shard takes without any mask: schema, metadata, page index
STRIDE = 16
KEY_DIM, VALUE_DIM = 64, 512  # the official network's


@dataclass(frozen=True)
class Rate:
    """How fast one actor is. seconds_per_cost turns predicted work into time; source says where it is from."""

    seconds_per_cost: float
    source: str
    key_dim: int = KEY_DIM
    value_dim: int = VALUE_DIM


@dataclass(frozen=True)
class Unreadable:
    """A video that is not there or could not be looked into, and why: its own fault, or one of the moment."""

    video_id: str
    video: str
    row: int
    reason: str


@dataclass(frozen=True)
class TakenOver:
    """What `--reuse` will copy. videos: those that are whole by it; of others, single shards may be taken over."""

    videos: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """frames are those that will be segmented; masks counts every object on each of them, so it is an upper bound.

    guessed: videos without a frame count, whose frames are guessed from the file's size. bank_bytes: all saved banks
    together; each is deleted when its video is done. Times in s, on `actors` actors. taken_over: None without --reuse.
    """

    videos: int
    done_before: int
    failed_before: int
    taken_over: TakenOver | None
    units: Mapping[str, int]
    unreadable: Sequence[Unreadable]
    guessed: int
    frames: int
    video_hours: float
    masks: int
    output_bytes: int
    banks: int
    bank_bytes: int
    largest_bank_bytes: int
    actors: int
    device_seconds: float
    wall_seconds: float
    frames_per_second: float | None
    rate: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, device time in hours as well."""
        return asdict(self) | {
            "unreadable": [asdict(video) for video in self.unreadable],
            "device_hours": self.device_seconds / 3600,
        }

    def lines(self) -> list[str]:
        """For people."""
        units = ", ".join(f"{count} {kind}" for kind, count in self.units.items()) or "none"
        over = self.taken_over
        done = f", {self.done_before} done before" if self.done_before else ""
        done += f", {over.videos} taken over (--reuse)" if over is not None else ""
        done += f", {self.failed_before} failed before (--retry-failed)" if self.failed_before else ""
        guessed = f", {self.guessed} of them guessed from the size of the file" if self.guessed else ""
        speed = (
            f" ({self.frames_per_second:.2f} frames/s per actor, burn-in included)" if self.frames_per_second else ""
        )
        lines = [
            f"videos:  {self.videos} to do{done}",
            *(
                [f"reuse:   {over.shards} shard(s) of together {_size(over.bytes)} are copied"]
                if over is not None
                else []
            ),
            f"units:   {units}",
            f"frames:  {self.frames} to segment{guessed}; {self.video_hours:.2f} hours of video",
            f"time:    {self.device_seconds / 3600:.2f} device hours{speed}",
            f"         about {duration(self.wall_seconds)} with {self.actors} actor(s), start-up not included",
            f"rate:    {self.rate}",
            f"output:  up to {_size(self.output_bytes)} where every object is in every frame ({self.masks} masks; "
            f"{MASK_BYTES} bytes a mask at {MASK_HEIGHT} lines, in proportion to the height; {SHARD_BYTES} a shard)",
        ]
        if self.banks:
            lines.append(
                f"banks:   {self.banks} saved banks of together {_size(self.bank_bytes)} at most, the largest "
                f"{_size(self.largest_bank_bytes)}; each is deleted once its video is done"
            )
        if self.unreadable:
            lines.append(
                f"unreadable: {len(self.unreadable)} video(s) could not be looked into, and are not counted above; a "
                "run tries each"
            )
            lines += [f"  row {v.row}, {v.video_id}: {v.video}: {v.reason}" for v in self.unreadable]
        return lines


def forecast(
    units: Sequence[Unit],
    config: RunConfig,
    actors: int,
    rate: Rate | float | None,
    done_before: int = 0,
    failed_before: int = 0,
    taken_over: TakenOver | None = None,
) -> Forecast:
    """units: of whole videos, as they stand in the plan. rate: a Rate, or frames/s of one actor over all of this."""
    readable, unreadable = sort_readable(units)
    videos = [_Video.of(members, config) for members in readable]
    cost = sum(video.cost for video in videos)
    frames = sum(video.frames for video in videos)
    if not isinstance(rate, Rate):
        per_cost = frames / rate / cost if rate and cost else 0.0
        rate = Rate(per_cost, f"{rate:g} frames/s per actor, as given" if rate else "there is nothing to do")
    seconds = cost * rate.seconds_per_cost
    chain = max((video.chain for video in videos), default=0.0) * rate.seconds_per_cost
    banks = [video.bank_bytes(config, rate) for video in videos if video.split]
    kinds = Counter(unit.kind for members in readable for unit in members)
    return Forecast(
        videos=len(videos),
        done_before=done_before,
        failed_before=failed_before,
        taken_over=taken_over,
        units=dict(kinds),
        unreadable=unreadable,
        guessed=sum(video.guessed for video in videos),
        frames=frames,
        video_hours=sum(video.seconds for video in videos) / 3600,
        masks=sum(video.frames * video.objects for video in videos),
        output_bytes=round(sum(video.mask_bytes for video in videos)),
        banks=len(banks),
        bank_bytes=sum(banks),
        largest_bank_bytes=max(banks, default=0),
        actors=actors,
        device_seconds=seconds,
        wall_seconds=max(seconds / actors, chain),
        frames_per_second=frames / seconds if seconds else None,
        rate=rate.source,
    )


def sort_readable(units: Sequence[Unit]) -> tuple[list[list[Unit]], list[Unreadable]]:
    """(units of each video that can be read, the videos that cannot)."""
    readable, unreadable = [], []
    for _, members in groupby(units, lambda unit: unit.video_key):
        video = list(members)
        reason = _reason(video[0])
        if reason is None:
            readable.append(video)
        else:
            row = video[0].row
            unreadable.append(Unreadable(row.video_id, public_url(row.video), row.row, reason))
    return readable, unreadable


def typical_size(units: Sequence[Unit], config: RunConfig) -> tuple[int, int] | None:
    """Working (h, w) of the video in the middle of the work, None where no size is known."""
    sized = [
        (working_size(unit.probe.height, unit.probe.width, config.resolution), unit.cost)
        for unit in units
        if _reason(unit) is None and unit.probe.height and unit.probe.width
    ]
    half = sum(cost for _, cost in sized) / 2
    for size, cost in sorted(sized):
        half -= cost
        if half <= 0:
            return size
    return None


def visited_frames(config: RunConfig, frames: int) -> int:
    """How many frames of a video the burn-in visits at most, in one pass."""
    limit = offline_settings(config).visited_frames
    return frames if limit is None else min(limit, frames)


def _reason(unit: Unit) -> str | None:
    if not unit.source.exists:
        return "it does not exist or cannot be looked up"
    if not unit.found:
        return "a mask of its prompts does not exist or cannot be looked up"
    return unit.probe.error


@dataclass(frozen=True)
class _Video:
    """The units of a video that are to be done; whole_frames are those of all its units, frames those of these."""

    units: Sequence[Unit]
    whole_frames: int
    frames: int
    guessed: bool

    @staticmethod
    def of(units: Sequence[Unit], config: RunConfig) -> "_Video":
        first = units[0]
        start, end, stride = frame_range(first.row, config)
        frames = annotated_frames(frames_known_or_guessed(first.probe, first.source.size), start, end, stride)
        ours = sum((unit.last or frames) - unit.first for unit in units if unit.has_shard)
        return _Video(units, frames, max(0, ours), first.probe.frames is None)

    @property
    def cost(self) -> float:
        return sum(unit.cost for unit in self.units)

    @property
    def split(self) -> bool:
        return any(unit.kind == BURN_IN for unit in self.units)

    @property
    def chain(self) -> float:
        """The work that cannot be done side by side."""
        before = sum(unit.cost for unit in self.units if unit.kind == BURN_IN)
        return before + max((unit.cost for unit in self.units if unit.kind != BURN_IN), default=0.0)

    @property
    def objects(self) -> int:
        return self.units[0].row.objects_expected

    @property
    def seconds(self) -> float:
        probe = self.units[0].probe
        return probe.duration_s or (probe.frames / probe.fps if probe.frames and probe.fps else 0.0)

    @property
    def mask_bytes(self) -> float:
        share = (self.units[0].probe.height or MASK_HEIGHT) / MASK_HEIGHT
        shards = sum(unit.has_shard for unit in self.units)
        return self.frames * self.objects * MASK_BYTES * share + SHARD_BYTES * shards

    def bank_bytes(self, config: RunConfig, rate: Rate) -> int:
        """Keys and values in float32, of all slots."""
        probe, row = self.units[0].probe, self.units[0].row
        height, width = working_size(probe.height or 480, probe.width or 854, config.resolution)
        tokens = -(-height // STRIDE) * -(-width // STRIDE)
        visited = visited_frames(config, self.whole_frames) * max(1, config.burn_in_passes)
        slots = visited if config.memory_policy == "unbounded" else min(config.memory_frames, visited)
        slots += len({(prompt.frame, prompt.time_s) for prompt in row.prompts})
        return slots * tokens * 4 * (rate.key_dim + 1 + self.objects * rate.value_dim)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
