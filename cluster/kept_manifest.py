"""The manifest's rows as an output keeps them, `_run/manifest.jsonl`: so that `jobs.review` can write the next one.

URLs are absolute. A row with a URL that holds credentials (a password, a presigned query) is not kept: its reader needs
the manifest itself.
"""

import json
from collections.abc import Collection, Sequence

from cluster.stores.storage import Storage
from schemas.manifest import VideoRow, parse_manifest
from schemas.manifest_record import row_record
from schemas.urls import public_url

MANIFEST_NAME = "_run/manifest.jsonl"


def keep_manifest(storage: Storage, rows: Sequence[VideoRow], forgotten: Collection[str] = ()) -> None:
    """Writes the rows down; those of earlier runs that are not among them stay, but for forgotten video ids. Raises
    OSError."""
    left_out = {row.video_id for row in rows} | set(forgotten)
    lines = [json.dumps(row_record(row)) for row in rows if not _has_secrets(row)]
    if storage.exists(MANIFEST_NAME):
        for line in storage.read(MANIFEST_NAME).splitlines():
            try:
                if json.loads(line)["video_id"] not in left_out:
                    lines.append(line.decode())
            except (ValueError, KeyError, TypeError):
                continue  # a damaged line is of no use to anybody
    storage.publish(MANIFEST_NAME, "".join(f"{line}\n" for line in lines).encode())


def kept_rows(storage: Storage) -> list[VideoRow]:
    """Raises FileNotFoundError, ManifestError, OSError."""
    return list(parse_manifest(MANIFEST_NAME, storage.read(MANIFEST_NAME), storage.url))


def _has_secrets(row: VideoRow) -> bool:
    urls = [row.video, *(prompt.mask for prompt in row.prompts if prompt.mask is not None)]
    return any(public_url(url) != url for url in urls)
