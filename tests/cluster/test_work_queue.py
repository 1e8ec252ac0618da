"""Order, packing, sticking with a video, blocking on a bank: decided without Ray, clock or storage."""

from dataclasses import replace

import pytest
from made_units import split, whole

from cluster.plan import BURN_IN, SEGMENT
from cluster.work_queue import PACK_UNITS, WorkQueue, pack_cost


def drain(queue: WorkQueue, **how) -> list:
    taken = []
    while units := queue.take(**how):
        taken.append(units)
    return taken


def test_most_costly_first_and_ties_in_order():
    queue = WorkQueue([whole(0, 5), whole(1, 50), whole(2, 5), whole(3, 20)])
    assert [unit.row.row for (unit,) in drain(queue)] == [1, 3, 0, 2]
    assert len(queue) == 0 and queue.cost == pytest.approx(0)


def test_a_burn_in_counts_with_what_it_unlocks_and_segments_wait_for_it():
    queue = WorkQueue([whole(0, 25), *split(1, 3)])  # the video is 40 in all
    (first,) = queue.take()
    assert first.kind == BURN_IN and queue.available == 1 and len(queue) == 4
    queue.unlock(first.video_key)
    assert [unit.kind for (unit,) in drain(queue)] == ["whole", SEGMENT, SEGMENT, SEGMENT]


def test_segments_whose_bank_is_there_need_no_burn_in():
    queue = WorkQueue(split(1, 3)[2:])
    assert queue.available == 2


def test_an_actor_goes_on_with_the_video_it_has_open():
    one, two = split(1, 3)[1:], split(2, 3)[1:]
    queue = WorkQueue([*one, *two, whole(3, 100)])
    taken = [queue.take(open_video=two[0].video_key)[0] for _ in range(4)]
    assert [unit.unit_id for unit in taken[:3]] == [unit.unit_id for unit in two]
    assert taken[3].row.row == 3


def test_small_videos_are_packed_and_large_or_split_ones_are_not():
    queue = WorkQueue([whole(0, 100), *(whole(n, 1) for n in range(1, 9)), *split(20, 2, burn_in=1, segment=1)[1:]])
    packs = drain(queue, pack_cost=4)
    assert [len(pack) for pack in packs if pack[0].kind == "whole"] == [1, 4, 4]
    assert all(len(pack) == 1 for pack in packs if pack[0].kind == SEGMENT)
    many = WorkQueue([whole(n, 0.001) for n in range(200)])
    assert max(map(len, drain(many, pack_cost=1000))) == PACK_UNITS


def test_what_is_put_back_comes_first_and_alone_if_so_said():
    queue = WorkQueue([whole(n, 1) for n in range(6)])
    pack = queue.take(pack_cost=3)
    queue.put_back(pack, alone=True)
    assert [len(units) for units in drain(queue, pack_cost=3)] == [1, 1, 1, 3]


def test_dropping_a_video_leaves_no_trace():
    video = split(1, 4)
    queue = WorkQueue([*video, whole(2, 7)])
    (burn_in,) = queue.take()
    assert burn_in is video[0]
    assert queue.drop(burn_in.video_key) == video[1:]
    assert [unit.row.row for (unit,) in drain(queue)] == [2] and queue.cost == pytest.approx(0)
    queue = WorkQueue(video[1:])
    queue.take()
    queue.drop(burn_in.video_key)
    assert drain(queue) == [] and drain(queue, open_video=burn_in.video_key) == [] and len(queue) == 0


class CountedKey(str):
    """A video's key that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedKey.compared += 1
        return str.__eq__(self, other)


def test_what_it_costs_to_drop_a_video_does_not_depend_on_how_many_wait():
    units = [replace(unit, video_key=CountedKey(unit.video_key)) for unit in (whole(n, 1.0) for n in range(1000))]
    queue = WorkQueue(units)
    CountedKey.compared = 0
    for unit in units:
        assert queue.drop(str(unit.video_key)) == [unit]
    assert len(queue) == 0 and CountedKey.compared < 10 * len(units)


def test_a_lost_bank_blocks_the_segments_again():
    video = split(1, 3)
    queue = WorkQueue(video[1:])
    (segment,) = queue.take()
    queue.block(segment)
    queue.lock(video[0])
    assert [unit.kind for (unit,) in drain(queue)] == [BURN_IN] and len(queue) == 3
    queue.unlock(segment.video_key)
    assert {unit.unit_id for (unit,) in drain(queue)} == {unit.unit_id for unit in video[1:]}
    assert queue.cost == pytest.approx(0)


def test_packs_shrink_towards_the_end():
    assert pack_cost(None, 1000, 4) == 0
    assert pack_cost(2.0, 1e9, 4) == 10
    assert pack_cost(2.0, 80, 4) == 5
