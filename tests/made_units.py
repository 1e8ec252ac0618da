"""Units without videos behind them, for tests of policy."""

from cluster.frames.probe import Probe
from cluster.plan import BURN_IN, SEGMENT, Unit
from cluster.stores.source import SourceStat
from schemas.manifest import VideoRow
from schemas.prompt import Prompt

STAT = SourceStat(True, False, 10, "v")
PROBE = Probe(1000, 640, 480, 25.0, 40.0, "h264", None)


def whole(number: int, cost: float = 10.0) -> Unit:
    """A video of its own."""
    row = VideoRow(number, f"{number}.mp4", f"v{number}", (Prompt(frame=0, object_id=1, box=(0, 0, 5, 5)),))
    return Unit(f"{number:032x}", row, STAT, cost, f"{number:032x}", probe=PROBE)


def split(number: int, segments: int, burn_in: float = 10.0, segment: float = 10.0) -> list[Unit]:
    """A long video's burn-in and its segments of 50 positions each."""
    video = whole(number)
    units = [Unit(f"b{number:031x}", video.row, STAT, burn_in, video.video_key, BURN_IN, probe=PROBE)]
    for part in range(segments):
        last = 50 * (part + 1) if part + 1 < segments else None
        units.append(
            Unit(f"5{part:011x}{number:020x}", video.row, STAT, segment, video.video_key, SEGMENT, 50 * part, last,
                 probe=PROBE)
        )  # fmt: skip
    return units
