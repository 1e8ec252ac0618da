"""Suggested frames filled in with true masks: an annotator who never errs, to measure what corrections bring."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rlemasklib import RLEMask

from cluster.stores.remote import connect, full_url
from cluster.truth import place_truth, read_labels, truth_files
from schemas.urls import public_url


class TrueMasks:
    """The true masks in a folder as jobs.evaluate finds them. Raises TruthError, OSError."""

    def __init__(self, url: str, options: Mapping[str, Any], by: str | None):
        self._url, self._by = url, by
        self._fs, self._root = connect(url, options)

    def of(self, video: Mapping[str, Any]) -> dict[int, str]:
        """Frame -> path of a video's true masks, {} where there are none; video: its row of `videos`."""
        names = truth_files(self._fs, self._root, video["video_id"])
        if not names:
            return {}
        return dict(place_truth(names, video, self._by, public_url(full_url(self._fs, names[0]))).files)

    def rles(self, path: str, size: tuple[int, int], object_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Object id -> RLE as in a manifest, also of objects that are not there (empty masks)."""
        labels = read_labels(self._fs, path, size)
        return {object_id: _rle(labels == object_id) for object_id in object_ids}


def _rle(mask: np.ndarray) -> dict[str, Any]:
    record = RLEMask.from_array(mask.astype(np.uint8)).to_dict()
    return {"size": list(record["size"]), "counts": record["counts"].decode("ascii")}
