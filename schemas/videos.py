"""The `videos` table: one row per video that is finished, for better or worse."""

import hashlib

import pyarrow as pa

from schemas import metadata
from schemas.metadata import column

NAME = "stcn-videos"
VERSION = "1.1.0"
SORT = ("video_id",)

DONE = "done"
TRUNCATED = "truncated"
FAILED = "failed"
STATUSES = (DONE, TRUNCATED, FAILED)
IMPORTED = "imported"  # in place of hashes: no network and no settings of ours made these masks

SHARD = pa.struct(
    [
        pa.field("unit_id", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
    ]
)
SHARDS = pa.list_(pa.field("element", SHARD))

SCHEMA = metadata.described_schema(
    NAME,
    VERSION,
    [
        column("video_id", pa.string(), "the manifest's name of the video"),
        column("video", pa.string(), "its URL as the manifest gives it, without credentials"),
        column("status", pa.string(), "done; truncated: the frames that decode are done, there should be more; failed"),
        column("frames_decoded", pa.int64(), "frames that decoded; null: none was tried", "frames", True),
        column("frames_declared", pa.int64(), "frames that the container declares; null: it does not", "frames", True),
        column("frames_annotated", pa.int64(), "frames that were segmented (every stride-th of the range)", "frames"),
        column("first_frame", pa.int32(), "display index of the first frame of the range", "frames", True),
        column("stride", pa.int32(), "every stride-th frame was segmented", "frames", True),
        column("width", pa.int32(), "width of the source as shown, after rotation", "pixels", True),
        column("height", pa.int32(), "height of the source as shown, after rotation", "pixels", True),
        column("working_width", pa.int32(), "width at which the network ran", "pixels", True),
        column("working_height", pa.int32(), "height at which the network ran", "pixels", True),
        column("fps", pa.float64(), "mean frame rate; null for image folders", "1/s", True),
        column("duration_s", pa.float64(), "duration as the container declares it", "s", True),
        column("rotation", pa.int32(), "clockwise turn that shows the stored picture upright", "degrees", True),
        column("codec", pa.string(), "codec of the video; of an image folder its images' suffix", nullable=True),
        column("source_size", pa.int64(), "size of the file, or of all images together", "bytes", True),
        column("source_version", pa.string(), "etag or modification time from the listing", nullable=True),
        column("source_sha256", pa.string(), "hash of the file that was read; null for image folders", nullable=True),
        column("objects", pa.int32(), "objects prompted in the video", nullable=True),
        column("mask_rows", pa.int64(), "its rows in `masks`"),
        column("unit_id", pa.string(), "name of the video's work; the shard of an unsplit video has it, too"),
        column("shards", SHARDS, "its files masks/<unit_id>.parquet in order of frames; null: failed", nullable=True),
        column("checkpoint_sha256", pa.string(), "hash of the network's weights"),
        column("settings_sha256", pa.string(), "hash of all settings that affect masks"),
        column("seconds_total", pa.float64(), "time the unit took", "s", True),
        column("seconds_fetch", pa.float64(), "of that: copying the source to scratch", "s", True),
        column("seconds_burn_in", pa.float64(), "of that: burn-in", "s", True),
        column("seconds_final", pa.float64(), "of that: the final pass", "s", True),
        column("seconds_network", pa.float64(), "of that: network, memory and the making of masks", "s", True),
        column("device", pa.string(), "device model, threads, precision and versions", nullable=True),
        column("actor", pa.string(), "which actor did it", nullable=True),
        column("finished_at", pa.timestamp("us", tz="UTC"), "when its shard was published, or the failure recorded"),
        column("message", pa.string(), "why it is truncated or failed", nullable=True),
    ],
)


def file_name(video_id: str) -> str:
    """Name of the file that holds a video's row, in the `videos` folder (and of its rows, in `tracks`)."""
    return f"{hashlib.sha256(video_id.encode()).hexdigest()[:32]}.parquet"


def write_options() -> dict[str, object]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for this table."""
    return metadata.write_options(SCHEMA, plain=["message"], sort=SORT)
