"""The plan: which units there are, fixed before work starts. Pure functions.

A video is one unit or, where it is long, several: its burn-in, whose product is the saved bank, and segments, each a
stretch of the final pass with a shard of its own. Ids are hashes over everything that decides the masks, so the same
command finds its own work again, and anything that would give other masks gives another id. The plan depends on the
manifest, the probes and the settings, never on the cluster.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cluster.cost import annotated_frames, frames_known_or_guessed, predict
from cluster.frames.probe import Probe
from cluster.stores.source import SourceStat
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig
from schemas.urls import public_url
from stcn_core.settings import OfflineSettings

WHOLE, BURN_IN, SEGMENT = "whole", "burn-in", "segment"
# A segment unit holds that many times --segment-frames: minutes of work, so that little is lost with an actor and a
# long video's end is shared out, but long enough to pay for opening the video and loading the bank.
UNIT_SEGMENTS = 5
SPLIT_FROM_UNITS = 2  # shorter videos stay in one piece: a burn-in and two segments side by side would gain little
UNKNOWN = Probe(None, None, None, None, None, None, None)


@dataclass(frozen=True)
class Unit:
    """What one actor does and publishes at a time.

    video_key hashes what decides the video's masks; of a whole video it is the unit id. Positions count the frames to
    be annotated: a segment goes from `first` to before `last` (None: to the end), and `first` is a multiple of
    --segment-frames. cost is predicted work (cluster/cost.py). found: the video and its masks were there when the plan
    was made; a unit that was not found fails in its actor, with the reason.
    """

    unit_id: str
    row: VideoRow
    source: SourceStat
    cost: float
    video_key: str
    kind: str = WHOLE
    first: int = 0
    last: int | None = None
    found: bool = True
    probe: Probe = UNKNOWN

    @property
    def has_shard(self) -> bool:
        """Whether its product is a shard of masks (a burn-in's is a bank)."""
        return self.kind != BURN_IN


def video_key(row: VideoRow, source: SourceStat, masks: Mapping[str, SourceStat], config: RunConfig) -> str:
    """32 hex digits over video id, the source's size and version, the prompts' content and the settings."""
    prompts = []
    for prompt in row.prompts:
        content, version = json.loads(prompt.to_json()), None
        if prompt.mask is not None:
            # Not by URL: a presigned URL is another one every day.
            del content["mask"]
            version = [masks[prompt.mask].exists, masks[prompt.mask].size, masks[prompt.mask].version]
        prompts.append([content, version])
    record = {
        "video_id": row.video_id,
        "source": [source.exists, source.size, source.version],
        "prompts": prompts,
        "range": [row.start, row.end, row.stride],
        "labels": row.labels,
        "settings": config.fingerprint(),
    }
    return _hash(record)


def part_id(key: str, kind: str, first: int = 0, last: int | None = None) -> str:
    """The unit id of a part of a video."""
    return key if kind == WHOLE else _hash([key, kind, first, last])


def is_found(row: VideoRow, sources: Mapping[str, SourceStat], masks: Mapping[str, SourceStat]) -> bool:
    """Whether the video and all its masks are there."""
    given = [prompt.mask for prompt in row.prompts if prompt.mask is not None]
    return sources[row.video].exists and all(masks[mask].exists for mask in given)


def make_plan(
    rows: Sequence[VideoRow],
    sources: Mapping[str, SourceStat],
    masks: Mapping[str, SourceStat],
    config: RunConfig,
    probes: Mapping[str, Probe] | None = None,
    keys: Mapping[str, str] | None = None,
) -> list[Unit]:
    """The units of all rows, most costly videos first (ties by video id). probes by video id; missing ones unknown.
    keys: video_id -> key, where it is not to follow from these masks' stats."""
    videos = []
    for row in rows:
        source = sources[row.video]
        key = video_key(row, source, masks, config) if keys is None else keys[row.video_id]
        probe = (probes or {}).get(row.video_id, UNKNOWN)
        videos.append(video_units(row, source, key, probe, config, is_found(row, sources, masks)))
    videos.sort(key=lambda units: (-sum(unit.cost for unit in units), units[0].row.video_id))
    return [unit for units in videos for unit in units]


def video_units(
    row: VideoRow, source: SourceStat, key: str, probe: Probe, config: RunConfig, found: bool = True
) -> list[Unit]:
    """One video's units. Causal runs are never split: their memory depends on every frame before."""
    settings = OfflineSettings(
        memory_frames=config.memory_frames, burn_in_frames=config.burn_in_frames, burn_in_passes=config.burn_in_passes
    )
    start, end, stride = frame_range(row, config)
    frames = frames_known_or_guessed(probe, source.size)
    annotated = annotated_frames(frames, start, end, stride)
    objects = row.objects_expected
    decoded = frames if end is None else min(frames, end)
    cost = predict(probe, decoded, annotated, objects, config, settings.visited_frames)

    def unit(kind: str, work: float, first: int = 0, last: int | None = None) -> Unit:
        return Unit(part_id(key, kind, first, last), row, source, work, key, kind, first, last, found, probe)

    length = UNIT_SEGMENTS * config.segment_frames
    known = found and probe.frames is not None and probe.error is None
    if not known or not config.burn_in_passes or annotated <= SPLIT_FROM_UNITS * length:
        return [unit(WHOLE, cost.burn_in + cost.final(annotated))]
    firsts = range(0, annotated, length)
    # The last segment has no end: the container's count is not to be trusted.
    segments = [
        unit(
            SEGMENT, cost.final(min(length, annotated - first)), first, first + length if first != firsts[-1] else None
        )
        for first in firsts
    ]
    return [unit(BURN_IN, cost.burn_in), *segments]


def frame_range(row: VideoRow, config: RunConfig) -> tuple[int, int | None, int]:
    """(start, end, stride): the row's own where it has one, otherwise the run's."""
    start = row.start if row.start is not None else config.start
    end = row.end if row.end is not None else config.end
    stride = row.stride if row.stride is not None else config.stride
    return start or 0, end, stride or 1


def video_record(unit: Unit) -> dict:
    """What every table says of the unit's video."""
    return {"unit_id": unit.unit_id, "video_id": unit.row.video_id, "video": public_url(unit.row.video)}


def settings_json(config: RunConfig) -> str:
    """The settings as one line, for a shard's metadata."""
    return json.dumps(asdict(config), sort_keys=True)


def _hash(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:32]
