import json
import os
import platform
import time

import pytest

from cluster.progress_file import PROGRESS_NAME, TIME_FORMAT, other_driver
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
