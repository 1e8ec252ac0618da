"""The `masks` table: one row per video, object and frame on which the object is visible."""

import pyarrow as pa

from schemas import metadata
from schemas.metadata import column

NAME = "stcn-masks"
VERSION = "1.1.0"

# One video of usual length per group: a filter on video_id reads little, and the footer stays small.
ROW_GROUP_ROWS = 10_000
SORT = ("video_id", "object_id", "frame_index")

# Since 1.1.0, after all columns of 1.0.0, null where not known (given masks, imported masks). docs/scores.md says which
# of them find bad masks.
SCORES = (
    column("margin", pa.float32(), "mean of largest less second largest probability inside the mask", "0 to 1", True),
    column("edge_margin", pa.float32(), "the same near the mask's edge to other objects", "0 to 1", True),
    column("soft_iou", pa.float32(), "expected overlap, from the probabilities inside and outside", "0 to 1", True),
    column("match_entropy", pa.float32(), "mean entropy of the memory read's weights inside", "0 to 1", True),
    column("match_distance", pa.float32(), "mean distance of the best match in memory inside", nullable=True),
    column("second_opinion", pa.float32(), "overlap with the mask of another part of the memory", "0 to 1", True),
    column("doubt", pa.float32(), "how doubtful the mask is, from soft_iou; 0 for a given mask", "0 to 1", True),
)

SCHEMA = metadata.described_schema(
    NAME,
    VERSION,
    [
        column("video_id", pa.string(), "the manifest's name of the video"),
        column("object_id", pa.int32(), "the object's number in the prompts, from 1, not necessarily contiguous"),
        column("label", pa.string(), "the object's label in the manifest", nullable=True),
        column("frame_index", pa.int32(), "position of the frame in display order in the source, from 0", "frames"),
        column(
            "pts", pa.int64(), "presentation time stamp in the container; null for image folders", "time base", True
        ),
        column("time_s", pa.float64(), "pts minus the first displayed pts; null for image folders", "s", True),
        column("height", pa.int32(), "height of the mask and of the source as shown, after rotation", "pixels"),
        column("width", pa.int32(), "width of the mask and of the source as shown, after rotation", "pixels"),
        column("rle_counts", pa.binary(), "COCO compressed run-length code, column-major; with size [height, width]"),
        column("area", pa.int64(), "pixels of the mask", "pixels"),
        column("bbox_x", pa.int32(), "left edge of the mask's bounding box", "pixels"),
        column("bbox_y", pa.int32(), "upper edge of the mask's bounding box", "pixels"),
        column("bbox_w", pa.int32(), "width of the mask's bounding box", "pixels"),
        column("bbox_h", pa.int32(), "height of the mask's bounding box", "pixels"),
        column("score", pa.float32(), "mean foreground probability inside the mask; 1 for a given mask", "0 to 1"),
        column("is_prompt", pa.bool_(), "the mask was given with the manifest and is written unchanged"),
        *SCORES,
    ],
    rle_format="coco-v1",
    mask_semantics="no row: the object is not visible on that frame",
)


COLUMNS_1_0 = SCHEMA.names[: len(SCHEMA.names) - len(SCORES)]


def is_complete(schema: pa.Schema) -> bool:
    """Whether a file has the columns of this version or of an earlier minor version."""
    earlier = pa.schema([SCHEMA.field(name) for name in COLUMNS_1_0])
    return any(schema.equals(known, check_metadata=False) for known in (SCHEMA, earlier))


def completed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of this or an earlier minor version with all of today's columns; those that are missing are null."""
    plain = SCHEMA.remove_metadata()
    missing = [pa.nulls(batch.num_rows, field.type) for field in list(plain)[batch.num_columns :]]
    return pa.RecordBatch.from_arrays([*batch.columns, *missing], schema=plain)


def write_options() -> dict[str, object]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for this table.

    Measured on 30,543 real masks: zstd 3 takes 149 bytes a mask; level 9 saves 6 % for 3 to 4 times the time; a
    dictionary on the counts costs time and space.
    """
    return metadata.write_options(SCHEMA, plain=["rle_counts"], sort=SORT)
