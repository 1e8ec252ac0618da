"""YouTube-VOS: objects that appear later, categories that were seen in training and others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cluster.stores.source import read_source
from jobs.protocols.protocol import Protocol, Published, TruthPlace, VideoTruth, png_truth
from schemas.urls import public_url

COLUMNS = ("J&F", "J_seen", "F_seen", "J_unseen", "F_unseen")
README = "STCN README"


def find(place: TruthPlace, video: Mapping[str, Any]) -> VideoTruth | None:
    """PNGs, and from --meta and --seen whether an object's category was seen in training.

    Raises ValueError where a file is no YouTube-VOS meta.json, OSError where it cannot be read.
    """
    truth = png_truth(place, video)
    if truth is None or place.meta is None:
        return truth
    entry = meta_videos(place.meta, place.options).get(video["video_id"], {})
    if place.seen is None:
        return truth
    seen = categories(meta_videos(place.seen, place.options))
    objects = entry.get("objects", {})
    named = {int(number): one["category"] for number, one in objects.items() if "category" in one}
    groups = {number: "seen" if category in seen else "unseen" for number, category in named.items()}
    return replace(truth, groups=groups)


def meta_videos(url: str, options: Mapping[str, Any] | None = None) -> dict[str, dict]:
    """The `videos` of a meta.json: id -> {"objects": {id: {"category": ..., "frames": [...]}}}.

    Raises ValueError, OSError.
    """
    try:
        videos = json.loads(read_source(url, options))["videos"]
        for video in videos.values():
            for number, entry in video["objects"].items():
                if not (number.isdecimal() and isinstance(entry, dict)):
                    raise ValueError(f"its object {number!r} is no entry")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{public_url(url)} is not a meta.json of YouTube-VOS ({error!r}): give the file beside JPEGImages"
        ) from error
    return videos


def categories(videos: Mapping[str, Mapping]) -> set[str]:
    """All categories that the objects have."""
    return {one["category"] for video in videos.values() for one in video["objects"].values() if "category" in one}


def row(videos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the objects of seen and of unseen categories; J&F is the mean of the four. Without categories: J and F
    over all objects, and their mean."""
    objects = [one for video in videos for one in video["objects"]]
    found = {}
    for group in ("seen", "unseen"):
        members = [one for one in objects if one.get("group") == group]
        for measure in ("J", "F"):
            if members:
                found[f"{measure}_{group}"] = float(np.mean([one[measure] for one in members]))
    if len(found) == 4:
        return {"J&F": float(np.mean(list(found.values()))), **found}
    return {"J&F": float(np.mean([one["J&F"] for one in objects])), **found}


PROTOCOLS = (
    Protocol(
        "youtube-vos",
        "YouTube-VOS 2018 val",
        "--truth is the folder with Annotations/<video>/*.png, on any frames; those without one do not count. For "
        "seen and unseen: --meta its meta.json with categories, --seen the training set's meta.json. "
        "An object counts on the true masks after its first one. The validation set's truth is with its server only.",
        columns=COLUMNS,
        all_frames=True,
        counted="after-first",
        find=find,
        row=row,
        published=(
            Published(
                "STCN", {"J&F": 84.3, "J_seen": 83.2, "F_seen": 87.9, "J_unseen": 79.0, "F_unseen": 87.2}, README
            ),
            Published(
                "STCN (2019 val)",
                {"J&F": 84.2, "J_seen": 82.6, "F_seen": 87.0, "J_unseen": 79.4, "F_unseen": 87.7},
                README,
            ),
            Published("STCN, 480 and 600, flipped (2019 val)", {"J&F": 85.2}, "STCN, branch ms"),
            Published("STM", {"J&F": 79.4}, "STM paper"),
        ),
        note="Without --meta and --seen, our J&F is the mean over all objects.",
    ),
)
