"""The formats by name. Each is a module with NAME, places, files (out) and found (in).

Where a format has no place for some videos, its `refusal` says of their objects why.
"""

from types import ModuleType

from schemas.convert import burst, coco, davis, sa_v, stcnbuf, youtube_vis

FORMATS: dict[str, ModuleType] = {module.NAME: module for module in (davis, youtube_vis, coco, sa_v, burst, stcnbuf)}


def described() -> str:
    """What each format is and does not hold, for --help: the formats' own docstrings."""
    return "\n\n".join(
        f"{name}\n" + "\n".join(f"  {line}".rstrip() for line in module.__doc__.strip().splitlines())
        for name, module in FORMATS.items()
    )
