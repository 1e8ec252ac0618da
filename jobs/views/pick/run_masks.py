"""The masks of an earlier run, frame by frame, for a person to take and correct."""

from collections.abc import Mapping
from typing import Any

import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem
from rlemasklib import RLEMask

from schemas.reader import connected
from schemas.urls import public_url

COLUMNS = ["object_id", "label", "height", "width", "rle_counts", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "score"]


class RunMasks:
    """The output folder `out` of an annotate run, on any fsspec URL. Raises FileNotFoundError where it has no masks."""

    def __init__(self, out: str, options: Mapping[str, Any] | None = None):
        fs, root = connected(out, options)
        self.name = public_url(out).rstrip("/")
        self._folder, self._files = f"{root.rstrip('/')}/masks", PyFileSystem(FSSpecHandler(fs))
        if not fs.isdir(self._folder):
            raise FileNotFoundError(f"{self.name} holds no masks: give the --output folder of an annotate run")

    def on(self, video_id: str, frame: int, size: tuple[int, int]) -> list[dict[str, Any]]:
        """The frame's masks as proposals (see `Proposals.on`), each with the object_id that it has in the run.

        Raises ValueError for masks of another size than the video's (height, width) or that do not decode.
        """
        # Opened anew each time: the run may still be going on.
        shards = ds.dataset(self._folder, filesystem=self._files, format="parquet")
        chosen = (ds.field("video_id") == video_id) & (ds.field("frame_index") == frame)
        rows = shards.to_table(columns=COLUMNS, filter=chosen).to_pylist()
        return [self._proposal(row, size) for row in sorted(rows, key=lambda row: row["object_id"])]

    def _proposal(self, row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        found = row["height"], row["width"]
        if found != tuple(size):
            raise ValueError(f"the masks of {self.name} are {found[1]}x{found[0]}, this video {size[1]}x{size[0]}")
        mask = RLEMask.from_dict({"size": list(found), "counts": row["rle_counts"]})
        return {
            "object_id": row["object_id"],
            "name": row["label"] or "",
            "score": round(row["score"], 3),
            "box": [row[f"bbox_{side}"] for side in "xywh"],
            "counts": [int(count) for count in mask.counts],
        }
