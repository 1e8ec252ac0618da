"""What file names say is done."""

from dataclasses import replace

from cluster.finalise import bank_names, failure_name, row_name, shard_name
from cluster.plan import BURN_IN, SEGMENT, Unit
from cluster.resume import OutputState, sort_out
from cluster.stores.source import SourceStat
from schemas.manifest import VideoRow
from schemas.prompt import Prompt


def unit(number: int) -> Unit:
    row = VideoRow(number, f"{number}.mp4", f"video {number}", (Prompt(frame=0, object_id=1, box=(0, 0, 5, 5)),))
    return Unit(f"{number:032x}", row, SourceStat(True, False, 10, "v"), 10.0, f"{number:032x}")


UNITS = [unit(number) for number in range(5)]
NAMES = [
    shard_name(UNITS[0].unit_id),
    row_name("videos", "video 0"),
    row_name("tracks", "video 0"),
    shard_name(UNITS[1].unit_id),
    row_name("videos", "video 1"),
    failure_name(UNITS[2].unit_id, 1, "retried"),
    failure_name(UNITS[2].unit_id, 2, "final"),
    failure_name(UNITS[3].unit_id, 1, "retried"),
    "masks/.tmp-123",
    "masks/not a unit.parquet",
]


def ids(units: list[Unit]) -> list[int]:
    return [item.row.row for item in units]


def test_units_are_sorted_by_what_they_need():
    todo = sort_out(UNITS, OutputState.of(NAMES), None)
    assert (todo.done, todo.failed, ids(todo.work)) == (2, 1, [3, 4])
    assert [ids(list(video)) for video in todo.finalise] == [[1]]
    assert todo.finalise_failed == [UNITS[2].unit_id]
    known = OutputState.of([*NAMES, row_name("videos", "video 2")])
    assert not sort_out(UNITS, known, None).finalise_failed


def test_retry_takes_failed_units_up_again_and_forgives():
    state = OutputState.of(NAMES)
    todo = sort_out(UNITS, state, {UNITS[2].unit_id: "actor-died"})
    assert ids(todo.work) == [2, 3, 4] and not todo.failed
    assert sort_out(UNITS, state, {}).failed == 1
    assert state.record(UNITS[2].unit_id, forgive=True).attempts == 2
    assert state.record(UNITS[2].unit_id, forgive=True).strikes == 0


def test_a_death_in_an_earlier_run_still_counts():
    record = OutputState.of(NAMES).record(UNITS[3].unit_id, forgive=False)
    assert (record.attempts, record.strikes) == (1, 1)
    assert record.struck().finished


def test_a_lost_node_in_an_earlier_run_is_no_strike():
    names = [failure_name(UNITS[4].unit_id, number, "lost") for number in (1, 2, 3)]
    record = OutputState.of(names).record(UNITS[4].unit_id, forgive=False)
    assert (record.attempts, record.strikes, record.losses) == (3, 0, 3)


def test_published_masks_beside_a_failure_are_finalised_again():
    """The row of `videos` may say failed, although the masks came out."""
    names = [*NAMES, failure_name(UNITS[0].unit_id, 1, "final")]
    todo = sort_out(UNITS, OutputState.of(names), None)
    assert todo.done == 2 and [ids(list(video)) for video in todo.finalise] == [[0], [1]]


def split_video(number: int = 9) -> list[Unit]:
    whole = unit(number)
    kinds = [(BURN_IN, 0, None), (SEGMENT, 0, 50), (SEGMENT, 50, 100), (SEGMENT, 100, None)]
    return [
        replace(whole, unit_id=f"{16 * number + n:032x}", kind=kind, first=first, last=last)
        for n, (kind, first, last) in enumerate(kinds)
    ]


def test_a_split_video_goes_on_where_it_was():
    video = split_video()
    bank, shard = bank_names(video[0].unit_id)[1], shard_name(video[2].unit_id)
    assert sort_out(video, OutputState.of([bank_names(video[0].unit_id)[0]]), None).work == video  # no facts, no bank
    assert sort_out(video, OutputState.of([bank, shard]), None).work == [video[1], video[3]]
    # The bank is gone, but not all segments are there: the burn-in is work again.
    assert sort_out(video, OutputState.of([shard]), None).work == [video[0], video[1], video[3]]
    everything = [shard_name(part.unit_id) for part in video[1:]]
    leftover = OutputState.of([*everything, bank])
    assert sort_out(video, leftover, None).leftover_banks == [video[0].unit_id]
    todo = sort_out(video, OutputState.of(everything), None)
    assert (todo.done, todo.work, todo.finalise) == (1, [], [tuple(video)])


def test_a_video_with_a_failed_segment_has_failed():
    video = split_video()
    names = [shard_name(video[1].unit_id), failure_name(video[2].unit_id, 2, "final")]
    todo = sort_out(video, OutputState.of(names), None)
    assert (todo.failed, todo.work) == (1, [])
    todo = sort_out(video, OutputState.of(names), {video[2].unit_id: "deadline"})
    assert (todo.failed, todo.work) == (0, [video[0], video[2], video[3]])
