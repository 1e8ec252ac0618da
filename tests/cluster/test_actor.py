"""What an actor answers, without Ray. Real actors: test_chaos.py and tests/jobs."""

import pytest
from made_units import whole

from cluster.actor import answers
from cluster.failure import BROKEN_ACTOR_CLASSES
from cluster.plan import Unit
from cluster.unit import UnitDone, UnitFailed

PACK = [whole(number, 1.0) for number in range(6)]


def answer(unit: Unit, error_class: str | None = None) -> UnitDone | UnitFailed:
    if error_class is None:
        return UnitDone(unit.unit_id, "done", 1, 1, 1.0)
    return UnitFailed(unit.unit_id, error_class, "final", "it broke", 0)


@pytest.mark.parametrize("error_class", sorted(BROKEN_ACTOR_CLASSES))
def test_after_an_error_that_breaks_the_process_the_rest_of_a_pack_is_not_begun(error_class: str):
    kinds = [None, "decode", error_class, *[None] * 3]
    given = list(map(answer, PACK, kinds))
    assert answers(PACK, lambda unit: given[unit.row.row]) == tuple(given[:3])


def test_what_is_the_videos_own_does_not_end_a_pack():
    given = [answer(unit, "not-a-video") for unit in PACK]
    assert answers(PACK, lambda unit: given[unit.row.row]) == tuple(given)
