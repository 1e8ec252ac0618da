"""`jobs.clean`: a cleaned output is a sound output, whatever shards the videos lie in."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_output import VIDEOS, MadeVideo, write_failure, write_output, write_plan, write_video

from cluster.finalise import row_name
from cluster.stores.storage import Storage
from jobs.annotate import main as annotate
from jobs.clean import main as clean
from jobs.status import main as status
from jobs.verify import main as verify
from schemas import read_masks

LONG = VIDEOS[1]  # in a burn-in and four segments of 10 frames, every third frame from 4 on


def masks_of(url: Path, video_id: str) -> dict[int, dict[int, np.ndarray]]:
    return dict(read_masks(str(url), video_id))


def expected(before: dict[int, dict[int, np.ndarray]], frames: range) -> dict[int, dict[int, np.ndarray]]:
    """Agreement over three annotated frames, as arrays; the first frame of these videos is given."""
    found = {}
    for position, frame in enumerate(frames):
        around = [before.get(f, {}) for f in frames[max(0, position - 1) : position + 2]]
        here = {}
        for object_id, mask in before.get(frame, {}).items():
            if position and any(object_id not in other for other in around):
                continue
            common = mask if not position else np.logical_and.reduce([other[object_id] for other in around])
            if common.any():
                here[object_id] = common
        if here:
            found[frame] = here
    return found


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.video_id)
def test_agreement_does_not_see_where_a_video_was_split(tmp_path: Path, video: MadeVideo) -> None:
    out, to = tmp_path / "out", tmp_path / "to"
    write_output(out)
    assert clean([str(out), "--to", str(to), "--clean", "temporal"]) == 0
    before, after = masks_of(out, video.video_id), masks_of(to, video.video_id)
    wanted = expected(before, range(video.start, video.start + video.frames * video.stride, video.stride))
    assert after.keys() == wanted.keys() and after.keys() < before.keys() | {-1}
    for frame, objects in wanted.items():
        assert after[frame].keys() == objects.keys()
        assert all(np.array_equal(after[frame][k], mask) for k, mask in objects.items())
    unsplit = MadeVideo(video.video_id, video.frames, False, video.objects, video.start, video.stride)
    write_output(tmp_path / "one", [unsplit])
    assert clean([str(tmp_path / "one"), "--to", str(tmp_path / "one2"), "--clean", "temporal"]) == 0
    whole = masks_of(tmp_path / "one2", video.video_id)
    assert whole.keys() == after.keys()
    assert all(np.array_equal(whole[f][k], after[f][k]) for f in whole for k in whole[f])


def test_a_cleaned_output_is_sound_and_keeps_its_frames(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, to = tmp_path / "out", tmp_path / "to"
    storage = write_output(out)
    assert clean([str(out), "--to", str(to), "--clean", "small=1000", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    # Given masks stay, all others are gone.
    assert done["videos"] == 3 and done["rows"] == sum(len(v.objects) for v in VIDEOS) < done["rows_before"]
    assert verify([str(to), "--all-masks"]) == 0
    for row in videos(storage):
        (mine,) = [other for other in videos(Storage(str(to))) if other["video_id"] == row["video_id"]]
        assert mine["frames_annotated"] == row["frames_annotated"] and mine["objects"] == row["objects"]
        assert mine["settings_sha256"] != row["settings_sha256"]
    assert json.loads((to / "_run/config.json").read_text())["clean"] == "afterwards: small=1000"


def videos(storage: Storage) -> list[dict]:
    found = []
    for name in storage.list("videos"):
        with storage.open_input(name) as file:
            found += pq.read_table(file).to_pylist()
    return found


def test_it_goes_on_and_refuses_other_steps(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, to = tmp_path / "out", tmp_path / "to"
    write_output(out, unfinished=[LONG.video_id])
    command = [str(out), "--to", str(to), "--clean", "close"]
    assert clean(command) == 0
    capsys.readouterr()
    assert verify([str(to)]) == 6  # what OUT lacks is planned, but not there
    said = capsys.readouterr().out
    assert "Run the same jobs.clean command again" in said and "jobs.annotate" not in said
    write_output(out)
    assert clean(command) == 0
    assert "2 videos were there already" in capsys.readouterr().out
    assert verify([str(to)]) == 0
    assert clean([str(out), "--to", str(to), "--clean", "close=3"]) == 5
    assert "close=2 -> afterwards: close=3" in capsys.readouterr().err.replace("--clean: afterwards: ", "")


def test_unfinished_videos_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, failed = tmp_path / "out", MadeVideo("bad")
    videos = [*VIDEOS, failed]
    storage = write_output(out, videos, unfinished=["bad", LONG.video_id, VIDEOS[0].video_id])
    write_failure(storage, failed)  # it failed: that is an end, too
    command = [str(out), "--to", str(tmp_path / "to"), "--clean", "close"]
    assert clean(command) == 0
    assert "1 failed videos have no masks; 2 unfinished videos were left out" in capsys.readouterr().out
    write_video(storage, VIDEOS[0])
    assert clean([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unfinished_videos"] == 1
    write_video(storage, LONG)
    assert clean(command) == 0
    assert "left out" not in capsys.readouterr().out
    storage.delete("_run/plan.parquet")
    assert clean(command) == 0
    assert "whether videos are unfinished is not known" in capsys.readouterr().out


def test_no_run_goes_on_in_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words in (["--clean", "afterwards: close"], ["--clean", "temporal"]):
        with pytest.raises(SystemExit) as stop:
            annotate(["--manifest", "m.jsonl", "--output", str(tmp_path), *words])
        assert stop.value.code == 2


def test_failures_come_along(tmp_path: Path) -> None:
    failed = MadeVideo("bad")
    storage = write_output(tmp_path / "out")
    write_plan(storage, [*VIDEOS, failed])
    write_failure(storage, failed)
    assert clean([str(tmp_path / "out"), "--to", str(tmp_path / "to"), "--clean", "holes=4"]) == 0
    states = {row["video_id"]: row["status"] for row in videos(Storage(str(tmp_path / "to")))}
    assert states["bad"] == "failed" and len(states) == 4


def test_a_video_that_failed_and_is_done_now_is_cleaned(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    failed, to = MadeVideo("bad"), tmp_path / "to"
    storage = write_output(tmp_path / "out", [*VIDEOS, failed], unfinished=["bad"])
    write_failure(storage, failed)
    command = [str(tmp_path / "out"), "--to", str(to), "--clean", "close", "--json"]
    assert clean(command) == 0 and json.loads(capsys.readouterr().out)["failed_videos"] == 1
    write_video(storage, failed)  # as --retry-failed leaves it: the rows of failures stay
    assert clean(command) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["videos"], done["skipped"], done["failed_videos"]) == (1, 3, 0)
    assert {row["video_id"]: row["status"] for row in videos(Storage(str(to)))}["bad"] == "done"
    assert masks_of(to, "bad").keys() == masks_of(tmp_path / "out", "bad").keys()
    assert_done(to, 4, capsys)


def test_rows_appended_to_the_source_are_in_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, to = tmp_path / "out", tmp_path / "to"
    storage = write_output(out, VIDEOS[:1])
    kept = ("_run/manifest.jsonl", "_run/summary.json")
    for name in kept:
        storage.publish(name, b"{}")
    assert clean([str(out), "--to", str(to), "--clean", "close"]) == 0
    write_output(out)
    for name in kept:
        storage.publish(name, b'{"state": "done"}')
    assert clean([str(out), "--to", str(to), "--clean", "close"]) == 0
    assert all((to / name).read_bytes() == (out / name).read_bytes() for name in (*kept, "_run/plan.parquet"))
    assert_done(to, 3, capsys)


@pytest.mark.parametrize("lost", [LONG.shards()[2], row_name("tracks", LONG.video_id)])
def test_a_video_that_has_lost_a_file_is_cleaned_again(
    tmp_path: Path, capsys: pytest.CaptureFixture, lost: str
) -> None:
    write_output(tmp_path / "out")
    command = [str(tmp_path / "out"), "--to", str(tmp_path / "to"), "--clean", "close"]
    assert clean(command) == 0
    (tmp_path / "to" / lost).unlink()
    assert clean(command) == 0
    assert "2 videos were there already" in capsys.readouterr().out
    assert_done(tmp_path / "to", 3, capsys)


def assert_done(url: Path, count: int, capsys: pytest.CaptureFixture) -> None:
    """As jobs.verify and jobs.status see it."""
    capsys.readouterr()
    assert verify([str(url), "--all-masks"]) == 0
    assert "orphan" not in capsys.readouterr().out
    assert status([str(url)]) == 0
    assert f"{count} of {count} done, 0 failed, 0 left" in capsys.readouterr().out


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_output(tmp_path / "out")
    out = str(tmp_path / "out")
    shard = tmp_path / "out" / VIDEOS[0].shards()[0]
    shard.write_bytes(shard.read_bytes()[:-200] + bytes(200))
    for words, code, said in (
        ([str(tmp_path / "no"), "--to", str(tmp_path / "to")], 2, "does not exist"),
        ([out, "--to", out + "/inside"], 2, "lie in each other"),
        ([out, "--to", str(tmp_path / "to")], 1, "is not the file that was published"),
    ):
        assert clean([*words, "--clean", "close"]) == code
        assert said in capsys.readouterr().err
    failed = MadeVideo("bad")
    write_failure(write_output(tmp_path / "bad", [failed], unfinished=["bad"]), failed)
    assert clean([str(tmp_path / "bad"), "--to", str(tmp_path / "none"), "--clean", "close"]) == 2
    assert "nothing to clean" in capsys.readouterr().err and not (tmp_path / "none").exists()
    with pytest.raises(SystemExit):
        clean([out, "--to", str(tmp_path / "to"), "--clean", "smooth"])
