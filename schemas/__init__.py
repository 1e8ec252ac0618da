"""What goes in and out: manifest, prompts, output tables, run config. No torch, no Ray.

`schemas.read_masks` reads the masks back.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.reader import read_masks

__all__ = ["read_masks"]


def __getattr__(name: str) -> object:
    # Late, so that `schemas.prompt` can be had without pyarrow and fsspec.
    if name == "read_masks":
        from schemas.reader import read_masks

        return read_masks
    raise AttributeError(f"module 'schemas' has no attribute {name!r}")
