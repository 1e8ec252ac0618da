import json
import os
import platform
import time

import pytest

from cluster.ledger import Tally
from cluster.progress import Standing
from cluster.progress_file import PROGRESS_NAME, TIME_FORMAT, ProgressFile, other_driver
from cluster.stores.storage import Storage


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "out"))


def write(storage: Storage, age: float = 5.0, **changes: object) -> None:
    told = time.strftime(TIME_FORMAT, time.gmtime(time.time() - age))
    record = {"time": told, "state": "running", "host": "elsewhere", "pid": 1, **changes}
    storage.publish(PROGRESS_NAME, json.dumps(record).encode())


def test_another_driver_is_noticed(storage):
    assert other_driver(storage) is None
    write(storage)
    assert other_driver(storage) == "process 1 on elsewhere"
    write(storage, state="draining", host=platform.node(), pid=os.getppid())
    assert other_driver(storage) == f"process {os.getppid()} on {platform.node()}"


@pytest.mark.parametrize(
    "changes",
    [
        {"age": 120.0},
        {"state": "done"},
        {"host": platform.node(), "pid": os.getpid()},
        {"host": platform.node(), "pid": 2**22 + 1},  # more than any process has: it was killed
        {"pid": "x"},
        {"time": "yesterday"},
    ],
    ids=("old", "done", "this one", "killed", "no number", "no time"),  # the same in every process
)
def test_one_that_has_ended_or_is_this_one_is_none(storage, changes):
    write(storage, **changes)
    assert other_driver(storage) is None


def test_what_cannot_be_read_is_none(storage):
    storage.publish(PROGRESS_NAME, b"[")
    assert other_driver(storage) is None


def told(storage: Storage) -> dict:
    return json.loads(storage.read(PROGRESS_NAME))


def wait_until_told(storage: Storage, **facts: object) -> None:
    deadline = time.monotonic() + 60
    while not facts.items() <= told(storage).items():
        assert time.monotonic() < deadline, told(storage)
        time.sleep(0.01)


def test_it_says_that_it_plans_again_and_again_until_there_is_more_to_say(storage):
    with ProgressFile(storage, every=0.02) as file:
        assert told(storage)["state"] == "planning"
        write(storage, age=120.0)  # of one that was killed
        wait_until_told(storage, state="planning", pid=os.getpid())
        file.show(Standing(1, 0, 5, all_work=1.0), Tally())
        wait_until_told(storage, state="running", videos_done=1)
        file.close(Standing(5, 0, 5), Tally(), "done")
    assert told(storage)["state"] == "done"


def test_a_run_that_ends_while_it_plans_says_so(storage):
    with pytest.raises(KeyboardInterrupt), ProgressFile(storage):
        raise KeyboardInterrupt
    assert told(storage)["state"] == "stopped"


def test_a_run_without_work_does_not_hide_one_that_is_at_work(storage):
    with ProgressFile(storage, every=60.0) as file:
        assert not file.met() and file.other() is None
        write(storage, age=0.0)
        assert file.met() and file.other() == "process 1 on elsewhere"
        file._publish_planning()
        assert told(storage)["host"] == "elsewhere"
        write(storage, age=0.0, state="done")
        assert file.met() and file.other() is None  # it was there, and may have planned
        write(storage, age=0.0)
        file.close(Standing(5, 0, 5), Tally(), "done")
    assert told(storage)["host"] == "elsewhere"
    with pytest.raises(KeyboardInterrupt), ProgressFile(storage):
        raise KeyboardInterrupt
    assert told(storage)["host"] == "elsewhere"


def test_a_run_at_work_says_so_whoever_else_does(storage):
    write(storage, age=0.0)
    with ProgressFile(storage, every=0.02) as file:
        file.show(Standing(1, 0, 5, all_work=1.0), Tally())
        wait_until_told(storage, pid=os.getpid(), state="running")
        write(storage, age=0.0)
        file.close(Standing(5, 0, 5), Tally(), "done")
    assert told(storage)["pid"] == os.getpid() and told(storage)["state"] == "done"


def test_the_pace_is_that_of_the_work_not_of_the_planning(storage):
    with ProgressFile(storage) as file:
        time.sleep(1.0)
        file.show(Standing(0, 0, 5, all_work=10.0), Tally())
        file.close(Standing(5, 0, 5, work=10.0, all_work=10.0, frames=500), Tally(), "done")
    assert told(storage)["seconds"] < 1.0
