"""What an actor is doing right now: stage and counters, written by its work and read by the driver's calls."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Beat:
    """One look at an actor.

    done and total count frames of the stage (bytes while fetching); total 0 = not known. work is 0..1 of the unit;
    written counts the unit's frames whose masks are made. ticks grows with every sign of life, over all units.
    """

    unit_id: str = ""
    stage: str = "idle"
    done: int = 0
    total: int = 0
    work: float = 0.0
    written: int = 0
    ticks: int = 0


class Heartbeat:
    """The current Beat. Assigning an attribute is atomic in Python, so reader and writer need no lock."""

    def __init__(self) -> None:
        self.beat = Beat()

    def start(self, unit_id: str) -> None:
        """A new unit."""
        self.beat = Beat(unit_id=unit_id, stage="fetch", ticks=self.beat.ticks + 1)

    def stage(self, stage: str, total: int = 0, work: float = 0.0) -> None:
        """A new stage of the unit."""
        beat = self.beat
        self.beat = replace(beat, stage=stage, done=0, total=total, work=work, ticks=beat.ticks + 1)

    def step(self, work: float | None = None, written: int = 0, done: int = 1) -> None:
        """`done` frames or bytes further."""
        beat = self.beat
        self.beat = replace(
            beat,
            done=beat.done + done,
            work=beat.work if work is None else work,
            written=beat.written + written,
            ticks=beat.ticks + 1,
        )

    def alive(self) -> None:
        """Slow work goes on, nothing to count."""
        self.step(done=0)

    def idle(self) -> None:
        """Nothing to do."""
        self.beat = Beat(ticks=self.beat.ticks + 1)
