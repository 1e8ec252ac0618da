"""A run's way through, as far as it goes without Ray: storage that only this process sees stops it after planning."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from made_output import CONFIG, VIDEOS, write_output, write_progress
from made_videos import write_video

from cluster import planning
from cluster.exit_codes import ExitCode
from cluster.finalise import failure_name, publish_rows, row_name
from cluster.frames.probe import Probe
from cluster.inspect.status_report import read_status
from cluster.planning import plan_run, read_plan
from cluster.progress_file import PROGRESS_NAME, TIME_FORMAT
from cluster.ray_session import ClusterRefused
from cluster.resume import OutputState
from cluster.run import RunRequest, has_good_row, run
from cluster.stand_in import StandInSegmenters
from cluster.stores.storage import Storage
from schemas import failures, tracks, videos
from schemas.manifest import VideoRow
from schemas.prompt import Prompt


def test_another_drivers_plan_is_not_split_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A probe that failed for a moment is made again once that driver has ended."""
    box = Prompt(frame=0, object_id=1, box=(10, 10, 40, 30))
    rows = [VideoRow(1, str(write_video(tmp_path / "a.mp4", 105, size=(48, 64))), "a", (box,))]
    storage = Storage(f"memory://{uuid.uuid4().hex}")

    def units() -> int:
        with pytest.raises(OSError, match="visible to this process only"):
            run(RunRequest(storage.url, StandInSegmenters()), CONFIG, rows, print)
        return read_plan(storage).num_rows

    with monkeypatch.context() as patch:
        patch.setattr(planning, "probe_sources", lambda urls, *_, **__: {url: Probe(error="reset") for url in urls})
        assert units() == 1
    write_progress(storage, time=time.strftime(TIME_FORMAT, time.gmtime()), host="elsewhere", pid=1)
    assert units() == 1
    storage.delete(PROGRESS_NAME)
    assert units() == 4  # a burn-in and three segments


def test_a_run_is_seen_while_it_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And another one that comes meanwhile keeps it from forgetting videos, which that one may work on."""
    box = Prompt(frame=0, object_id=1, box=(10, 10, 40, 30))
    rows = [VideoRow(1, str(write_video(tmp_path / "a.mp4", 12, size=(48, 64))), "a", (box,))]
    storage, states = Storage(str(tmp_path / "out")), []

    def probe(urls: list[str], *_: object, **__: object) -> dict[str, Probe]:
        states.append(read_status(storage).state)
        write_progress(storage, time=time.strftime(TIME_FORMAT, time.gmtime()), host="elsewhere", pid=1)
        return {url: Probe(error="reset") for url in urls}

    monkeypatch.setattr(planning, "probe_sources", probe)
    with pytest.raises(ConnectionError, match="has to wait until process 1 on elsewhere has ended"):
        run(RunRequest(storage.url, StandInSegmenters(), forget_missing=True), CONFIG, rows, print)
    assert states == ["planning"] and read_status(storage).state == "running"  # what the other one says


def test_a_run_without_work_has_a_last_word(tmp_path: Path):
    rows = [VideoRow(1, str(tmp_path / "a.mp4"), "a", (Prompt(frame=0, object_id=1, box=(10, 10, 40, 30)),))]
    storage = Storage(str(tmp_path / "out"))
    (unit,) = plan_run(storage, rows, CONFIG, {}, set(), print)
    storage.publish(failure_name(unit.unit_id, 1, "final"), b"PAR1 no")
    assert run(RunRequest(storage.url, StandInSegmenters()), CONFIG, rows, print) == ExitCode.FAILED_VIDEOS
    told = json.loads(storage.read(PROGRESS_NAME))
    assert (told["state"], told["videos_failed"], told["videos_total"]) == ("done", 1, 1)


def test_an_address_that_is_none_is_refused_before_planning(tmp_path: Path):
    rows = [VideoRow(1, str(tmp_path / "a.mp4"), "a", (Prompt(frame=0, object_id=1, box=(10, 10, 40, 30)),))]
    with pytest.raises(ClusterRefused, match="head-node .* is none of HOST:PORT, auto, local"):
        run(RunRequest(str(tmp_path / "out"), StandInSegmenters(), address="head-node"), CONFIG, rows, print)
    assert not (tmp_path / "out").exists()


TRACK = {"video_id": "a", "object_id": 1, "prompt_frames": [], "n_visible": 0}


@pytest.mark.parametrize(
    "damage",
    [
        lambda storage, name: storage.publish(name, b"PAR1 no"),
        lambda storage, name: publish_rows(storage, name, failures, []),
        lambda storage, name: publish_rows(storage, name, tracks, [TRACK]),
    ],
    ids=("no Parquet", "no row", "another table"),
)
def test_a_damaged_failure_of_a_video_without_a_row_stops_no_run(
    tmp_path: Path, damage: Callable[[Storage, str], object]
):
    rows = [VideoRow(1, str(tmp_path / "a.mp4"), "a", (Prompt(frame=0, object_id=1, box=(10, 10, 40, 30)),))]
    storage, said = Storage(str(tmp_path / "out")), []
    (unit,) = plan_run(storage, rows, CONFIG, {}, set(), print)
    name = failure_name(unit.unit_id, 1, "final")
    damage(storage, name)
    assert run(RunRequest(storage.url, StandInSegmenters()), CONFIG, rows, said.append) == ExitCode.FAILED_VIDEOS
    assert any(f"{name} is damaged: --retry-failed tries its video again" in line for line in said)


def test_a_damaged_row_of_videos_is_no_good_row(tmp_path: Path):
    storage = write_output(tmp_path, VIDEOS[:1])
    state = OutputState.of(storage.list())
    assert has_good_row(storage, VIDEOS[0].video_id, state)
    publish_rows(storage, row_name("videos", VIDEOS[0].video_id), videos, [])
    assert not has_good_row(storage, VIDEOS[0].video_id, state)
