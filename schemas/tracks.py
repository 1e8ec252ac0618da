"""The `tracks` table: one row per video and object. Derived from the published `masks`."""

import pyarrow as pa

from schemas import metadata
from schemas.metadata import column

NAME = "stcn-tracks"
VERSION = "1.1.0"
SORT = ("video_id", "object_id")

# Named as Parquet names it, so that the schema reads back equal.
FRAMES = pa.list_(pa.field("element", pa.int32()))

SCHEMA = metadata.described_schema(
    NAME,
    VERSION,
    [
        column("video_id", pa.string(), "the manifest's name of the video"),
        column("object_id", pa.int32(), "the object's number in the prompts"),
        column("label", pa.string(), "the object's label in the manifest", nullable=True),
        column("prompt_frames", FRAMES, "frames with a given mask of this object (boxes do not count)"),
        column("first_frame", pa.int32(), "first frame on which it is visible; null: never", "frames", True),
        column("last_frame", pa.int32(), "last frame on which it is visible; null: never", "frames", True),
        column("n_visible", pa.int64(), "frames on which it is visible: its rows in `masks`", "frames"),
        column("area_mean", pa.float64(), "mean area where visible; null: never", "pixels", True),
        column("area_min", pa.int64(), "smallest area where visible; null: never", "pixels", True),
        column("area_max", pa.int64(), "largest area where visible; null: never", "pixels", True),
        column("score_mean", pa.float64(), "mean score where visible; null: never", "0 to 1", True),
        column("found_by", pa.string(), "the detector that it starts from; null: none", nullable=True),
        column("found_class", pa.string(), "what the detector took it for; null: no detector", nullable=True),
        column("found_score", pa.float64(), "the detector's score; null: no detector", "0 to 1", True),
        column("found_frame", pa.int32(), "frame that the detector looked at; null: no detector", "frames", True),
    ],
)


def write_options() -> dict[str, object]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for this table."""
    return metadata.write_options(SCHEMA, plain=["prompt_frames"], sort=SORT)
