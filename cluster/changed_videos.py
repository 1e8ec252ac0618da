"""Why a video is not the one whose masks are published, in words, and what can be done about it. Pure."""

import shlex
from collections.abc import Mapping, Sequence

from cluster.plan import Unit
from schemas.urls import is_local

SHOWN = 5


def refusal(changed: Sequence[tuple[Unit, Mapping]]) -> str:
    """changed: (a unit as it is now, its video's row in the earlier plan), one of each video."""
    lines = [f"{unit.row.video_id}: {_change(unit, record)}" for unit, record in changed[:SHOWN]]
    if len(changed) > SHOWN:
        lines.append(f"and {len(changed) - SHOWN} more")
    head = f"{len(changed)} video(s) have published masks, but are not what they were then:"
    remedy = (
        "Put them back as they were, or use a new --output with --reuse OUT, where OUT is this output: it takes over "
        "the masks of all other videos and does only these again."
    )
    return "\n  ".join([head, *lines]) + "\n" + remedy


def _change(unit: Unit, record: Mapping) -> str:
    if not unit.found:
        return "the file or a mask of its prompts is not there, or cannot be looked up"
    if unit.source.size != record["source_size"]:
        return f"the file's size changed from {record['source_size']} to {unit.source.size} bytes"
    if unit.source.version == record["source_version"]:
        return (
            "its prompts, a prompt mask or its manifest row changed (on disk masks count by contents, in outputs "
            "begun by earlier versions by modification time)"
        )
    url, before = unit.row.video, record["source_version"] or ""
    path = url.split("://", 1)[-1]
    if unit.source.is_dir:
        return "the names, sizes or modification times of the folder's files changed"
    if not is_local(url):
        return "the file's etag or modification time changed, its size did not"
    back = f"touch -d @{before[:-9]}.{before[-9:]} {shlex.quote(path)}" if before.isdecimal() else "cp -p, rsync -t"
    return f"the file's modification time changed, its size did not; if it is the same file, put the time back: {back}"
