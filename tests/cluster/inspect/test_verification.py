"""Outputs damaged on purpose: every kind of damage is found, named with its file, and nothing else is."""

import datetime
import json
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_output import (
    CONFIG,
    VIDEOS,
    DeadlyStorage,
    MadeVideo,
    hexadecimal,
    made_row,
    write_failure,
    write_output,
    write_plan,
    write_shard,
    write_video,
)

from cluster.finalise import bank_names, row_name
from cluster.inspect.inspection import NoOutput
from cluster.inspect.shard_check import check_shard
from cluster.inspect.verification import Verdict, verify
from cluster.stores.storage import Storage
from schemas import masks as masks_schema

SHORT, LONG, ONE = VIDEOS
LONG_SHARDS = LONG.shards()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_output(tmp_path / "out")
    return tmp_path / "out"


def check(out: Path, **options) -> Verdict:
    return verify(Storage(str(out)), **options)


def findings(verdict: Verdict) -> set[tuple[str, str]]:
    return {(finding.kind, finding.file) for finding in verdict.findings}


def rewrite(path: Path, change, metadata: dict | None = None) -> None:
    """The table in `path` with its rows changed by `change`, and the same metadata except `metadata`."""
    with pq.ParquetFile(path) as file:
        table, kept = file.read(), dict(file.metadata.metadata)
    rows = change(table.to_pylist())
    schema = table.schema.with_metadata(kept | (metadata or {}))
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def edited(column: str, value, row: int = 3):
    def change(rows: list[dict]) -> list[dict]:
        rows[row][column] = value(rows[row][column]) if callable(value) else value
        return rows

    return change


def test_a_finished_output_is_sound(out: Path):
    verdict = check(out)
    assert (verdict.code, verdict.findings) == (0, ())
    assert verdict.shards == 2 + len(LONG_SHARDS) and verdict.videos["done"] == 3
    assert verdict.rows == sum(pq.read_metadata(path).num_rows for path in (out / "masks").iterdir())
    assert verdict.masks_decoded == verdict.rows  # so few that the sample is all of them


def test_large_object_ids_are_sound(tmp_path: Path):
    """Up to 31 bits, beside the frame's 32: more than a float64 holds."""
    write_output(tmp_path / "out", [MadeVideo("large", objects=(2**21 + 1, 2**31 - 1))])
    assert check(tmp_path / "out").findings == ()


def test_processes_find_the_same(out: Path):
    (out / SHORT.shards()[0]).write_bytes(b"PAR1")
    assert findings(check(out, processes=2)) == findings(check(out))


def test_a_file_that_kills_its_reader_is_a_finding(out: Path):
    storage = DeadlyStorage(str(out))
    storage.deadly = LONG_SHARDS[1]
    verdict = verify(storage, processes=2)
    assert verdict.code == 1 and ("damaged", LONG_SHARDS[1]) in findings(verdict)
    assert {file for kind, file in findings(verdict) if file.startswith("masks/")} == {LONG_SHARDS[1]}
    assert "kills the process" in "".join(finding.what for finding in verdict.findings)


def test_what_was_not_done_yet_is_unfinished(tmp_path: Path):
    write_output(tmp_path / "out", unfinished=[LONG.video_id])
    verdict = check(tmp_path / "out")
    assert verdict.code == 6 and findings(verdict) == {("unfinished", "masks")}
    assert "1 of 3 videos (4 shards)" in verdict.findings[0].what


def test_segments_of_a_video_that_goes_on_are_no_orphans(tmp_path: Path):
    storage = write_output(tmp_path / "out", unfinished=[LONG.video_id])
    for unit in LONG.units()[1:3]:
        write_shard(storage, LONG, *unit)
    verdict = check(tmp_path / "out")
    assert verdict.code == 6 and findings(verdict) == {("unfinished", "masks")}
    assert "(2 shards)" in verdict.findings[0].what


def test_masks_without_their_row_are_unfinished(out: Path):
    (out / row_name("videos", LONG.video_id)).unlink()
    assert findings(check(out)) == {("unfinished", row_name("videos", LONG.video_id))}


def test_no_output_and_no_plan(tmp_path: Path, out: Path):
    with pytest.raises(NoOutput, match="does not exist or is empty"):
        check(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(NoOutput, match="no output of jobs.annotate"):
        check(tmp_path / "other")
    (out / "_run/plan.parquet").unlink()
    verdict = check(out)
    assert verdict.code == 1 and findings(verdict) == {("lost", "_run/plan.parquet")}
    (out / "_run/plan.parquet").write_bytes(b"not a plan")
    assert ("damaged", "_run/plan.parquet") in findings(check(out))
    (out / "_run/config.json").write_text("{}")
    assert ("damaged", "_run/config.json") in findings(check(out))


@pytest.mark.parametrize("name", [SHORT.shards()[0], LONG_SHARDS[1]])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_shard(out: Path, name: str, share: float):
    data = (out / name).read_bytes()
    (out / name).write_bytes(data[: int(share * len(data))])
    verdict = check(out)
    assert verdict.code == 1 and findings(verdict) >= {("damaged", name)}
    assert {file for _, file in findings(verdict)} <= {name, *(row_name("tracks", v.video_id) for v in VIDEOS)}


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_byte_is_found_wherever_it_is(out: Path, place: float):
    path = out / LONG_SHARDS[0]
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x41
    path.write_bytes(data)
    verdict = check(out)
    assert verdict.code == 1 and ("damaged", LONG_SHARDS[0]) in findings(verdict)


def test_a_deleted_shard_is_lost(out: Path):
    (out / LONG_SHARDS[1]).unlink()
    verdict = check(out)
    assert verdict.code == 1 and findings(verdict) == {("lost", LONG_SHARDS[1])}
    assert "run the same jobs.annotate command again" in str(verdict.findings[0]).lower()


def test_swapped_shards(out: Path):
    first, second = out / LONG_SHARDS[0], out / LONG_SHARDS[1]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    verdict = check(out)
    assert findings(verdict) == {("damaged", LONG_SHARDS[0]), ("damaged", LONG_SHARDS[1])}
    text = "\n".join(map(str, verdict.findings))
    assert "the plan has" in text and "a frame outside the unit's stretch" in text


def test_a_copied_shard_doubles_its_rows(out: Path):
    stranger = f"masks/{'0' * 32}.parquet"
    shutil.copy(out / LONG_SHARDS[2], out / stranger)
    verdict = check(out)
    assert verdict.code == 1 and {kind for kind, _ in findings(verdict)} == {"doubled", "orphan"}
    assert all(stranger in str(finding) for finding in verdict.findings)


def test_an_overlapping_segment_doubles_some_rows(out: Path):
    storage = Storage(str(out))
    unit_id = hexadecimal("stranger")
    write_shard(storage, LONG, unit_id, "segment", 8, 12)
    doubled = [finding for finding in check(out).findings if finding.kind == "doubled"]
    rows = sum(position % 4 != 3 or number for position in range(8, 12) for number in (0, 1))
    assert sum(int(finding.what.split()[0]) for finding in doubled) == rows
    assert {name for f in doubled for name in (f.file, f.what.split("also in ")[1].split(" ")[0])} == {
        f"masks/{unit_id}.parquet", LONG_SHARDS[0], LONG_SHARDS[1],
    }  # fmt: skip


def test_an_orphan_is_a_warning(out: Path):
    other = MadeVideo("left over")
    write_shard(Storage(str(out)), other, other.key, "whole", 0, None)
    (out / "masks" / "notes.txt").write_text("mine")
    verdict = check(out)
    assert verdict.code == 0
    assert findings(verdict) == {("orphan", other.shards()[0]), ("orphan", "masks/notes.txt")}
    assert (out / other.shards()[0]).exists()


def test_videos_that_left_the_manifest_are_no_problem(out: Path):
    write_plan(Storage(str(out)), VIDEOS[:2])
    verdict = check(out)
    assert verdict.code == 0 and {kind for kind, _ in findings(verdict)} == {"orphan"}


EDITS = {
    "area other than its mask's": edited("area", lambda area: area - 1),
    "box other than its mask's": edited("bbox_x", lambda x: x + 1 if x < 10 else x - 1),
    "box that leaves the frame": edited("bbox_x", 31),
    "does not fit its box": edited("area", 0),
    "score outside": edited("score", 1.5),
    "does not decode": edited("rle_counts", b"PZ`"),
    "not 32x24": edited("height", 32),
    "outside the unit's stretch": edited("frame_index", 1000, row=-1),
    "another video than": edited("video_id", "other", row=-1),
    "rows_sha256 differs": edited("is_prompt", True),
    "twice": lambda rows: [*rows[:4], rows[3], *rows[4:-1]],
    "not sorted": lambda rows: [rows[1], rows[0], *rows[2:]],
    "its metadata says": lambda rows: rows[:-1],
}


@pytest.mark.parametrize("what", EDITS)
def test_edited_rows(out: Path, what: str):
    rewrite(out / SHORT.shards()[0], EDITS[what])
    verdict = check(out, all_masks=True)
    assert verdict.code == 1 and {file for _, file in findings(verdict)} <= {
        SHORT.shards()[0], row_name("tracks", SHORT.video_id), row_name("videos", SHORT.video_id),
    }  # fmt: skip
    assert any(what in finding.what for finding in verdict.findings), verdict.lines()


def test_an_edit_that_hides_itself_is_found_by_the_recorded_hash(out: Path):
    """Digest, counts and tracks agree, but the file is not the one that was published."""
    rewrite(out / SHORT.shards()[0], edited("pts", 7))
    verdict = check(out)
    assert [finding.what.split(";")[0][:7] for finding in verdict.findings] == ["it has "]


def test_another_schema_and_other_settings(out: Path):
    rewrite(out / SHORT.shards()[0], list, {b"schema_version": b"9.0.0"})
    rewrite(out / LONG_SHARDS[0], list, {b"settings_sha256": b"f" * 64})
    with pq.ParquetFile(out / LONG_SHARDS[1]) as file:
        table = file.read().drop_columns("score").replace_schema_metadata(file.metadata.metadata)
    pq.write_table(table, out / LONG_SHARDS[1])
    texts = "\n".join(map(str, check(out).findings))
    assert f"{SHORT.shards()[0]}: it has stcn-masks version 9.0.0" in texts
    assert f"{LONG_SHARDS[0]}: its settings_sha256 is ffff" in texts
    assert f"{LONG_SHARDS[1]}: its columns are not those of the masks table" in texts


@pytest.mark.parametrize("column", ["n_visible", "first_frame", "last_frame", "area_min", "area_max", "area_mean"])
def test_a_track_that_its_masks_do_not_bear_out(out: Path, column: str):
    rewrite(out / row_name("tracks", LONG.video_id), edited(column, lambda value: value + 1, row=1))
    verdict = check(out)
    assert findings(verdict) == {("damaged", row_name("tracks", LONG.video_id))}
    assert f"{column} of object 5" in verdict.findings[0].what


def test_tracks_lost_doubled_and_short(out: Path):
    (out / row_name("tracks", SHORT.video_id)).unlink()
    rewrite(out / row_name("tracks", LONG.video_id), lambda rows: rows[:1])
    rewrite(out / row_name("tracks", ONE.video_id), lambda rows: rows * 2)
    found = findings(check(out))
    assert found == {
        ("lost", row_name("tracks", SHORT.video_id)),
        ("damaged", row_name("tracks", LONG.video_id)),
        ("doubled", row_name("tracks", ONE.video_id)),
    }


def test_videos_rows_that_do_not_agree(out: Path):
    rewrite(out / row_name("videos", SHORT.video_id), edited("mask_rows", 3, row=0))
    rewrite(out / row_name("videos", ONE.video_id), edited("shards", None, row=0))
    rewrite(out / row_name("videos", LONG.video_id), edited("frames_annotated", 20, row=0))
    verdict = check(out)
    assert findings(verdict) == {("damaged", row_name("videos", video.video_id)) for video in VIDEOS}
    assert "mask_rows is 3" in "".join(f.what for f in verdict.findings)


def test_a_row_under_another_videos_name(out: Path):
    shutil.copy(out / row_name("videos", SHORT.video_id), out / row_name("videos", "somebody"))
    assert findings(check(out)) == {("damaged", row_name("videos", "somebody"))}
    shutil.copy(out / row_name("videos", SHORT.video_id), out / "videos" / "copy.parquet")
    assert ("doubled", row_name("videos", SHORT.video_id)) in findings(check(out))


def test_a_failed_video_is_sound_with_its_reason(out: Path):
    storage = Storage(str(out))
    failed = MadeVideo("bad", 30, split=True)
    write_plan(storage, (*VIDEOS, failed))
    write_shard(storage, failed, *failed.units()[1])
    write_failure(storage, failed)
    verdict = check(out)
    assert (verdict.code, verdict.findings) == (0, ()) and verdict.videos["failed"] == 1
    for path in (out / "failures").iterdir():
        path.unlink()
    # Nothing says that it failed: the next run tries it again.
    assert findings(check(out)) == {("lost", row_name("videos", failed.video_id)), ("unfinished", "masks")}


def test_a_failure_whose_row_was_not_written_yet(out: Path):
    """The driver died between the two."""
    storage = Storage(str(out))
    failed = MadeVideo("bad")
    write_plan(storage, (*VIDEOS, failed))
    write_failure(storage, failed)
    storage.delete(row_name("videos", failed.video_id))
    verdict = check(out)
    assert verdict.code == 6 and findings(verdict) == {("unfinished", row_name("videos", failed.video_id))}


def test_a_failed_video_that_is_tried_again_is_unfinished(out: Path):
    """Its burn-in failed; by now there is a bank, and segments follow."""
    storage = Storage(str(out))
    failed = MadeVideo("bad", 30, split=True)
    write_plan(storage, (*VIDEOS, failed))
    write_failure(storage, failed)
    for name in bank_names(failed.units()[0][0]):
        storage.publish(name, b"bank")
    assert findings(check(out)) == {("unfinished", "masks")}
    write_video(storage, failed)
    assert findings(check(out)) == {("orphan", name) for name in bank_names(failed.units()[0][0])}


def test_a_failure_before_the_success_is_past(out: Path):
    write_failure(Storage(str(out)), SHORT)
    assert findings(check(out)) == {("unfinished", row_name("videos", SHORT.video_id))}
    write_video(Storage(str(out)), SHORT)
    assert check(out).code == 0


def test_a_damaged_failure(out: Path):
    write_failure(Storage(str(out)), SHORT, kind="retried")
    path = next((out / "failures").iterdir())
    path.write_bytes(path.read_bytes()[:50])
    assert findings(check(out)) == {("damaged", f"failures/{path.name}")}


def test_a_sample_may_miss_what_all_masks_finds(tmp_path: Path):
    video = MadeVideo("v", 600, objects=(1,))
    write_output(tmp_path / "out", [video])
    path = tmp_path / "out" / video.shards()[0]
    rewrite(path, lambda rows: [row | {"area": row["area"] - (row["frame_index"] == 124)} for row in rows])
    areas = "an area other than its mask's"
    assert any(areas in finding.what for finding in check(tmp_path / "out", all_masks=True).findings)
    sampled = check(tmp_path / "out")
    assert sampled.masks_decoded < 40 and sampled.code == 1  # by the recorded hash of the file


def test_an_empty_shard_is_sound(tmp_path: Path):
    video = MadeVideo("nothing to see", 0)
    write_output(tmp_path / "out", [video])
    assert (check(tmp_path / "out").code, check(tmp_path / "out").rows) == (0, 0)


def test_a_vanished_shard_while_the_run_goes_on(out: Path):
    """What is in the listing, but gone when it is opened, is lost; what is newer than the listing is not."""
    from cluster.inspect.shard_check import ShardTask

    report = check_shard(ShardTask(Storage(str(out)), f"masks/{'1' * 32}.parquet"))
    assert [finding.kind for finding in report.findings] == ["lost"]


def test_a_run_at_work_is_never_worse_than_unfinished(tmp_path: Path):
    videos = [MadeVideo(f"v{number}", 25, split=number % 2 == 0, objects=(1,)) for number in range(40)]
    storage = Storage(str(tmp_path))
    write_plan(storage, videos)

    def work() -> None:
        for number, video in enumerate(videos):
            if number % 5 == 0:
                write_failure(storage, video)  # and succeeds the second time
            write_video(storage, video)

    thread = threading.Thread(target=work)
    thread.start()
    codes = []
    while thread.is_alive():
        verdict = check(tmp_path)
        assert verdict.code != 1, verdict.lines()
        codes.append(verdict.code)
    thread.join()
    assert 6 in codes and check(tmp_path).code == 0


def test_on_s3(s3):
    url, options = s3
    storage = write_output(f"{url}/out", options=options)
    assert verify(storage).code == 0
    data = storage.read(LONG_SHARDS[0])
    storage.delete(LONG_SHARDS[1])
    storage.publish(LONG_SHARDS[0], data[:-100])
    assert findings(verify(storage)) == {("damaged", LONG_SHARDS[0]), ("lost", LONG_SHARDS[1])}


def test_the_verdict_is_json(out: Path):
    (out / LONG_SHARDS[1]).unlink()
    record = json.loads(json.dumps(check(out).to_json()))
    assert record["code"] == 1 and record["counts"] == {"lost": 1}
    assert record["findings"][0]["file"] == LONG_SHARDS[1] and record["findings"][0]["remedy"]


def test_made_rows_are_honest():
    """The made output is only worth something if its rows fit the schema."""
    row = made_row(SHORT, 3, 5)
    assert set(row) == set(masks_schema.SCHEMA.names) and CONFIG.fingerprint()
    assert datetime.datetime.now(datetime.UTC).tzinfo is not None
