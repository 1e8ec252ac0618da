"""What a run says at its end: `_run/summary.json`, and the lines a person reads."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cluster.exit_codes import ExitCode
from cluster.ledger import Tally, first_line
from cluster.progress import duration
from cluster.resume import Todo
from cluster.stores.storage import Storage

SUMMARY_NAME = "_run/summary.json"
DAY = 86400.0


@dataclass(frozen=True)
class Outcome:
    """A run that has ended. actors: most that were at work; predicted_seconds: how long it was predicted to take when
    a tenth of its work was done."""

    code: ExitCode
    tally: Tally
    seconds: float
    actors: int = 0
    device: str = ""
    predicted_seconds: float | None = None

    @property
    def state(self) -> str:
        """done (also with failed videos), or why not."""
        return "done" if self.code in (ExitCode.DONE, ExitCode.FAILED_VIDEOS) else self.code.name.lower()


def summary(outcome: Outcome, todo: Todo) -> dict:
    """The record of `_run/summary.json`. What ends in _now is this run's own."""
    tally, seconds = outcome.tally, outcome.seconds
    actor_days = outcome.actors * seconds / DAY
    return {
        "state": outcome.state,
        "exit_code": int(outcome.code),
        "videos": todo.total,
        "done": todo.done + tally.videos,
        "truncated_now": tally.truncated,
        "failed": todo.failed + len(tally.failed),
        "failed_now_by_class": dict(Counter(kind for kind, _ in tally.failed.values())),
        "left": len(todo.videos) - tally.videos - len(tally.failed),
        "units_now": tally.units,
        "frames_now": tally.frames,
        "mask_rows_now": tally.mask_rows,
        "replaced_publishes": tally.replaced,
        "deaths_now": tally.deaths,
        "seconds": round(seconds, 3),
        "predicted_seconds": outcome.predicted_seconds,
        "frames_per_second": round(tally.frames / seconds, 3) if seconds else None,
        "actors": outcome.actors,
        "device": outcome.device,
        "video_hours_now": round(tally.video_seconds / 3600, 4),
        "video_hours_per_day_per_actor": round(tally.video_seconds / 3600 / actor_days, 2) if actor_days else None,
        # Of the time that actors spent on units: the rest went into fetching, decoding, encoding and publishing.
        "network_share": round(tally.network_seconds / tally.seconds, 4) if tally.seconds else None,
        "network_frames_per_second": (
            round(tally.frames / tally.network_seconds, 3) if tally.network_seconds else None
        ),
    }


def sum_up(storage: Storage, outcome: Outcome, todo: Todo, say: Callable[[str], None]) -> None:
    """Writes the summary and says it."""
    record, tally = summary(outcome, todo), outcome.tally
    try:
        storage.publish(SUMMARY_NAME, json.dumps(record, indent=2).encode())
    except OSError as error:
        say(f"the summary cannot be written: {first_line(error)}")
    say(
        f"{record['done']} of {todo.total} videos done, {record['failed']} failed, {record['left']} left; "
        f"{tally.frames} frames in {duration(outcome.seconds)} "
        f"({tally.frames / max(outcome.seconds, 1e-9):.1f} frames/s, start-up included)"
    )
    if record["video_hours_per_day_per_actor"] and tally.network_seconds:
        where = "GPU" if outcome.device == "cuda" else "CPU actor"
        say(
            f"{record['video_hours_per_day_per_actor']:g} video hours a day and {where}; actors spent "
            f"{100 * record['network_share']:.0f} % of their units' time in network and memory"
        )
    for kind, count in Counter(kind for kind, _ in tally.failed.values()).most_common():
        say(f"  {count} x {kind}")
    if record["failed"]:
        say(f"why: the table {storage.url}/failures")
    say(f"masks: {storage.url}/masks")
