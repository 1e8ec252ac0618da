"""Which failed units a run tries again: what `--retry-failed` means."""

from collections import Counter
from collections.abc import Callable

from cluster.finalise import failure_name
from cluster.inspect.inspection import read_rows
from cluster.resume import OutputState
from cluster.stores.storage import Storage
from schemas import failures

UNREADABLE = "unreadable-failure-row"


def to_retry(storage: Storage, state: OutputState, asked: str | None, say: Callable[[str], None]) -> dict[str, str]:
    """unit id -> error class of the failed units that `--retry-failed` means. asked: None for none, "" for all, or an
    error class. A unit whose failure row is damaged has no class that could be asked for: only ""
    means it. say is told where no video has the class."""
    if asked is None:
        return {}
    units = {failure_name(unit_id, attempt, "final"): unit_id for unit_id, attempt in state.failed.items()}
    found = {}
    for name, rows in read_rows(storage, units, failures, ["error_class"]):
        found[units[name]] = UNREADABLE if isinstance(rows, Exception) or not rows else rows[0]["error_class"]
    meant = {unit_id: kind for unit_id, kind in found.items() if asked in ("", kind)}
    if found and not meant:
        there = ", ".join(f"{kind} ({count})" for kind, count in sorted(Counter(found.values()).items()))
        say(f"--retry-failed {asked}: no failed video has this class; there are: {there}")
    return meant
