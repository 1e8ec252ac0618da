"""One number of the report: what it is, its unit, how it was taken."""

from dataclasses import asdict, dataclass

from jobs.measures.clock import Timing, pair_ratios


@dataclass(frozen=True)
class Figure:
    """value in `unit` (s/frame, frames/s, x, share, MiB, GFLOP/s, MB). of timed figures value is the best round's;
    median, spread ((longest - shortest) / median) and rounds say how it was scattered. note: what it is made of."""

    section: str
    case: str
    name: str
    value: float
    unit: str
    median: float | None = None
    spread: float | None = None
    rounds: int | None = None
    note: str = ""

    def to_json(self) -> dict:
        return asdict(self)


def timed(section: str, case: str, name: str, timing: Timing, unit: str = "s/frame", note: str = "") -> Figure:
    """Seconds of a Timing."""
    return Figure(section, case, name, timing.best, unit, timing.median, timing.spread, len(timing.seconds), note)


def ratio(section: str, case: str, name: str, over: Timing, under: Timing, note: str = "") -> Figure:
    """How many times as long `over` took: of the best rounds, and the median and spread of the rounds' own ratios."""
    pairs = Timing(pair_ratios(over, under))
    return Figure(
        section, case, name, over.best / under.best, "x", pairs.median, pairs.spread, len(pairs.seconds), note
    )
