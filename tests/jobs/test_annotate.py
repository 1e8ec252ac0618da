"""The whole command on real Ray, with real kills: the same rows every time, nothing twice, nothing missing."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_corpus import (
    annotate,
    annotate_command,
    environment,
    read_rows,
    rows_hash,
    table_rows,
    write_checkpoint,
    write_corpus,
)
from made_detectors import tiny_weights
from made_processes import actors_below, descendants, kill
from PIL import Image
from pycocotools import mask as coco

from jobs.annotate import manifest_rows, parser

VIDEOS = 4
RUN_SECONDS = 600  # for what a machine that is much slower than ours may take


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, VIDEOS), write_checkpoint(folder)


@pytest.fixture(scope="module")
def reference(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one undisturbed run with one actor."""
    output = tmp_path_factory.mktemp("reference") / "out"
    done = annotate(*corpus[:1], output, corpus[1], "--actors", "1")
    assert done.returncode == 0, done.stderr
    return output


def test_rows_are_whole_and_decode(reference: Path):
    rows = read_rows(reference)
    keys = {(row["video_id"], row["object_id"], row["frame_index"]) for row in rows}
    assert len(keys) == len(rows) > 100
    assert {row["object_id"] for row in rows} == {3, 8}
    for row in rows:
        decoded = coco.decode({"size": [row["height"], row["width"]], "counts": row["rle_counts"]})
        assert decoded.shape == (48, 64) and decoded.sum() == row["area"] > 0
        assert row["label"] == ("square" if row["object_id"] == 8 else None)
        assert row["time_s"] == pytest.approx(row["frame_index"] / 10)
        assert 0 < row["score"] <= 1
    prompts = [row for row in rows if row["is_prompt"]]
    assert {(row["video_id"], row["object_id"], row["frame_index"]) for row in prompts} == {
        (f"v-{number}", 3, 0) for number in range(VIDEOS)
    }


def test_videos_and_tracks_say_what_the_masks_say(reference: Path):
    rows = read_rows(reference)
    videos = {row["video_id"]: row for row in table_rows(reference, "videos")}
    assert {name: row["status"] for name, row in videos.items()} == {f"v-{n}": "done" for n in range(VIDEOS)}
    for number, row in enumerate(videos[f"v-{n}"] for n in range(VIDEOS)):
        assert row["frames_decoded"] == row["frames_annotated"] == 24 + 3 * number
        assert row["mask_rows"] == sum(mask["video_id"] == row["video_id"] for mask in rows)
        assert len(row["source_sha256"]) == 64 and row["seconds_total"] > 0
    for track in table_rows(reference, "tracks"):
        mine = [m for m in rows if (m["video_id"], m["object_id"]) == (track["video_id"], track["object_id"])]
        assert track["n_visible"] == len(mine)
        assert track["prompt_frames"] == ([0] if track["object_id"] == 3 else [])
        if mine:
            assert (track["first_frame"], track["last_frame"]) == (mine[0]["frame_index"], mine[-1]["frame_index"])


def test_three_actors_give_the_same_rows(corpus: tuple[Path, Path], reference: Path, tmp_path: Path):
    """The first that has a video is held until another has one: it could be done with all before they have started."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = annotate_command(*corpus[:1], tmp_path / "out", corpus[1], "--actors", "3")
    child = begun(command, scratch)
    seen: list[int] = []
    wait_until(lambda: seen.extend(at_work(child.pid, scratch)) or seen or child.poll() is not None)
    os.kill(seen[0], signal.SIGSTOP)
    try:
        wait_until(lambda: len(at_work(child.pid, scratch)) > 1 or child.poll() is not None)
    finally:
        os.kill(seen[0], signal.SIGCONT)
    _, said = child.communicate(timeout=RUN_SECONDS)
    assert child.returncode == 0, said
    rows = read_rows(tmp_path / "out")
    assert rows_hash(rows) == rows_hash(read_rows(reference))
    assert len({row["video_id"] for row in rows}) == VIDEOS
    actors = {row["actor"] for row in table_rows(tmp_path / "out", "videos")}
    assert len(actors) > 1
    summary = json.loads((tmp_path / "out" / "_run" / "summary.json").read_text())
    assert summary["frames_now"] == sum(row["frames_annotated"] for row in table_rows(tmp_path / "out", "videos"))
    assert summary["frames_per_second"] == pytest.approx(summary["frames_now"] / summary["seconds"], rel=0.01)


def test_killed_midway_and_run_again(corpus: tuple[Path, Path], reference: Path, tmp_path: Path):
    """SIGKILL to the driver and everything below it after the first shard, then the same command."""
    output = tmp_path / "out"
    command = annotate_command(*corpus[:1], output, corpus[1], "--actors", "2")
    child = subprocess.Popen(
        command, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: list(output.glob("masks/*.parquet")))
    for pid in [child.pid, *descendants(child.pid)]:
        kill(pid)
    child.wait()
    published = len(list(output.glob("masks/*.parquet")))
    assert 1 <= published <= VIDEOS
    before = read_rows(output)
    assert len({(r["video_id"], r["object_id"], r["frame_index"]) for r in before}) == len(before)
    done = annotate(*corpus[:1], output, corpus[1], "--actors", "2")
    assert done.returncode == 0, done.stderr
    assert f"{VIDEOS - published} to do" in done.stderr
    assert rows_hash(read_rows(output)) == rows_hash(read_rows(reference))
    assert len(table_rows(output, "videos")) == VIDEOS


def test_an_actor_killed_at_work_is_replaced(corpus: tuple[Path, Path], reference: Path, tmp_path: Path):
    output = tmp_path / "out"
    command = annotate_command(*corpus[:1], output, corpus[1], "--actors", "1")
    child = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_until(lambda: list(output.glob("masks/*.parquet")))
    for pid in actors_below(child.pid):
        kill(pid)
    _, said = child.communicate(timeout=RUN_SECONDS)
    assert child.returncode == 0, said
    assert rows_hash(read_rows(output)) == rows_hash(read_rows(reference))


def test_a_video_that_kills_its_actors_is_given_up_and_the_others_finish(corpus: tuple[Path, Path], tmp_path: Path):
    """Each actor is killed as soon as it opens the long video, which comes first, until it is given up."""
    folder = tmp_path / "in"
    folder.mkdir()
    long = write_corpus(folder, videos=1, frames=900)
    manifest = corpus[0].parent / "with-poison.jsonl"
    poison = long.read_text().replace('"video 0', f'"{folder}/video 0').replace("v-0", "poison")
    manifest.write_text(poison + corpus[0].read_text().splitlines()[0])
    output, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    command = annotate_command(manifest, output, corpus[1], "--actors", "1", "--segment-frames", "1000")
    child = begun(command, scratch)
    killed: list[int] = []

    def given_up() -> bool:
        for pid in at_work(child.pid, scratch):
            if pid not in killed:
                killed.append(pid)
                kill(pid)
        return bool(list(output.glob("failures/*-final.parquet")))

    wait_until(given_up)
    _, said = child.communicate(timeout=RUN_SECONDS)
    assert child.returncode == 3, said
    deaths = sorted(table_rows(output, "failures"), key=lambda row: row["attempt"])
    assert 3 <= len(deaths) == len(killed) <= 10, said
    assert {row["video_id"] for row in deaths} == {"poison"} and {row["cause"] for row in deaths} == {"actor-died"}
    assert [row["terminal"] for row in deaths] == [False] * (len(deaths) - 1) + [True]
    assert {row["video_id"] for row in read_rows(output)} == {"v-0"}


def test_settings_are_locked_and_work_is_not_repeated(corpus: tuple[Path, Path], reference: Path):
    again = annotate(*corpus[:1], reference, corpus[1], "--actors", "2")
    assert again.returncode == 0 and "0 to do" in again.stderr, again.stderr
    refused = annotate(*corpus[:1], reference, corpus[1], "--seed", "5", "--resolution", "32")
    assert refused.returncode == 5
    assert "--seed: 0 -> 5" in refused.stderr and "--resolution: 480 -> 32" in refused.stderr


def test_a_lost_videos_row_is_derived_again(corpus: tuple[Path, Path], reference: Path):
    victim = sorted(reference.glob("videos/*.parquet"))[0]
    before = {row["video_id"]: row["mask_rows"] for row in table_rows(reference, "videos")}
    victim.unlink()
    assert annotate(*corpus[:1], reference, corpus[1]).returncode == 0
    assert {row["video_id"]: row["mask_rows"] for row in table_rows(reference, "videos")} == before


def test_bad_videos_become_rows_and_the_others_finish(corpus: tuple[Path, Path], reference: Path, tmp_path: Path):
    manifest, checkpoint = corpus
    bad = tmp_path / "bad.mp4"
    bad.write_text("this is no video")
    lines = manifest.read_text().splitlines()
    box = '"prompts": [{"frame": %s, "object_id": 1, "box": [1, 1, 20, 20]}]'
    good = manifest.parent / "video 0 ü.mp4"
    lines[1:] = [
        f'{{"video": "{bad}", "video_id": "text", {box % 0}}}',
        f'{{"video": "{tmp_path}/none.mp4", "video_id": "missing", {box % 0}}}',
        f'{{"video": "{good}", "video_id": "late", {box % 500}}}',
        f'{{"video": "{good}", "video_id": "nobody", "prompts": [{{"detector": "mask-rcnn", "min_score": 1}}]}}',
    ]
    weights = ("--detector-weights", str(tiny_weights(tmp_path, "mask-rcnn")))
    mixed = manifest.parent / "mixed.jsonl"
    mixed.write_text("\n".join(lines))
    output = tmp_path / "out"
    done = annotate(mixed, output, checkpoint, *weights)
    assert done.returncode == 3, done.stderr
    assert "1 of 2 sources could not be looked into" in done.stderr and "is a text file" in done.stderr
    failures = {row["video_id"]: row for row in table_rows(output, "failures")}
    assert {name: row["error_class"] for name, row in failures.items()} == {
        "text": "not-a-video",
        "missing": "missing",
        "late": "prompt",
        "nobody": "nothing-detected",
    }
    assert all(row["terminal"] for row in failures.values())
    assert "only 24 frames" in failures["late"]["message"]
    status = {row["video_id"]: row["status"] for row in table_rows(output, "videos")}
    assert status == {"v-0": "done", "text": "failed", "missing": "failed", "late": "failed", "nobody": "failed"}
    mine = [row for row in read_rows(reference) if row["video_id"] == "v-0"]
    assert rows_hash(read_rows(output)) == rows_hash(mine)
    again = annotate(mixed, output, checkpoint, *weights, "--failed-videos-exit", "0")
    assert again.returncode == 0 and "0 to do" in again.stderr
    assert "could not be looked into" not in again.stderr
    for row in output.glob("videos/*"):  # as if the driver had died before it wrote the failed videos' rows
        row.unlink()
    assert annotate(mixed, output, checkpoint, *weights).returncode == 3
    assert {row["video_id"]: row["status"] for row in table_rows(output, "videos")} == status
    retried = annotate(mixed, output, checkpoint, *weights, "--retry-failed", "nothing-detected")
    assert retried.returncode == 3 and "1 to do" in retried.stderr


def test_an_environment_that_fails_opens_the_breaker_and_marks_nothing(corpus: tuple[Path, Path], tmp_path: Path):
    """A link to nowhere lies where the masks should go, so that no video can be published."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "masks").symlink_to(tmp_path / "nowhere" / "masks")
    stopped = annotate(*corpus[:1], output, corpus[1])
    assert stopped.returncode == 4, stopped.stderr
    assert "no video was marked as failed" in stopped.stderr
    assert not table_rows(output, "failures") and not table_rows(output, "videos")
    (output / "masks").unlink()
    done = annotate(*corpus[:1], output, corpus[1])
    assert done.returncode == 0, done.stderr
    assert len(table_rows(output, "videos")) == VIDEOS


def test_drains_after_sigterm(corpus: tuple[Path, Path], reference: Path, tmp_path: Path):
    output = tmp_path / "out"
    command = annotate_command(*corpus[:1], output, corpus[1], "--actors", "1")
    child = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_until(lambda: list(output.glob("masks/*.parquet")))
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=RUN_SECONDS)
    assert child.returncode in (143, 0), said
    assert child.returncode == 0 or "finishing what is in flight" in said
    done = annotate(*corpus[:1], output, corpus[1], "--actors", "1")
    assert done.returncode == 0, done.stderr
    assert rows_hash(read_rows(output)) == rows_hash(read_rows(reference))


def test_bad_arguments_and_manifests_stop_before_anything_starts(corpus: tuple[Path, Path], tmp_path: Path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"video": "a.mp4"}\n{"video": "b.mp4", "prompts": [{"frame": -1, "box": [0, 0, 0, 1]}]}\n')
    done = annotate(bad, tmp_path / "out", corpus[1])
    assert done.returncode == 2 and "row 1" in done.stderr and "row 2" in done.stderr
    assert not (tmp_path / "out").exists()
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"no weights")
    assert annotate(*corpus[:1], tmp_path / "out", wrong).returncode == 2
    assert annotate(*corpus[:1], tmp_path / "out", corpus[1], "--only", "nobody").returncode == 2
    assert annotate(*corpus[:1], tmp_path / "out", corpus[1], "--group-frames", "3").returncode == 2


def test_a_mask_for_every_frame_is_said_to_be_no_prompt(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "masks" / "a").mkdir(parents=True)
    (tmp_path / "a.mp4").touch()
    for frame in range(9):
        Image.new("L", (8, 8), 1).save(tmp_path / "masks" / "a" / f"{frame}.png")
    command = ["--manifest", f"{tmp_path}/*.mp4", "--output", "x", "--prompt-masks", str(tmp_path / "masks")]
    (row,) = manifest_rows(parser().parse_args(command))
    assert len(row.prompts) == 1 and "taken as its true masks" in capsys.readouterr().err
    (row,) = manifest_rows(parser().parse_args([*command, "--every-prompt-mask"]))
    assert len(row.prompts) == 9 and not capsys.readouterr().err
    with pytest.raises(ValueError, match="goes with --prompt-masks"):
        manifest_rows(parser().parse_args([*command[:4], "--every-prompt-mask"]))
    with pytest.raises(ValueError, match="give one of them"):
        manifest_rows(parser().parse_args([*command, "--prompt-boxes", "boxes.json"]))
    assert "more than 8 on consecutive frames" in " ".join(parser().format_help().split())


def test_forgetting_needs_the_whole_manifest(corpus: tuple[Path, Path]):
    command = ["--manifest", str(corpus[0]), "--output", "x", "--forget-missing"]
    assert len(manifest_rows(parser().parse_args(command))) == VIDEOS
    for less in (["--only", "v-0"], ["--limit", "1"]):
        with pytest.raises(ValueError, match="--forget-missing needs the whole manifest"):
            manifest_rows(parser().parse_args([*command, *less]))


def at_work(pid: int, scratch: Path) -> list[int]:
    """The actors below a process that have a video open: an actor's scratch folder has its process id in its name, and
    holds a folder for the video it works on."""
    return [actor for actor in actors_below(pid) if list(scratch.glob(f"stcn-scratch-*-{actor}-*/video-*"))]


def begun(command: list[str], scratch: Path) -> subprocess.Popen:
    """The command at work, with a folder for its actors' scratch; what it says on stderr can be read at its end."""
    return subprocess.Popen(
        command,
        env=environment(TMPDIR=str(scratch), RAY_TMPDIR="/tmp"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def wait_until(happened: Callable[[], object]) -> None:
    """At most ten minutes; the assertions that follow say what was there."""
    deadline = time.monotonic() + RUN_SECONDS
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
