"""A probing child: says what one video after the other is, from its container, without copying or decoding it whole.

Started by `cluster/frames/probe.py` as `python -m cluster.frames.probe_child`. Imports no torch, no Ray, no Arrow.
"""

import os
import sys
from pathlib import Path
from typing import Any

from cluster.frames.container import open_video
from cluster.frames.image_folder import SUFFIXES, image_size, natural_key
from cluster.frames.parent_link import ParentLink
from cluster.frames.video import VideoError, VideoInfo, describe_video, probe_video
from cluster.stores.remote import connect, entry_name, is_disk, list_folder, look_up
from cluster.stores.storage_errors import clean, explained
from schemas.urls import public_url

# Headers lie at the beginning and the end of a file; what is read past them is thrown away.
READ_AHEAD = 512 << 10


def serve(link: ParentLink) -> None:
    link.send(ready=os.getpid())
    while True:
        command = link.command()
        try:
            link.send(facts=probe(command["url"], command["options"]))
        except (VideoError, OSError) as error:
            link.send(error=public_url(str(error)))
        except Exception as error:
            link.send(error=f"{public_url(command['url'])}: {type(error).__name__}: {clean(error)}")


def probe(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """The fields of `cluster.frames.probe.Probe` but `error`. Raises VideoError, or OSError that names the URL."""
    fs, path = connect(url, options)
    if is_disk(fs):
        info = probe_video(Path(path))
    else:
        with explained(url, "probed"):
            info = probe_remote(fs, path, public_url(url))
    frames = info.frames_declared
    if frames is None and info.duration_s and info.fps:
        frames = round(info.duration_s * info.fps)
    return {
        "frames": frames, "width": info.width, "height": info.height, "fps": info.fps, "duration_s": info.duration_s,
        "codec": info.codec,
    }  # fmt: skip


def probe_remote(fs: Any, path: str, name: str) -> VideoInfo:
    """As `probe_video`, over ranged reads; `name` stands in messages."""
    if look_up(fs, path)["type"] == "directory":
        return probe_remote_folder(fs, path, name)
    with fs.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead") as file:
        if not file.seekable():
            raise VideoError(name, "unsupported", "cannot be looked at before it is copied: its server has no ranges")
        with open_video(name, file) as (container, stream):
            return describe_video(name, container, stream)


def probe_remote_folder(fs: Any, path: str, name: str) -> VideoInfo:
    images = {entry_name(entry): entry["name"] for entry in list_folder(fs, path) if entry["type"] == "file"}
    names = sorted((image for image in images if image.lower().endswith(SUFFIXES)), key=natural_key)
    if not names:
        raise VideoError(name, "zero-frames", f"is a folder without images ({', '.join(SUFFIXES)})")
    with fs.open(images[names[0]], "rb", block_size=READ_AHEAD, cache_type="readahead") as file:
        height, width, orientation, mode = image_size(f"{name}/{names[0]}", file)
    codec = Path(names[0]).suffix[1:].lower()
    return VideoInfo(
        "images", height, width, orientation.rotation, frames_declared=len(names), codec=codec, pixel_format=mode,
        mirrored=orientation.mirrored,
    )  # fmt: skip


if __name__ == "__main__":
    serve(ParentLink(sys.argv[1:]))
