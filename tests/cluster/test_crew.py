"""What the driver knows of an actor. Real actors: test_chaos.py."""

from dataclasses import replace

from cluster.crew import Worker
from cluster.deadline import Deadline
from cluster.heartbeat import Beat

DEADLINE = Deadline(stall_seconds=60, publish_seconds=600)
UPLOADS = Beat(unit_id="a", stage="publish", ticks=7)


def busy(beat: Beat) -> Worker:
    """An actor that was given units at 100 s and said this at 110 s."""
    worker = Worker("actor-1", None, None, started=0.0, called=100.0, moved=100.0, answered=100.0)
    worker.heard(beat, 110.0)
    return worker


def test_an_upload_may_be_silent_as_long_as_its_actor_answers():
    worker = busy(UPLOADS)
    for now in (160.0, 220.0, 280.0, 340.0):
        worker.heard(UPLOADS, now)
        assert worker.stuck(DEADLINE, now + 1, None) is None
    worker.heard(UPLOADS, 715.0)
    assert "no progress for 605 s" in worker.stuck(DEADLINE, 715.0, None)


def test_an_actor_that_was_last_seen_uploading_and_answers_no_more_is_stuck():
    """The next small video of its pack holds the interpreter's lock: nobody heard that the upload had ended."""
    worker = busy(UPLOADS)
    assert worker.stuck(DEADLINE, 169.0, None) is None
    assert "allowed: 60 s" in worker.stuck(DEADLINE, 171.0, None)


def test_progress_is_what_moves_the_counter():
    worker = busy(Beat("a", "final", ticks=1))
    worker.heard(replace(worker.beat, ticks=2), 165.0)
    assert worker.stuck(DEADLINE, 220.0, None) is None
    worker.heard(worker.beat, 230.0)
    assert "no progress for 66 s" in worker.stuck(DEADLINE, 231.0, None)
