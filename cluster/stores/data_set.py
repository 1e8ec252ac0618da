"""Folders of the VOS data sets as manifests: which videos, and what is given of them by the benchmark's rules."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rlemasklib import RLEMask

from cluster.stores.remote import connect, full_url, is_file
from cluster.stores.source import read_source
from cluster.stores.storage_errors import explained
from cluster.stores.video_folder import chosen_videos, find_videos, list_manifest_rows, usable_videos
from schemas.manifest import ManifestError, Problem, VideoRow
from schemas.prompt import Prompt
from schemas.urls import public_url

IMAGES, MASKS = "JPEGImages", "Annotations"


def read_split(data: bytes, name: str) -> list[str]:
    """Video ids of a split file, each once, in its order: one id a line, or (DAVIS 2016) the images' paths.

    Raises ValueError where there is none.
    """
    found: dict[str, None] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        first = line.split()[0] if line.split() else ""
        video_id = first.strip("/").split("/")[-2] if first.count("/") > 1 else first
        if video_id and not video_id.startswith("#"):
            found[video_id] = None
    if not found:
        raise ValueError(f"{public_url(name)} names no video: give one video id a line")
    return list(found)


def davis_rows(
    root: str,
    only: Collection[str] | None = None,
    *,
    resolution: str = "480p",
    merged: bool = False,
    options: Mapping[str, Any] | None = None,
) -> tuple[VideoRow, ...]:
    """DAVIS: the objects are those of the first frame's mask. merged: they are one object (DAVIS 2016).

    resolution: the folder's name, as in JPEGImages/480p. Raises ManifestError, OSError.
    """
    found = find_videos(f"{root.rstrip('/')}/{IMAGES}/{resolution}", options)
    found, problems = chosen_videos(found, only)
    found, misnamed = usable_videos(found)
    problems += misnamed
    rows = []
    for number, video in enumerate(found, 1):
        name = f"{root.rstrip('/')}/{MASKS}/{resolution}/{video.video_id}/{(video.images or ('00000',))[0]}.png"
        fs, path = connect(name, options)
        with explained(name, "looked up"):
            there = is_file(fs, path)
        if not there:
            reason = f"there is no mask {public_url(name)} of its first frame"
            problems.append(Problem(number, f"prompts of {video.video_id}", reason, "Add it, or leave the video out"))
            continue
        url = full_url(fs, path)
        prompt = _merged(url, options) if merged else Prompt(frame=0, mask=url)
        rows.append(VideoRow(number, video.url, video.video_id, (prompt,)))
    if problems or not rows:
        empty = Problem(0, "", "it holds no videos", f"Give the folder that has {IMAGES} and {MASKS}")
        raise ManifestError(public_url(root), problems or [empty])
    return tuple(rows)


def late_object_rows(
    root: str,
    only: Collection[str] | None = None,
    *,
    every_mask: bool = False,
    meta: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[VideoRow, ...]:
    """YouTube-VOS, MOSE, any folder with JPEGImages/<video> and Annotations/<video>: an object is given where a mask
    shows it first. every_mask: masks that are not one per frame are all given (the generic protocol).

    meta: YouTube-VOS's meta.json, for categories as labels and to leave out objects that it does not name. Raises
    ManifestError, ValueError, OSError.
    """
    base = root.rstrip("/")
    rows = list_manifest_rows(f"{base}/{IMAGES}", options, f"{base}/{MASKS}", only=only, first_masks=not every_mask)
    if meta is None:
        return rows
    known = read_objects(meta, options)
    return tuple(_named(row, known.get(row.video_id), meta) for row in rows)


def from_first_prompt(row: VideoRow) -> VideoRow:
    """The row, to be annotated from its first prompted frame on, as these benchmarks' programs do."""
    return replace(row, start=min(prompt.frame for prompt in row.prompts if prompt.frame is not None))


def read_objects(url: str, options: Mapping[str, Any] | None = None) -> dict[str, dict[int, str | None]]:
    """Video id -> object id -> category (None where there is none), of a meta.json. Raises ValueError, OSError."""
    try:
        videos = json.loads(read_source(url, options))["videos"]
        return {
            video_id: {int(number): one.get("category") for number, one in video["objects"].items()}
            for video_id, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{public_url(url)} is not a meta.json of YouTube-VOS ({type(error).__name__}: {error}): give the file "
            f"beside {IMAGES}"
        ) from error


def _named(row: VideoRow, objects: Mapping[int, str | None] | None, meta: str) -> VideoRow:
    if objects is None:
        raise ValueError(f"{public_url(meta)} does not name the video {row.video_id!r}: it is of another split")
    prompts = tuple(prompt for prompt in row.prompts if prompt.object_id in objects)
    if not prompts:
        raise ValueError(f"{public_url(meta)} names none of the objects in the masks of {row.video_id!r}")
    labels = tuple((number, category) for number, category in sorted(objects.items()) if category is not None)
    return replace(row, prompts=prompts, labels=labels)


def _merged(url: str, options: Mapping[str, Any] | None) -> Prompt:
    from stcn_core.prompts import read_label_png

    labels = read_label_png(read_source(url, options), public_url(url))
    record = RLEMask.from_array((labels > 0).astype(np.uint8)).to_dict()
    return Prompt(frame=0, object_id=1, rle=(*labels.shape, record["counts"]))
