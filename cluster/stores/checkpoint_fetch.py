"""A checkpoint from any URL: storage fetches it, the core loads it from a path."""

from collections.abc import Mapping
from pathlib import Path

from cluster.stores.source import fetch_source
from stcn_core.checkpoint import BUNDLED, CheckpointInfo, load_checkpoint
from stcn_core.network import STCN


def fetch_checkpoint(url: str, scratch: Path, options: Mapping | None = None) -> tuple[STCN, CheckpointInfo]:
    """url "" is the bundled small network. Raises FileNotFoundError, CheckpointError, OSError."""
    path = fetch_source(url, scratch, dict(options or {})) if url else BUNDLED
    return load_checkpoint(path)
