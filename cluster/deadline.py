"""When an actor's unit is given up as stuck. Pure.

A unit is stuck when its heartbeat's counter has not moved for the stall time, or when it takes many times what it was
predicted to take at the rate measured in this run. A process that holds the interpreter's lock stops answering: its
counter does not move either, and the stage that it last told may be long over.
"""

from dataclasses import dataclass

STALL_SECONDS = 600.0  # a network call on a slow CPU takes tens of seconds; copying a file counts its bytes
OVERRUN = 20.0  # predictions are proportional to seconds only roughly
LEAST_SECONDS = 6 * 3600.0  # below that no unit is given up while it makes progress
PUBLISH_SECONDS = 3600.0  # an upload says nothing on its way; storage has time limits of its own


@dataclass(frozen=True)
class Deadline:
    """stall_seconds without progress, or overrun x the predicted time but never under least_seconds."""

    stall_seconds: float = STALL_SECONDS
    overrun: float = OVERRUN
    least_seconds: float = LEAST_SECONDS
    publish_seconds: float = PUBLISH_SECONDS

    def allowed(self, predicted_seconds: float | None) -> float | None:
        """Seconds that a call may take in all; None as long as nothing was measured."""
        return None if predicted_seconds is None else max(self.least_seconds, self.overrun * predicted_seconds)

    def verdict(
        self,
        now: float,
        started: float,
        moved: float,
        predicted_seconds: float | None,
        stage: str = "",
        answered: float | None = None,
    ) -> str | None:
        """Why the unit is to be given up, or None. started, moved, answered: when the call began, when its counter last
        moved and when it last said so (None = now): an upload does not keep a process from answering."""
        silent = answered is not None and now - answered > self.stall_seconds
        uploads = stage == "publish" and not silent
        stall = max(self.stall_seconds, self.publish_seconds) if uploads else self.stall_seconds
        if now - moved > stall:
            return f"no progress for {now - moved:.0f} s (allowed: {stall:g} s, --stall-seconds)"
        allowed = self.allowed(predicted_seconds)
        if allowed is not None and now - started > allowed:
            return (
                f"not done after {now - started:.0f} s; {predicted_seconds:.0f} s were predicted, {allowed:.0f} s are "
                "allowed"
            )
        return None


@dataclass(frozen=True)
class Rate:
    """Seconds per unit of predicted cost, measured: what deadlines, packs and the time left are computed from."""

    seconds: float = 0.0
    cost: float = 0.0

    def after(self, seconds: float, cost: float) -> "Rate":
        """One more piece of work. Old ones fade, so that a change of speed shows."""
        fade = 0.99
        return Rate(self.seconds * fade + seconds, self.cost * fade + cost)

    @property
    def per_cost(self) -> float | None:
        """None until something was measured."""
        return self.seconds / self.cost if self.cost else None

    def predict(self, cost: float) -> float | None:
        """Seconds for that much work on one actor."""
        return None if self.per_cost is None else cost * self.per_cost
