"""Violence on a real local cluster: what comes out is what an undisturbed run gives, each row once, and every failure
is explained. Decoding, run-length coding and publishing are real; only the network is a stand-in."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_chaos import CURSES, Monkey, Nodes, start_driver, wait_for_shards, write_chaos_corpus
from made_corpus import read_rows, rows_hash, table_rows

from schemas import failures as failures_schema

UNITS = 80 + 4 + 1 + 9  # short, torn and late, the long video's burn-in and its segments of 100 frames


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
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
    assert driver.wait(120) == 0, (folder / "marks.log").read_text()
    rows = read_rows(folder / "out")
    assert len({row["video_id"] for row in rows}) == 85 and len(list((folder / "out/masks").iterdir())) == UNITS - 1
    return rows_hash(rows)


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled(corpus: tuple[Path, Path], nodes: Nodes, undisturbed: str, tmp_path: Path):
    output, marks = tmp_path / "out", tmp_path / "marks"
    driver = start_driver(corpus[1], str(output), nodes, marks, "--curses")
    with Monkey(seed=1, pause=2.5, most=8) as monkey:
        wait_for_shards(output, UNITS // 3, 100, driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        before = len(list(output.glob("masks/*.parquet")))
        assert before >= UNITS // 3
        driver = start_driver(corpus[1], str(output), nodes, marks, "--curses")
        wait_for_shards(output, UNITS // 2, 100, driver)
        nodes.lose_one()
        code = driver.wait(200)
    said = (tmp_path / "marks.log").read_text()
    assert code == 3, said
    assert monkey.killed >= 3
    rows = read_rows(output)
    assert len({(r["video_id"], r["object_id"], r["frame_index"]) for r in rows}) == len(rows)
    assert {path.name for path in marks.iterdir()} == {"torn-1", "torn-2", "late-1", "late-2"}
    good = [row for row in rows if not row["video_id"].startswith(tuple(CURSES))]
    assert rows_hash(good) == undisturbed, said
    _check_failures(output)


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
