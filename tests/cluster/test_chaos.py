"""Violence on a real local cluster: what comes out is what an undisturbed run gives, each row once, and every failure
is explained. Decoding, run-length coding and publishing are real; only the network is a stand-in."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from made_chaos import (
    CURSES,
    Monkey,
    Nodes,
    shards,
    start_driver,
    wait_for_shards,
    write_chaos_corpus,
    write_long_video,
)
from made_corpus import ROOT, read_rows, rows_hash, table_rows
from moto.server import ThreadedMotoServer

from schemas import failures as failures_schema

END_SECONDS = 600  # for a run, on a machine that is much slower than ours
UNITS = 80 + 4 + 1 + 9  # short, torn and late, the long video's burn-in and its segments of 100 frames


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3fs.S3FileSystem]:
    """An S3 server with the bucket `chaos`. Keys come from the environment, as on a cluster: the raylets have them."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    filesystem = s3fs.S3FileSystem(
        endpoint_url=f"http://{host}:{port}", use_listings_cache=False, skip_instance_cache=True
    )
    filesystem.mkdir("chaos")
    yield filesystem
    server.stop()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    # A cluster made inside a process has no token, and its workers find modules and keys where its raylets do.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        cluster = Nodes()
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_chaos_corpus(tmp_path_factory.mktemp("chaos"))


@pytest.fixture(scope="module")
def undisturbed(corpus: tuple[Path, Path], nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash over all rows of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    driver = start_driver(corpus[0], str(folder / "out"), nodes, folder / "marks")
    assert driver.wait(END_SECONDS) == 0, (folder / "marks.log").read_text()
    rows = read_rows(folder / "out")
    assert len({row["video_id"] for row in rows}) == 85 and len(list((folder / "out/masks").iterdir())) == UNITS - 1
    return rows_hash(rows)


def test_nothing_is_lost_or_doubled(corpus: tuple[Path, Path], nodes: Nodes, undisturbed: str, tmp_path: Path):
    output, marks = tmp_path / "out", tmp_path / "marks"
    arguments = (corpus[1], str(output), nodes, marks, "--curses", "--stall-seconds", "12")

    def published() -> int:
        return shards(output)

    driver = start_driver(*arguments)
    with Monkey(seed=1, pause=2.5, most=8, published=published) as monkey:
        wait_for_shards(published, UNITS // 3, driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver = start_driver(*arguments)
        wait_for_shards(published, UNITS // 2, driver)
        nodes.lose_one()
        code = driver.wait(END_SECONDS)
    said = (tmp_path / "marks.log").read_text()
    assert code == 3, said
    assert monkey.killed >= 3
    rows = read_rows(output)
    assert len({(r["video_id"], r["object_id"], r["frame_index"]) for r in rows}) == len(rows)
    assert {path.name for path in marks.iterdir()} == {"torn-1", "torn-2", "late-1", "late-2", "begun"}
    good = [row for row in rows if not row["video_id"].startswith(tuple(CURSES))]
    assert rows_hash(good) == undisturbed, said
    _check_failures(output)


def test_a_node_that_fails_everything_is_set_aside(
    corpus: tuple[Path, Path], nodes: Nodes, undisturbed: str, tmp_path: Path
):
    """The others go on, it is named, and no video is blamed for it."""
    output, bad = tmp_path / "out", nodes.workers[-1].node_id
    more = ("--bad-node", bad, "--seconds-per-frame", "0.01")
    driver = start_driver(corpus[0], str(output), nodes, tmp_path / "marks", *more)
    code = driver.wait(END_SECONDS)
    said = (tmp_path / "marks.log").read_text()
    assert code == 0, said
    assert rows_hash(read_rows(output)) == undisturbed and not list(output.glob("failures/*")), said
    assert f"(node {bad[:8]}, GPU " in said and "it gets no more for 5 min" in said, said
    assert said.count("no space left on device") < UNITS // 4, said


def test_the_same_on_object_storage(
    corpus: tuple[Path, Path], nodes: Nodes, undisturbed: str, tmp_path: Path, bucket: s3fs.S3FileSystem
):
    """Actors and driver killed over an S3 server."""
    marks, options = tmp_path / "marks", json.dumps({"client_kwargs": {"endpoint_url": bucket.endpoint_url}})
    arguments = (corpus[0], "s3://chaos/out", nodes, marks, "--curses", "--storage-options", options)

    def published() -> int:
        return len(bucket.glob("chaos/out/masks/*"))

    driver = start_driver(*arguments)
    with Monkey(seed=2, pause=4.0, most=3, published=published) as monkey:
        wait_for_shards(published, UNITS // 4, driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver = start_driver(*arguments)
        code = driver.wait(END_SECONDS)
    said = (tmp_path / "marks.log").read_text()
    assert code == 0 and monkey.killed >= 1, said
    rows = read_rows("chaos/out/masks", bucket)
    assert rows_hash(rows) == undisturbed, said
    assert "very-secret" not in said


def test_three_hours_of_video_killed_twice(nodes: Nodes, tmp_path: Path):
    """One long video on four actors: what is done again is at most what was in flight, and ids hold throughout."""
    write_long_video(tmp_path / "long.mp4", hours=3, fps=1)
    manifest, output, marks = tmp_path / "m.jsonl", tmp_path / "out", tmp_path / "marks"
    box = {"frame": 3, "object_id": 1, "box": [10, 10, 20, 20]}
    manifest.write_text(json.dumps({"video": "long.mp4", "video_id": "long", "prompts": [box]}))
    arguments = (manifest, str(output), nodes, marks, "--curses", "--seconds-per-frame", "0.001")
    for count in (20, 60):
        driver = start_driver(*arguments)
        wait_for_shards(lambda: shards(output), count, driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert start_driver(*arguments).wait(END_SECONDS) == 0, (tmp_path / "marks.log").read_text()
    begun = (marks / "begun").read_text().split("\n")[:-1]
    assert len(set(begun)) == 108 and len(begun) <= 108 + 2 * 4
    rows = read_rows(output)
    assert [row["frame_index"] for row in rows] == list(range(10_800)) and {row["object_id"] for row in rows} == {1}
    (video,) = table_rows(output, "videos")
    assert (video["status"], video["frames_annotated"], len(video["shards"])) == ("done", 10_800, 108)
    assert not list(output.glob("_run/banks/*"))


def _check_failures(output: Path) -> None:
    """Each cursed video has one last word that names the cause, and nothing else failed."""
    last = {row["video_id"]: row for row in table_rows(output, "failures") if row["terminal"]}
    expected = {f"{name}-1": kind for name, kind in CURSES.items()} | {"text": "not-a-video"}
    assert {name: row["error_class"] for name, row in last.items()} == expected
    assert last["segv-decoder-1"]["cause"] == "SIGSEGV"
    assert "no progress" in last["gil-1"]["message"] and "no progress" in last["stop-decoder-1"]["message"]
    status = {row["video_id"]: row["status"] for row in table_rows(output, "videos")}
    assert {name for name, word in status.items() if word == "failed"} == set(expected)
    assert len(status) == 85 + len(expected)
    assert all(len(row["message"].encode()) <= failures_schema.MESSAGE_BYTES for row in last.values())
