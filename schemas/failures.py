"""The `failures` table: one row per failed attempt at a unit."""

import pyarrow as pa

from schemas import metadata
from schemas.metadata import column
from schemas.urls import public_url

NAME = "stcn-failures"
VERSION = "1.0.0"
SORT = ("video_id", "unit_id", "attempt")
MESSAGE_BYTES = 1024

SCHEMA = metadata.described_schema(
    NAME,
    VERSION,
    [
        column("unit_id", pa.string(), "name of the unit of work"),
        column("video_id", pa.string(), "the manifest's name of the video"),
        column("video", pa.string(), "its URL as the manifest gives it, without credentials"),
        column("attempt", pa.int32(), "number of the attempt, from 1"),
        column("terminal", pa.bool_(), "no further attempt follows: the video failed"),
        column("stage", pa.string(), "what was going on: fetch, probe, prompts, burn-in, final, publish, ..."),
        column("error_class", pa.string(), "kind of error: missing, not-a-video, prompt, out-of-memory, ..."),
        column("cause", pa.string(), "cause of death: exception, signal, oom, deadline, node, ..."),
        column("message", pa.string(), "what happened and the remedy, at most 1 KB"),
        column("frames_done", pa.int64(), "frames that were segmented before", "frames"),
        column("host", pa.string(), "machine", nullable=True),
        column("actor", pa.string(), "which actor tried it", nullable=True),
        column("device", pa.string(), "device model", nullable=True),
        column("happened_at", pa.timestamp("us", tz="UTC"), "when the attempt ended"),
    ],
)


def short_message(text: str) -> str:
    """`text` cut to MESSAGE_BYTES bytes of UTF-8; the beginning and the end stay, the middle goes.

    Whatever looks like a credential in a URL is left out."""
    data = public_url(text).encode("utf-8", "backslashreplace")
    if len(data) <= MESSAGE_BYTES:
        return data.decode()
    half = (MESSAGE_BYTES - 5) // 2
    return data[:half].decode("utf-8", "ignore") + " ... " + data[-half:].decode("utf-8", "ignore")


def write_options() -> dict[str, object]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for this table."""
    return metadata.write_options(SCHEMA, plain=["message"], sort=SORT)
