"""YouTube-VOS: objects that appear later, categories that were seen in training and others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cluster.stores.data_set import read_objects
from jobs.protocols.protocol import Protocol, Published, TruthPlace, VideoTruth, png_truth

COLUMNS = ("J&F", "J_seen", "F_seen", "J_unseen", "F_unseen")
README = "STCN README"


def find(place: TruthPlace, video: Mapping[str, Any]) -> VideoTruth | None:
    """PNGs, and from --meta and --seen whether an object's category was seen in training.

    Raises ValueError where a file is no YouTube-VOS meta.json, OSError where it cannot be read.
    """
    truth = png_truth(place, video)
    if truth is None or place.meta is None or place.seen is None:
        return truth
    known = read_objects(place.seen, place.options).values()
    seen = {category for objects in known for category in objects.values() if category is not None}
    objects = read_objects(place.meta, place.options).get(video["video_id"], {})
    groups = {k: "seen" if category in seen else "unseen" for k, category in objects.items() if category is not None}
    return replace(truth, groups=groups)


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
