"""The keys of a manifest's videos, with prompt masks known by their contents.

Masks on disk are drawn, copied and checked out of git: the time of their last change says little, and they are small.
Plans of earlier versions went by that time all the same. A video that such a plan holds keeps its key for as long as
the times do.
"""

from collections.abc import Collection, Mapping, Sequence

from cluster.plan import video_key
from cluster.source_stats import by_content
from cluster.stores.source import SourceStat
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig


def video_keys(
    rows: Sequence[VideoRow],
    stats: Mapping[str, SourceStat],
    config: RunConfig,
    options: Mapping,
    before: Mapping[str, str],
    elsewhere: Collection[str] = (),
) -> tuple[dict[str, str], dict[str, SourceStat]]:
    """(video_id -> key, URL -> stat of the masks that were read: those on disk of rows that are not known by times).

    before: video_id -> key in this output's plan; elsewhere: keys in another's, to be taken over.
    """
    by_time = {row.video_id: video_key(row, stats[row.video], stats, config) for row in rows}
    fresh = [row for row in rows if not _is_known(row.video_id, by_time[row.video_id], before, elsewhere)]
    masks = {prompt.mask for row in fresh for prompt in row.prompts if prompt.mask is not None}
    contents = by_content(masks, stats, options)
    keys = {row.video_id: video_key(row, stats[row.video], contents, config) for row in fresh}
    return by_time | keys, contents


def _is_known(video_id: str, key: str, before: Mapping[str, str], elsewhere: Collection[str]) -> bool:
    return before[video_id] == key if video_id in before else key in elsewhere
