"""Compaction: the same rows in fewer files, checked, resumable; the old place untouched."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from made_corpus import ROOT, environment, read_rows, rows_hash, table_rows
from made_output import VIDEOS, MadeVideo, write_failure, write_output, write_plan, write_shard

from cluster.inspect import compaction
from cluster.inspect.compaction import CompactionRefused, bundles_of, compact
from cluster.inspect.inspection import look
from cluster.inspect.shard_merge import MergeError, merge
from cluster.inspect.status_report import read_status
from cluster.inspect.verification import verify
from cluster.stores.storage import Storage
from schemas import masks as masks_schema
from schemas import read_masks

SHORT, LONG, ONE = VIDEOS
KIB = 1 << 10


def row(video_id: str, *sizes: int) -> dict:
    return {
        "video_id": video_id,
        "shards": [{"unit_id": f"{video_id}{n}", "rows": 10, "bytes": size} for n, size in enumerate(sizes)],
    }


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three videos, one of them split; a failed one with a shard; an orphan."""
    bad, stranger = MadeVideo("bad", 30, split=True), MadeVideo("stranger")
    storage = write_output(tmp_path / "out", (*VIDEOS, bad), unfinished=["bad"])
    write_shard(storage, bad, *bad.units()[1])
    write_failure(storage, bad)
    write_shard(storage, stranger, stranger.key, "whole", 0, None)
    return tmp_path / "out"


def run(out: Path, to: Path, **options) -> compaction.Compacted:
    return compact(Storage(str(out)), Storage(str(to)), **options)


def test_which_videos_go_together():
    rows = [row("c", 60), row("a", 30, 30), row("b", 60), row("d", 250, 10), row("e", 5), row("f", 95), row("g")]
    bundles = bundles_of(rows, 100)
    assert [bundle.videos for bundle in bundles] == [("a",), ("b",), ("c",), ("d",), ("e", "f", "g")]
    assert [len(bundle.parts) for bundle in bundles] == [1, 1, 1, 3, 1]
    assert [part for bundle in bundles for part in bundle.parts] == [f"part-{n:05d}" for n in range(7)]
    assert bundles[3].units == ("d0", "d1") and bundles[3].rows == 20
    assert len(bundles_of([row(str(n), 10) for n in range(100)], 100)) == 10


def test_the_same_rows_in_fewer_files(out: Path, tmp_path: Path):
    before = hashes(out)
    done = run(out, tmp_path / "to")
    assert hashes(out) == before
    assert (done.shards_before, done.shards, done.videos, done.failed_videos) == (6, 1, 3, 1)
    finished = {video.video_id for video in VIDEOS}
    wanted = [row for row in read_rows(out) if row["video_id"] in finished]
    assert rows_hash(read_rows(tmp_path / "to")) == rows_hash(wanted) and done.rows == len(wanted)
    files = list((tmp_path / "to" / "masks").iterdir())
    assert [file.name for file in files] == ["part-00000.parquet"]
    stored = [(row["video_id"], row["object_id"], row["frame_index"]) for row in pq.read_table(files[0]).to_pylist()]
    assert stored == sorted(stored)
    metadata = pq.read_metadata(files[0]).metadata
    assert json.loads(metadata[b"unit_ids"]) == [
        shard["unit_id"] for v in sorted(VIDEOS, key=lambda v: v.video_id) for shard in video_row(out, v)["shards"]
    ]
    assert metadata[b"schema_name"] == masks_schema.NAME.encode() and metadata[b"kind"] == b"compacted"
    assert metadata[b"device_profile"] == b"cpu, 1 thread"


def video_row(out: Path, video: MadeVideo) -> dict:
    return next(row for row in table_rows(out, "videos") if row["video_id"] == video.video_id)


def test_verify_status_and_read_masks_work_on_it(out: Path, tmp_path: Path):
    run(out, tmp_path / "to", shard_bytes=8 * KIB)
    storage = Storage(str(tmp_path / "to"))
    verdict = verify(storage, all_masks=True)
    assert (verdict.code, verdict.findings) == (0, ()), verdict.lines()
    assert verdict.videos["done"] == 3 and verdict.videos["failed"] == 1 and verdict.shards > 1
    status = read_status(storage)
    assert (status.state, status.done, status.failed, status.left) == ("done", 3, 1, 0)
    assert status.failures[0].error_class == "decode"
    for video in VIDEOS:
        here, there = read_masks(str(tmp_path / "to"), video.video_id), read_masks(str(out), video.video_id)
        count = 0
        for (frame, found), (other, wanted) in zip(here, there, strict=True):
            assert frame == other and found.keys() == wanted.keys()
            assert all(np.array_equal(found[key], wanted[key]) for key in found)
            count += 1
        assert count == video.frames or video is ONE
    with pytest.raises(LookupError, match="failed"):
        read_masks(str(tmp_path / "to"), "bad")
    for table in ("tracks", "failures"):
        kept = [r for r in table_rows(out, table) if table == "failures" or r["video_id"] != "bad"]
        assert sorted(map(repr, table_rows(tmp_path / "to", table))) == sorted(map(repr, kept))


def test_damage_to_it_is_found(out: Path, tmp_path: Path):
    run(out, tmp_path / "to", shard_bytes=8 * KIB)
    first, *_, last = sorted((tmp_path / "to" / "masks").iterdir())
    data = bytearray(first.read_bytes())
    data[len(data) // 3] ^= 1
    first.write_bytes(data)
    last.unlink()
    verdict = verify(Storage(str(tmp_path / "to")))
    assert verdict.code == 1
    assert {(f.kind, f.file) for f in verdict.findings} >= {
        ("damaged", f"masks/{first.name}"), ("lost", f"masks/{last.name}"),
    }  # fmt: skip


def test_a_long_video_lies_in_as_few_shards_as_its_size_asks_for(tmp_path: Path):
    video = MadeVideo("long", 400, split=True, objects=(1, 2, 9))
    other = MadeVideo("x")
    write_output(tmp_path / "out", [video, other])
    size = sum((tmp_path / "out" / name).stat().st_size for name in video.shards())
    done = run(tmp_path / "out", tmp_path / "to", shard_bytes=-(-size // 3))
    assert done.shards == 4
    found = video_row(tmp_path / "to", video)["shards"]
    assert [shard["unit_id"] for shard in found] == ["part-00000", "part-00001", "part-00002"]
    assert max(s["rows"] for s in found) - min(s["rows"] for s in found) <= 2
    assert rows_hash(read_rows(tmp_path / "to")) == rows_hash(read_rows(tmp_path / "out"))
    assert verify(Storage(str(tmp_path / "to"))).code == 0
    keys = [
        (r["object_id"], r["frame_index"])
        for part in found
        for r in pq.read_table(tmp_path / "to" / f"masks/{part['unit_id']}.parquet").to_pylist()
    ]
    assert keys == sorted(keys)


def test_row_groups(tmp_path: Path):
    write_output(
        tmp_path / "out", [MadeVideo(f"v{n}", frames, objects=(1, 2)) for n, frames in enumerate((6000, 90, 50))]
    )
    run(tmp_path / "out", tmp_path / "to")
    footer = pq.read_metadata(tmp_path / "to" / "masks/part-00000.parquet")
    rows = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    first = pq.read_metadata(tmp_path / "out" / MadeVideo("v0", 6000).shards()[0]).num_rows
    assert rows[0] == masks_schema.ROW_GROUP_ROWS and max(rows) == rows[0]
    assert first > rows[0] and len(rows) == 2  # a small rest shares its group with small videos
    column = masks_schema.SCHEMA.get_field_index("rle_counts")
    assert footer.row_group(0).column(column).compression == "ZSTD"


def test_unfinished_outputs(tmp_path: Path):
    write_output(tmp_path / "out", unfinished=[LONG.video_id])
    with pytest.raises(CompactionRefused, match="1 of its videos .* --forget-missing .* --allow-unfinished"):
        run(tmp_path / "out", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    done = run(tmp_path / "out", tmp_path / "to", allow_unfinished=True)
    assert (done.videos, done.unfinished_videos) == (2, 1)
    verdict = verify(Storage(str(tmp_path / "to")))
    assert verdict.code == 6 and "compact it again" in str(verdict.findings[0])
    (tmp_path / "out/_run/plan.parquet").unlink()
    with pytest.raises(CompactionRefused, match="no plan"):
        run(tmp_path / "out", tmp_path / "to2")


def test_what_is_refused(out: Path, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(CompactionRefused, match="is not empty"):
        run(out, tmp_path / "full")
    run(out, tmp_path / "to")
    with pytest.raises(CompactionRefused, match="another|holds a compaction of"):
        run(out, tmp_path / "to", shard_bytes=100)
    with pytest.raises(CompactionRefused, match="compacted already"):
        run(tmp_path / "to", tmp_path / "to2")
    again = run(out, tmp_path / "to")
    assert again.skipped == again.shards
    write_plan(Storage(str(tmp_path / "new")), VIDEOS)
    with pytest.raises(CompactionRefused, match="nothing to compact|no finished video"):
        run(tmp_path / "new", tmp_path / "to3", allow_unfinished=True)


def test_annotate_does_not_go_on_in_it(out: Path, tmp_path: Path):
    from made_output import CONFIG

    from cluster.config_lock import SettingsRefused, lock_config

    run(out, tmp_path / "to")
    with pytest.raises(SettingsRefused, match="another schema"):
        lock_config(Storage(str(tmp_path / "to")), CONFIG)


@pytest.mark.parametrize("video", [SHORT, LONG])
def test_a_damaged_shard_stops_it(out: Path, tmp_path: Path, video: MadeVideo):
    path = out / video.shards()[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(MergeError, match=path.name):
        run(out, tmp_path / "to")
    assert not list((tmp_path / "to").rglob("part-*"))
    path.unlink()
    with pytest.raises(MergeError, match=f"{path.name} is lost"):
        run(out, tmp_path / "to")


def test_rows_that_change_on_their_way_stop_it(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from cluster.inspect import shard_merge

    append = shard_merge._Part.append
    monkeypatch.setattr(shard_merge._Part, "append", lambda self, batch: append(self, batch.slice(1)))
    with pytest.raises(MergeError, match="not the same"):
        run(out, tmp_path / "to")
    assert not list((tmp_path / "to").rglob("part-*"))


def test_a_failing_publish_is_continued(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish, names = Storage.publish, []

    def failing(self, name, data):
        if name == "masks/part-00001.parquet":
            raise OSError("the disk is full")
        return publish(self, name, data)

    monkeypatch.setattr(Storage, "publish", failing)
    with pytest.raises(OSError, match="full"):
        run(out, tmp_path / "to", shard_bytes=16 * KIB)
    monkeypatch.setattr(Storage, "publish", lambda self, n, d: names.append(n) or publish(self, n, d))
    assert verify(Storage(str(tmp_path / "to"))).code == 6
    assert run(out, tmp_path / "to", shard_bytes=16 * KIB).skipped == 1
    assert "masks/part-00000.parquet" not in names and "masks/part-00001.parquet" in names
    assert verify(Storage(str(tmp_path / "to"))).code == 0


def test_killed_anywhere_and_run_again(tmp_path: Path):
    """SIGKILL at times spread over the run: the end is the same files, byte for byte."""
    videos = [MadeVideo(f"v{number:02d}", 40, split=number % 3 == 0) for number in range(24)]
    write_output(tmp_path / "out", videos)
    run(tmp_path / "out", tmp_path / "whole", shard_bytes=10 * KIB)
    command = [sys.executable, "-m", "jobs.compact", str(tmp_path / "out"), "--to", str(tmp_path / "to"),
               "--shard-mib", str(10 / 1024), "--processes", "1"]  # fmt: skip
    kills = 0
    for pause in (0.0, 0.05, 0.15, 0.3):
        child = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE)
        wait_for(lambda child=child: (tmp_path / "to/_run/compaction.json").exists() or child.poll() is not None)
        time.sleep(pause)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.communicate()
    assert kills
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = {n: h for n, h in hashes(tmp_path / "to").items() if not n.startswith("_run/tmp")}
    assert kept == hashes(tmp_path / "whole")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_from_s3_to_s3(s3):
    url, options = s3
    source = write_output(f"{url}/out", options=options)
    target = Storage(f"{url}/to", options)
    done = compact(source, target, shard_bytes=8 * KIB)
    assert done.rows == verify(source).rows and verify(target).code == 0
    assert look(target).compaction_finished
    table = ds.dataset(f"{url.removeprefix('s3://')}/to/masks", filesystem=target._fs).to_table()
    assert table.num_rows == done.rows


def test_merging_nothing_gives_every_file(tmp_path: Path):
    """A video without masks still has its file."""
    paths = merge(tmp_path, ["part-00000", "part-00001"], 0, [])
    assert [pq.read_metadata(path).num_rows for path in paths] == [0, 0]
