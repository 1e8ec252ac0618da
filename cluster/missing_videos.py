"""Videos of a plan that a command does not name: taken out of the manifest, or left out by --only or --limit.

They stay as they are unless `--forget-missing` asks otherwise. Forgetting takes a video without masks out of what the
output says of itself: first its failed row and its saved bank, then its line of the kept manifest, the plan last. So
the same command finds all that is left after a crash, and ends what was begun.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from cluster.finalise import delete_bank, row_name
from cluster.inspect.inspection import read_rows
from cluster.kept_manifest import keep_manifest
from cluster.plan import BURN_IN
from cluster.planning import publish_plan, read_plan_or_refuse
from cluster.resume import OutputState
from cluster.stores.storage import Storage
from schemas import videos as videos_schema
from schemas.manifest import VideoRow


@dataclass(frozen=True)
class Missing:
    """Video ids in the plan's order: those whose masks are all there, there in part, or not at all."""

    whole: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def missing_videos(plan: pa.Table, named: Collection[str], published: Collection[str]) -> Missing:
    """named: video ids of the command; published: unit ids with a shard. Pure."""
    shards: dict[str, list[bool]] = {}
    columns = (plan[name].to_pylist() for name in ("video_id", "unit_id", "kind"))
    for video_id, unit_id, kind in zip(*columns, strict=True):
        if video_id not in named and kind != BURN_IN:
            shards.setdefault(video_id, []).append(unit_id in published)
    return Missing(
        tuple(video_id for video_id, there in shards.items() if all(there)),
        tuple(video_id for video_id, there in shards.items() if any(there) and not all(there)),
        tuple(video_id for video_id, there in shards.items() if not any(there)),
    )


def describe(missing: Missing) -> str | None:
    """What a run says of them; None where there are none. Pure."""
    every = missing.without + missing.part + missing.whole
    if not every:
        return None
    text = (
        f"{len(every)} videos of the plan are not named by this command (such as {every[0]!r}): they stay as they are"
    )
    if missing.without:
        text += f"; {len(missing.without)} have no masks: --forget-missing takes these out of the plan"
    if missing.part:
        text += f"; {len(missing.part)} have a part of their masks: put them back into the manifest to finish them"
    return text


def say_missing(
    storage: Storage, rows: Sequence[VideoRow], published: Collection[str], say: Callable[[str], None]
) -> None:
    """Says what becomes of the videos of the plan that are not among the rows. Raises SettingsRefused, OSError."""
    plan = read_plan_or_refuse(storage)
    if plan is not None and (text := describe(missing_videos(plan, _named(rows), published))) is not None:
        say(text)


def forget_missing(storage: Storage, rows: Sequence[VideoRow], say: Callable[[str], None]) -> None:
    """Forgets the videos without masks that are not among the rows, and keeps the manifest without them.

    One whose row of `videos` does not say that it failed is left alone: its masks are lost, and jobs.verify says so.
    Raises SettingsRefused, OSError.
    """
    plan = read_plan_or_refuse(storage)
    # Listed now: planning may have taken hours.
    published = OutputState.of(storage.list("masks")).published
    missing = missing_videos(plan, _named(rows), published)
    names = {row_name("videos", video_id): video_id for video_id in missing.without}
    there = sorted(names.keys() & storage.list("videos").keys())
    kept = {names[name] for name, found in read_rows(storage, there, videos_schema, ["status"]) if not _failed(found)}
    gone = [video_id for video_id in missing.without if video_id not in kept]
    for name in there:
        if names[name] not in kept:
            storage.delete(name)
    lost = plan.filter(_is_of(plan, gone))
    for unit_id, kind in zip(lost["unit_id"].to_pylist(), lost["kind"].to_pylist(), strict=True):
        if kind == BURN_IN:
            delete_bank(storage, unit_id)
    keep_manifest(storage, rows, gone)
    now = read_plan_or_refuse(storage) if gone else None  # another run may have added to it meanwhile
    if now is not None:
        publish_plan(storage, now.filter(pc.invert(_is_of(now, gone))))
    say(f"{len(gone)} videos without masks that are not in the manifest were taken out of the plan")
    if kept:
        say(f"{len(kept)} more are left in it (such as {min(kept)!r}): their masks are lost, see jobs.verify")
    if (text := describe(replace(missing, without=()))) is not None:
        say(text)


def _named(rows: Sequence[VideoRow]) -> set[str]:
    return {row.video_id for row in rows}


def _is_of(plan: pa.Table, video_ids: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(plan["video_id"], pa.array(video_ids, pa.string()))


def _failed(rows: Sequence[dict] | Exception) -> bool:
    return not isinstance(rows, Exception) and all(row["status"] == videos_schema.FAILED for row in rows)
