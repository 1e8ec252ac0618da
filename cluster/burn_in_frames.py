"""The burn-in's decode pass: one sequential reading keeps the frames that will be visited, however long the video."""

from cluster.frames.frame_store import FrameStore
from cluster.heartbeat import Heartbeat
from cluster.open_video import BurnInFacts, OpenVideo
from cluster.plan import UNIT_SEGMENTS
from cluster.reading import picture_digest
from stcn_core.burn_in import BurnInChoice, MotionWeights, StcnbufChoice, sampled_choice
from stcn_core.settings import SAMPLED_ORDERS, OfflineSettings


def collect(
    video: OpenVideo, settings: OfflineSettings, store: FrameStore, heartbeat: Heartbeat
) -> tuple[BurnInChoice, BurnInFacts]:
    """Puts the prompted frames and those of lowest priority into the store. Raises VideoError, PromptError."""
    wanted = set(video.prompts.frames)
    choice = _choice(video, settings)
    motion = MotionWeights() if settings.burn_in_choice == "motion" else None
    reader = video.frames(video.grid.with_frames(wanted))
    heartbeat.stage("decode", video.info.frames_declared or 0)
    found, positions = set(), 0
    first_pictures: dict[int, str] = {}
    for frame, picture in reader:
        heartbeat.step()
        kept, dropped = False, []
        if frame in video.grid:
            if begins_a_segment(positions, settings):
                first_pictures[frame] = picture_digest(picture)
            positions += 1
            weight = motion.weigh(picture) if motion is not None else None
            # A pinned frame is in the memory already.
            if not (settings.pin_prompts and frame in wanted and video.prompts.frames[frame].given):
                kept, dropped = choice.offer(frame, weight)
        if frame in wanted:
            found.add(frame)
        if (kept and frame not in dropped) or frame in wanted:
            store.put(frame, picture)
        for old in dropped:
            if old != frame and old not in wanted:
                store.discard(old)
    video.require_frames(positions, reader.decoded, reader.error)
    missing = wanted - found
    video.require(missing, reader.decoded, reader.error)
    there = len(video.times) if video.times is not None else reader.decoded
    expected = there if video.grid.end is None else min(there, video.grid.end)
    damaged = reader.error is not None or reader.decoded + video.grid.stride - 1 < expected
    facts = BurnInFacts(positions, reader.decoded, damaged, tuple(sorted(missing)), len(choice), first_pictures)
    return choice, facts


def _choice(video: OpenVideo, settings: OfflineSettings) -> BurnInChoice:
    if settings.burn_in_order in SAMPLED_ORDERS:
        return sampled_choice(settings, video.row.video_id)
    first = [frame for frame in video.prompts.frames if frame in video.grid]
    permute = settings.burn_in_order == "stcnbuf"
    return StcnbufChoice(settings.seed, settings.burn_in_passes, settings.group_frames, first, permute)


def begins_a_segment(position: int, settings: OfflineSettings) -> bool:
    """Whether a segment unit begins to read at this position: its own first one less the frames of the ring."""
    return position > 0 and (position + warm_frames(settings)) % (UNIT_SEGMENTS * settings.segment_frames) == 0


def warm_frames(settings: OfflineSettings) -> int:
    """How many frames before a segment its ring is rebuilt from."""
    return settings.recent_frames * settings.group_frames
