"""Suggested frames filled in with true masks: an annotator who never errs, to measure what corrections bring."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rlemasklib import RLEMask

from cluster.stores.remote import connect
from cluster.truth import find_truth, read_labels


class TrueMasks:
    """The true masks in a folder as jobs.evaluate finds them. Raises TruthError, OSError.

    doubts: of the videos asked for, why the frames of their masks are in doubt (see cluster.truth.Truth).
    """

    def __init__(self, url: str, options: Mapping[str, Any], by: str | None):
        self._by, self._options = by, options
        self.doubts: dict[str, str] = {}
        self._fs, self._root = connect(url, options)

    def of(self, video: Mapping[str, Any]) -> dict[int, str]:
        """Frame -> path of a video's true masks, {} where there are none; video: its row of `videos`."""
        found = find_truth(self._fs, self._root, video, self._by, self._options)
        if found is None:
            return {}
        if found.doubt:
            self.doubts[video["video_id"]] = found.doubt
        return dict(found.files)

    def rles(self, path: str, size: tuple[int, int], object_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Object id -> RLE as in a manifest, also of objects that are not there (empty masks)."""
        labels = read_labels(self._fs, path, size)
        return {object_id: _rle(labels == object_id) for object_id in object_ids}


def _rle(mask: np.ndarray) -> dict[str, Any]:
    record = RLEMask.from_array(mask.astype(np.uint8)).to_dict()
    return {"size": list(record["size"]), "counts": record["counts"].decode("ascii")}
