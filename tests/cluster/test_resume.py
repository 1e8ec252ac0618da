"""What file names say is done."""

from cluster.finalise import failure_name, row_name, shard_name
from cluster.plan import Unit
from cluster.resume import OutputState, sort_out
from cluster.source import SourceStat
from schemas.manifest import VideoRow
from schemas.prompt import Prompt


def unit(number: int) -> Unit:
    row = VideoRow(number, f"{number}.mp4", f"video {number}", (Prompt(frame=0, object_id=1, box=(0, 0, 5, 5)),))
    return Unit(f"{number:032x}", row, SourceStat(True, False, 10, "v"), 10.0)


UNITS = [unit(number) for number in range(5)]
NAMES = [
    shard_name(UNITS[0].unit_id),
    row_name("videos", "video 0"),
    row_name("tracks", "video 0"),
    shard_name(UNITS[1].unit_id),
    row_name("videos", "video 1"),
    failure_name(UNITS[2].unit_id, 1, False, "actor-died"),
    failure_name(UNITS[2].unit_id, 2, True, "actor-died"),
    failure_name(UNITS[3].unit_id, 1, False, "actor-died"),
    "masks/.tmp-123",
    "masks/not a unit.parquet",
]


def ids(units: list[Unit]) -> list[int]:
    return [item.row.row for item in units]


def test_units_are_sorted_by_what_they_need():
    todo = sort_out(UNITS, OutputState.of(NAMES), None)
    assert (ids(todo.done), ids(todo.finalise), ids(todo.failed), ids(todo.work)) == ([0, 1], [1], [2], [3, 4])


def test_retry_takes_failed_units_up_again_and_forgives():
    state = OutputState.of(NAMES)
    todo = sort_out(UNITS, state, {UNITS[2].unit_id: "actor-died"})
    assert ids(todo.work) == [2, 3, 4] and not todo.failed
    assert state.record(UNITS[2].unit_id, forgive=True).attempts == 2
    assert state.record(UNITS[2].unit_id, forgive=True).strikes == 0


def test_a_death_in_an_earlier_run_still_counts():
    record = OutputState.of(NAMES).record(UNITS[3].unit_id, forgive=False)
    assert (record.attempts, record.strikes) == (1, 1)
    assert record.struck().finished


def test_a_lost_node_in_an_earlier_run_is_no_strike():
    names = [failure_name(UNITS[4].unit_id, number, False, "node-lost") for number in (1, 2, 3)]
    record = OutputState.of(names).record(UNITS[4].unit_id, forgive=False)
    assert (record.attempts, record.strikes, record.losses) == (3, 0, 3)


def test_published_masks_beside_a_failure_are_finalised_again():
    """The row of `videos` may say failed, although the masks came out."""
    names = [*NAMES, failure_name(UNITS[0].unit_id, 1, True, "exception")]
    todo = sort_out(UNITS, OutputState.of(names), None)
    assert ids(todo.done) == [0, 1] and ids(todo.finalise) == [0, 1]
