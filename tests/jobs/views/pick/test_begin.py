"""What pick begins with: manifests of every kind become a JSONL file that jobs.annotate reads."""

import json
import os
import subprocess
import sys
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_corpus import environment
from made_pick import read_lines, write_rows
from made_videos import write_video
from PIL import Image

from jobs.pick import main
from jobs.views.pick.begin import begin
from schemas.manifest import ManifestError

CSV = """video,video_id,frame,object_id,box,comment,end
a.mp4,a,3,1,"1 2 30 40",first,
a.mp4,a,5,2,"5 5 10 10",second,9
b.mp4,b,,,,nothing yet,
"""


def test_a_jsonl_manifest_is_worked_on_in_place(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "m.jsonl", [{"video": "a.mp4"}])
    monkeypatch.chdir(tmp_path)
    assert begin("m.jsonl", None) == path == begin("m.jsonl", str(path))


def test_what_cannot_be_written_in_place_needs_to(tmp_path):
    for manifest in (tmp_path / "m.csv", tmp_path, "s3://bucket/m.jsonl"):
        with pytest.raises(ValueError, match="Give --to .*jsonl"):
            begin(str(manifest), None)
    for to in ("s3://bucket/m.jsonl", "m.csv"):
        with pytest.raises(ValueError, match="must be a local file"):
            begin(str(tmp_path / "m.jsonl"), to)


def test_a_csv_becomes_one_row_per_video_with_all_its_columns(tmp_path):
    (tmp_path / "m.csv").write_text(CSV)
    rows = read_lines(begin(str(tmp_path / "m.csv"), str(tmp_path / "m.jsonl")))
    boxes = [{"frame": 3, "object_id": 1, "box": "1 2 30 40"}, {"frame": 5, "object_id": 2, "box": "5 5 10 10"}]
    a = {"video": "a.mp4", "video_id": "a", "comment": "first", "end": 9, "prompts": boxes}
    assert rows == [a, {"video": "b.mp4", "video_id": "b", "comment": "nothing yet", "prompts": []}]
    elsewhere = read_lines(begin(str(tmp_path / "m.csv"), str(tmp_path / "sub" / "m.jsonl")))
    assert [row["video"] for row in elsewhere] == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]


def test_a_parquet_keeps_nested_prompts_and_foreign_columns(tmp_path):
    rows = [
        {"video": "a.mp4", "prompts": [{"frame": 1, "object_id": 1, "mask": "a.png", "box": None}], "tags": ["x"]},
        {"video": "b.mp4", "prompts": None, "tags": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    a, b = read_lines(begin(str(tmp_path / "m.parquet"), str(tmp_path / "m.jsonl")))
    assert a == {"video": "a.mp4", "prompts": [{"frame": 1, "object_id": 1, "mask": "a.png"}], "tags": ["x"]}
    assert b["video"] == "b.mp4" and not b.get("prompts")


def test_a_folder_and_going_on_with_it_later(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a", "b"):
        (clips / f"{name}.mp4").write_bytes(b"x")
    said = []
    target = begin(str(clips), str(tmp_path / "m.jsonl"), say=said.append)
    rows = read_lines(target)
    assert [(row["video_id"], row["video"], row["prompts"]) for row in rows] == [
        ("a", str(clips / "a.mp4"), []),
        ("b", str(clips / "b.mp4"), []),
    ]
    rows[0]["prompts"] = [{"frame": 0, "object_id": 1, "box": [1, 1, 2, 2]}]
    target.write_text("\n".join(map(json.dumps, rows)))  # without a last line break
    (clips / "c.mp4").write_bytes(b"x")
    again = read_lines(begin(str(clips), str(target), say=said.append))
    assert again[:2] == rows and again[2]["video_id"] == "c" and len(again) == 3
    assert "2 videos were there, 1 added" in said[-1]


def test_masks_that_are_taken_for_ground_truth_are_said(tmp_path):
    (tmp_path / "masks" / "a").mkdir(parents=True)
    (tmp_path / "a.mp4").write_bytes(b"x")
    for frame in range(9):
        Image.new("L", (8, 8), 1).save(tmp_path / "masks" / "a" / f"{frame}.png")
    said = []
    begin(f"{tmp_path}/*.mp4", str(tmp_path / "m.jsonl"), prompt_masks=str(tmp_path / "masks"), say=said.append)
    assert "9 masks of 'a' lie on consecutive frames" in said[0]


def test_rows_that_cannot_be_told_apart_are_refused(tmp_path, capsys):
    for rows in ([{"video": "a.mp4"}, {"video": "x/a.mp4"}], [{"video_id": "a"}], []):
        path = write_rows(tmp_path / "m.jsonl", rows)
        assert main(["--manifest", str(path)]) == 2
        assert "m.jsonl has" in capsys.readouterr().err
    with pytest.raises(ManifestError):
        write_rows(tmp_path / "bad.jsonl", [{"video_id": "a"}])
        begin(str(tmp_path / "bad.jsonl"), str(tmp_path / "m2.jsonl"))
    assert not os.path.exists(tmp_path / "m2.jsonl")


def test_arguments_that_do_not_fit(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", 2)
    path = str(write_rows(tmp_path / "m.jsonl", [{"video": "a.mp4"}]))
    assert main(["--manifest", path, "--proposals", "mask-rcnn"]) == 2
    assert "--detector-weights" in capsys.readouterr().err
    assert main(["--manifest", str(tmp_path / "none.jsonl")]) == 2
    assert main(["--manifest", path, "--to", str(tmp_path / "n.jsonl"), "--prompt-masks", "x"]) == 2
    with pytest.raises(SystemExit):
        main(["--manifest", path, "--port", "70000"])


def test_the_command_serves_until_it_is_told_to_end(tmp_path):
    """As a user runs it: the address is printed and answers; SIGTERM ends it with everything cleaned up."""
    write_video(tmp_path / "a.mp4", 3)
    write_rows(tmp_path / "m.jsonl", [{"video": "a.mp4"}])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "jobs.pick", "--manifest", str(tmp_path / "m.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(TMPDIR=str(scratch))) as process:
        address = next(line.strip() for line in process.stdout if "http://" in line)
        token = address.partition("token=")[2]
        url = f"{address.partition('?')[0]}api/videos/0/frames/1"
        request = urllib.request.Request(url, headers={"X-Pick-Token": token})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.read()[:2] == b"\xff\xd8", "a JPEG"
        process.terminate()
        assert process.wait(30) == 0
    assert len(token) >= 32 and address.startswith("http://127.0.0.1:") and not list(scratch.iterdir())
