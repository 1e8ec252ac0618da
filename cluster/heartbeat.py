"""What an actor is doing right now: stage and counter, written by its work and read by the driver's calls."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Beat:
    """One look at an actor. done and total count frames of the stage; total 0 = not known. work is 0..1 of the unit;
    written counts the unit's frames whose masks are made."""

    unit_id: str = ""
    stage: str = "idle"
    done: int = 0
    total: int = 0
    work: float = 0.0
    written: int = 0


class Heartbeat:
    """The current Beat. Assigning an attribute is atomic in Python, so reader and writer need no lock."""

    def __init__(self) -> None:
        self.beat = Beat()

    def start(self, unit_id: str) -> None:
        self.beat = Beat(unit_id=unit_id, stage="fetch")

    def stage(self, stage: str, total: int = 0, work: float = 0.0) -> None:
        self.beat = replace(self.beat, stage=stage, done=0, total=total, work=work)

    def step(self, work: float | None = None, written: int = 0) -> None:
        beat = self.beat
        self.beat = replace(
            beat,
            done=beat.done + 1,
            work=beat.work if work is None else work,
            written=beat.written + written,
        )

    def idle(self) -> None:
        self.beat = Beat()
