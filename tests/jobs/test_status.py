"""`python -m jobs.status`: what it says in every state of an output, from storage alone."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from made_corpus import ROOT, environment
from made_output import (
    VIDEOS,
    MadeVideo,
    write_failure,
    write_output,
    write_plan,
    write_progress,
    write_shard,
    write_video,
)

from cluster.progress_file import ProgressFile
from cluster.stores.storage import Storage
from jobs.status import main

SHORT, LONG, ONE = VIDEOS


def status(out: Path | str, capsys: pytest.CaptureFixture, *more: str) -> dict:
    assert main([str(out), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_running_run(tmp_path: Path, capsys: pytest.CaptureFixture):
    storage = write_output(tmp_path, unfinished=[LONG.video_id])
    write_shard(storage, LONG, *LONG.units()[1])
    bank = LONG.units()[0][0]
    for suffix in ("safetensors", "json"):
        storage.publish(f"_run/banks/{bank}.{suffix}", b"bank")
    write_progress(storage)
    found = status(tmp_path, capsys)
    assert found["state"] == "running" and found["last_progress_age_s"] < 30
    assert (found["videos"], found["done"], found["failed"], found["left"]) == (3, 2, 0, 1)
    assert found["units"] == {
        "whole": {"done": 2, "planned": 2},
        "burn-in": {"done": 1, "planned": 1},
        "segment": {"done": 1, "planned": 4},
    }
    assert (found["frames_done"], found["frames"]) == (19, 54)
    assert (found["frames_per_second"], found["seconds_left"], found["actors_busy"]) == (12.5, 90.0, 3)
    assert main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "2 of 3 done, 0 failed, 1 left" in text and "12.5 frames/s, 3 actors busy, 1 starting, 1:30 left" in text


def test_a_run_that_plans(tmp_path: Path, capsys: pytest.CaptureFixture):
    storage = write_output(tmp_path)
    storage.delete("_run/plan.parquet")
    with ProgressFile(storage):
        found = status(tmp_path, capsys)
        assert (found["state"], found["videos"], found["seconds_left"]) == ("planning", None, None)
        assert main([str(tmp_path)]) == 0 and "time left not known yet" in capsys.readouterr().out
    assert status(tmp_path, capsys)["state"] == "stopped"
    write_progress(storage, "planning", age_seconds=300)
    assert status(tmp_path, capsys)["state"] == "stopped"


def test_a_run_whose_driver_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_progress(write_output(tmp_path, unfinished=[ONE.video_id]), age_seconds=300)
    found = status(tmp_path, capsys)
    assert (found["state"], found["seconds_left"], found["actors_busy"]) == ("stopped", None, None)


def test_drained_done_and_waiting(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_plan(Storage(str(tmp_path)), VIDEOS)
    assert status(tmp_path, capsys)["state"] == "waiting"
    write_progress(write_output(tmp_path, unfinished=[ONE.video_id]), "drained", 5.0)
    assert status(tmp_path, capsys)["state"] == "drained"
    write_video(Storage(str(tmp_path)), ONE)
    assert status(tmp_path, capsys)["state"] == "done"
    write_progress(Storage(str(tmp_path)), "running", 300)
    assert status(tmp_path, capsys)["state"] == "done"


def test_a_killed_run_that_tried_failed_videos_again(tmp_path: Path, capsys: pytest.CaptureFixture):
    bad = MadeVideo("bad")
    storage = write_output(tmp_path, (ONE, bad), unfinished=["bad"])
    write_failure(storage, bad, error_class="decode")
    write_failure(storage, bad, kind="retried", error_class="decoder-crash", attempt=2)
    write_progress(storage, age_seconds=600.0)
    found = status(tmp_path, capsys)
    assert (found["state"], found["failed"], found["left"]) == ("stopped", 1, 0)
    assert [kind["error_class"] for kind in found["failures"]] == ["decode"]


def test_failures_by_class_with_a_remedy_each(tmp_path: Path, capsys: pytest.CaptureFixture):
    bad = [MadeVideo(f"bad {number}") for number in range(3)]
    storage = write_output(tmp_path, (*VIDEOS, *bad), unfinished=[video.video_id for video in bad])
    write_failure(storage, bad[0])
    write_failure(storage, bad[1])
    write_failure(storage, bad[2], error_class="decoder-crash")
    write_failure(storage, SHORT, kind="retried")
    write_failure(storage, ONE, kind="final")  # tried again and done since
    found = status(tmp_path, capsys)
    assert (found["done"], found["failed"], found["left"], found["state"]) == (3, 3, 0, "done")
    kinds = {kind["error_class"]: kind for kind in found["failures"]}
    assert kinds["decode"]["videos"] == 2 and kinds["decoder-crash"]["videos"] == 1 and len(kinds) == 2
    assert all(kind["remedy"] and "does not decode" in kind["example"] for kind in kinds.values())
    assert found["attempts_retried"] == 1
    main([str(tmp_path)])
    assert "failed: 2 x decode: " in capsys.readouterr().out


def test_without_a_plan_and_with_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture):
    storage = write_output(tmp_path)
    write_failure(storage, MadeVideo("bad"))
    storage.delete("_run/plan.parquet")
    found = status(tmp_path, capsys)
    assert (found["videos"], found["done"], found["failed"], found["left"]) == (None, 3, 1, None)
    assert found["failures"][0]["error_class"] == "decode"
    storage.publish("_run/plan.parquet", b"PAR1 no")
    storage.publish("_run/progress.json", b"{")
    (tmp_path / LONG.shards()[0]).write_bytes(b"")
    next((tmp_path / "videos").iterdir()).write_bytes(b"")
    found = status(tmp_path, capsys)
    assert len(found["notes"]) == 3 and any("plan.parquet" in note for note in found["notes"])


def test_what_is_no_output_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not exist or is empty" in capsys.readouterr().err
    (tmp_path / "letter.txt").write_text("dear")
    assert main([str(tmp_path)]) == 2
    assert "no output of jobs.annotate" in capsys.readouterr().err
    assert main(["unknown://x/y"]) == 2
    for wrong in (["x", "--watch", "0"], ["x", "--output-options", "[]"], []):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


def test_while_files_appear_and_vanish(tmp_path: Path, capsys: pytest.CaptureFixture):
    storage = write_output(tmp_path, unfinished=[LONG.video_id])
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            write_progress(storage)
            write_failure(storage, LONG)
            storage.delete("_run/progress.json")
            for name in storage.list("failures"):
                storage.delete(name)
            for name in storage.list("videos"):
                storage.delete(name)
            write_plan(storage, VIDEOS)
            storage.delete("_run/plan.parquet")

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        states = [status(tmp_path, capsys)["state"] for _ in range(25)]
    finally:
        stop.set()
        thread.join()
    assert set(states) <= {"running", "stopped", "waiting", "done"}


def test_watch_ends_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture):
    storage = write_output(tmp_path, unfinished=[ONE.video_id])
    write_progress(storage)

    def finish() -> None:
        write_video(storage, ONE)
        write_progress(storage, "done")

    thread = threading.Timer(0.3, finish)
    thread.start()
    assert main([str(tmp_path), "--watch", "0.1", "--json"]) == 0
    thread.join()
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(looks) >= 2 and looks[0]["done"] == 2 and looks[-1]["state"] == "done"


def test_no_torch_and_no_ray_are_needed():
    code = (
        "import sys\nfor name in ('torch', 'ray'): sys.modules[name] = None\n"
        "import jobs.status, jobs.verify, jobs.compact\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "jobs.status", "--help"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "from its output folder alone" in done.stdout
