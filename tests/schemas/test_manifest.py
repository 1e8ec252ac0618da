"""The manifest in three formats, and everything that can be wrong with it, reported all at once."""

import io
import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco

from schemas.manifest import ManifestError, VideoRow, parse_manifest
from schemas.prompt import Prompt

MASK = np.asfortranarray(np.eye(6, 9, dtype=np.uint8))
COUNTS = coco.encode(MASK)["counts"]
RLE = {"size": [6, 9], "counts": COUNTS.decode()}
BOX = {"frame": 0, "object_id": 1, "box": [1, 2, 3, 4]}


def row(**changes):
    return {"video": "a.mp4", "prompts": [BOX]} | changes


def prompt(**changes):
    return {key: value for key, value in (BOX | changes).items() if value is not ...}


def jsonl(*records):
    return "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records).encode()


def problems(data, name="m.jsonl"):
    with pytest.raises(ManifestError) as caught:
        parse_manifest(name, data if isinstance(data, bytes) else data.encode(), "/base")
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
        assert problem.reason and problem.remedy
    return caught.value.problems


def test_a_full_row():
    record = {
        "video": "s3://bucket/x/a.mp4",
        "video_id": "name",
        "start": 10,
        "end": 900,
        "stride": 3,
        "labels": {"1": "cat", "7": "dog"},
        "prompts": [
            {"frame": 120, "object_id": 1, "mask": "masks/a.png", "complete": True},
            {"time": "00:01:30.5", "object_id": 7, "box": [-5, 0.5, 30, 20]},
            {"time": 2, "object_id": 1, "rle": RLE},
            {"frame": 3, "object_id": 1, "mask": RLE},
        ],
    }
    (found,) = parse_manifest("m.jsonl", jsonl(record), "https://host/folder")
    assert found == VideoRow(
        1,
        "s3://bucket/x/a.mp4",
        "name",
        (
            Prompt(frame=120, object_id=1, mask="https://host/folder/masks/a.png", complete=True),
            Prompt(time_s=90.5, object_id=7, box=(-5.0, 0.5, 30.0, 20.0)),
            Prompt(time_s=2.0, object_id=1, rle=(6, 9, COUNTS)),
            Prompt(frame=3, object_id=1, rle=(6, 9, COUNTS)),
        ),
        start=10,
        end=900,
        stride=3,
        labels=((1, "cat"), (7, "dog")),
    )
    assert (found.label_of(7), found.label_of(2)) == ("dog", None)
    for given in found.prompts:
        assert Prompt.from_json(given.to_json()) == given


def test_uncompressed_rle_becomes_compressed():
    runs, value, length = [], 0, 0
    for pixel in MASK.flatten(order="F"):
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    record = row(prompts=[{"frame": 0, "object_id": 1, "rle": {"size": [6, 9], "counts": [*runs, length]}}])
    (found,) = parse_manifest("m.jsonl", jsonl(record), "")
    assert found.prompts[0].rle == (6, 9, COUNTS)


@pytest.mark.parametrize(
    ("video", "base", "expected"),
    [
        ("a.mp4", "/base", "/base/a.mp4"),
        ("../a.mp4", "/base/sub", "/base/a.mp4"),
        ("/x/a.mp4", "s3://bucket/m", "/x/a.mp4"),
        ("sub/a.mp4", "s3://bucket/m", "s3://bucket/m/sub/a.mp4"),
        ("../../a.mp4", "s3://bucket/m", "s3://bucket/a.mp4"),
        ("a.mp4", "s3://bucket", "s3://bucket/a.mp4"),
        ("a.mp4", "file:///base", "/base/a.mp4"),
        ("gs://other/a.mp4", "s3://bucket", "gs://other/a.mp4"),
        ("a.mp4", "memory://x/y", "memory://x/y/a.mp4"),
        ("zip://a.mp4::s3://b/c.zip", "/base", "zip://a.mp4::s3://b/c.zip"),
    ],
)
def test_relative_videos_lie_beside_the_manifest(video, base, expected):
    (found,) = parse_manifest("m.jsonl", jsonl(row(video=video)), base)
    assert found.video == expected


@pytest.mark.parametrize(
    ("video", "video_id"),
    [
        ("x/a.b.mp4", "a.b"),
        ("480p/bear", "bear"),
        ("480p/bear.v2/", "bear.v2"),
        ("https://host/q/a.mp4?sig=x/y.z", "a"),
        ("s3://bucket/ü.mp4", "ü"),
        ("zip://in/a.mp4::s3://b/c.zip", "a"),
    ],
)
def test_video_id_is_the_stem(video, video_id):
    (found,) = parse_manifest("m.jsonl", jsonl(row(video=video)), "/base")
    assert found.video_id == video_id


BAD_ROWS = [
    ("is not JSON", "", "{not json"),
    ("is not JSON", "", json.dumps(row())[:-3]),
    ("it is a list, not an object", "", [1, 2]),
    ("stands twice", "", '{"video": "a.mp4", "video": "b.mp4"}'),
    ("the name is unknown", "vidoe", row(vidoe="a.mp4")),
    ("it is missing", "video", {"prompts": [BOX]}),
    ("it is empty", "video", row(video=" ")),
    ("is not a text", "video", row(video=5)),
    ("begins or ends with a blank", "video", row(video="a.mp4 ")),
    ("control character", "video", row(video="a\0.mp4")),
    ("is not valid Unicode", "video", row(video="\ud800.mp4")),
    ("is not a text", "video_id", row(video_id=7)),
    ("holds a slash", "video_id", row(video_id="a/b")),
    ("is a folder", "video_id", row(video_id="..")),
    ("longer than 200 bytes", "video_id", row(video_id="x" * 201)),
    ("no prompt is given", "prompts", {"video": "a.mp4"}),
    ("the list is empty", "prompts", row(prompts=[])),
    ("not a list", "prompts", row(prompts=BOX)),
    ("not an object", "prompts[0]", row(prompts=[5])),
    ("the name is unknown", "prompts[0].bbox", row(prompts=[prompt(bbox=[1, 2, 3, 4])])),
    ("there are no text prompts", "prompts[0].text", row(prompts=[prompt(text="the red car")])),
    ("box and points are given together", "prompts[0]", row(prompts=[prompt(points=[[1, 2, 1]])])),
    ("no point has the label 1", "prompts[0].points", row(prompts=[prompt(box=..., points=[[1, 2, 0]])])),
    ("is not a point", "prompts[0].points", row(prompts=[prompt(box=..., points=[[1]])])),
    ("a point's label is 1", "prompts[0].points", row(prompts=[prompt(box=..., points=[[1, 2, 3]])])),
    ("no detector is called 'yolo'", "prompts[0].detector", row(prompts=[{"detector": "yolo"}])),
    ("min_score 2.0 is not between", "prompts[0]", row(prompts=[{"detector": "lost", "min_score": 2}])),
    ("go with a detector", "prompts[0]", row(prompts=[prompt(classes=["dog"])])),
    ("finds objects by itself", "prompts[0]", row(prompts=[prompt(detector="lost", max_objects=2)])),
    ("matching is one of", "prompts[0]", row(prompts=[prompt(detector="lost", matching="best")])),
    ("absent needs an object_id", "prompts[0]", row(prompts=[{"frame": 1, "absent": True}])),
    ("frame and time are both given", "prompts[0]", row(prompts=[prompt(time=1)])),
    ("neither frame nor time", "prompts[0]", row(prompts=[prompt(frame=...)])),
    ("is below 0", "prompts[0].frame", row(prompts=[prompt(frame=-1)])),
    ("1.5 is not a whole number", "prompts[0].frame", row(prompts=[prompt(frame=1.5)])),
    ("is not a whole number", "prompts[0].frame", row(prompts=[prompt(frame="7")])),
    ("is not a whole number", "prompts[0].frame", row(prompts=[prompt(frame=True)])),
    ("is not a number", "prompts[0].frame", row(prompts=[prompt(frame=float("nan"))])),
    ("is too large", "prompts[0].frame", row(prompts=[prompt(frame=2**31)])),
    ("is not a time", "prompts[0].time", row(prompts=[prompt(frame=..., time="1:77")])),
    ("is before the video", "prompts[0].time", row(prompts=[prompt(frame=..., time=-0.1)])),
    ("is not a finite number", "prompts[0].time", row(prompts=[prompt(frame=..., time=float("inf"))])),
    ("0 is the background", "prompts[0].object_id", row(prompts=[prompt(object_id=0)])),
    ("none of mask, rle, box, points, absent and detector", "prompts[0]", row(prompts=[prompt(box=...)])),
    ("mask and box are given together", "prompts[0]", row(prompts=[prompt(mask="a.png")])),
    ("is not a PNG", "prompts[0].mask", row(prompts=[prompt(box=..., mask="a.jpg")])),
    ("has 4 numbers, not 3", "prompts[0].box", row(prompts=[prompt(box=[1, 2, 3])])),
    ("0 wide", "prompts[0].box", row(prompts=[prompt(box=[1, 2, 0, 5])])),
    ("left of or above the frame", "prompts[0].box", row(prompts=[prompt(box=[-9, 2, 4, 5])])),
    ("is not a finite number", "prompts[0].box", row(prompts=[prompt(box=[1, 2, 3, float("nan")])])),
    ("is not a number", "prompts[0].box", row(prompts=[prompt(box=[1, 2, 3, "4"])])),
    ("is not an RLE", "prompts[0].rle", row(prompts=[prompt(box=..., rle={"counts": "a"})])),
    ("its counts are damaged", "prompts[0].rle", row(prompts=[prompt(box=..., rle=RLE | {"size": [6, 8]})])),
    ("its runs cover 5 pixels", "prompts[0].rle", row(prompts=[prompt(box=..., rle=RLE | {"counts": [2, 3]})])),
    ("is below 1", "prompts[0].rle", row(prompts=[prompt(box=..., rle=RLE | {"size": [0, 9]})])),
    ("not ASCII", "prompts[0].rle", row(prompts=[prompt(box=..., rle=RLE | {"counts": "ü"})])),
    ("is not true or false", "prompts[0].complete", row(prompts=[prompt(complete=1)])),
    ("it is empty", "prompts[0].label", row(prompts=[prompt(label="")])),
    ("two prompts on frame 0", "prompt 2", row(prompts=[BOX, BOX])),
    ("several prompts", "prompt 2", row(prompts=[BOX, prompt(frame=3, object_id=...)])),
    ("is called 'cat' and 'dog'", "label", row(prompts=[prompt(label="dog")], labels={"1": "cat"})),
    ("has a label, but no prompt", "labels", row(labels={"2": "cat"})),
    ("is not an object", "labels", row(labels=["cat"])),
    ("is not a whole number", "labels", row(labels={"one": "cat"})),
    ("is below 0", "start", row(start=-1)),
    ("is not after start", "end", row(start=9, end=9)),
    ("is below 1", "stride", row(stride=0)),
]


def test_every_kind_of_bad_row_is_reported_at_once():
    records = []
    for number, (_, _, bad) in enumerate(BAD_ROWS):
        if isinstance(bad, dict) and bad.get("video") == "a.mp4":
            bad = bad | {"video_id": bad.get("video_id", f"v{number}")}
        records += [bad, row(video=f"good{number}.mp4")]
    found = {problem.row: problem for problem in problems(jsonl(*records))}
    assert len(BAD_ROWS) >= 25 and list(found) == list(range(1, 2 * len(BAD_ROWS), 2))
    for number, (reason, column, _) in enumerate(BAD_ROWS):
        problem = found[2 * number + 1]
        assert reason in problem.reason and problem.column == column, problem


def test_several_problems_of_one_row_are_all_reported():
    found = problems(jsonl({"vidoe": "x", "start": -1, "prompts": [{"frame": -1}, 5]}))
    assert [(problem.column, problem.row) for problem in found] == [
        ("vidoe", 1),
        ("video", 1),
        ("start", 1),
        ("prompts[0]", 1),
        ("prompts[0].frame", 1),
        ("prompts[1]", 1),
    ]
    assert "Perhaps 'video' is meant" in found[0].remedy


def test_video_ids_are_unique_also_against_bad_rows():
    found = problems(jsonl(row(video="x/a.mp4", stride=0), row(video="y/a.mp4"), row(video="b.mp4"), row(video_id="b")))
    assert [(problem.row, problem.column) for problem in found] == [(1, "stride"), (2, "video_id"), (4, "video_id")]


def test_error_survives_the_way_between_processes():
    error = ManifestError("m.jsonl", problems(jsonl(row(stride=0))))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.problems == error.problems


def test_messages_hold_no_credentials():
    data = jsonl(
        row(video="https://user:hunter2@host/a.mp4?sig=hunter2 "), row(video="https://u:hunter2@h/?hunter2", start=-1)
    )
    with pytest.raises(ManifestError) as caught:
        parse_manifest("https://user:hunter2@host/m.jsonl?sig=hunter2", data, "https://user:hunter2@host")
    assert len(caught.value.problems) == 2 and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("m.jsonl", b"", "it has no rows"),
        ("m.jsonl", b"\n \n", "it has no rows"),
        ("m.csv", b"", "it has no rows"),
        ("m.csv", b"video,frame\n", "it has no rows"),
        ("m.txt", b"x", "its name ends with .txt"),
        ("manifest", b"x", "its name ends with no suffix"),
        ("m.parquet", b"PAR1 not really", "not a readable Parquet file"),
        ("m.csv", b"video,frame,frame\na,1,2\n", "the column stands twice"),
        ("m.csv", b"file,frame\na,1\n", "the column is missing"),
        ("m.csv", b'video,frame\n"a,1\n', "it is not CSV"),
        ("m.csv", "video,frame\nü,1\n".encode("latin-1"), "it is not UTF-8"),
    ],
)
def test_files_that_are_no_manifest(name, data, reason):
    found = problems(data, name)
    assert any(reason in problem.reason for problem in found)


def test_a_line_that_is_not_utf8_does_not_hide_the_others():
    data = jsonl(row()) + b"\n\xff\n" + jsonl(row(video="b.mp4", stride=0))
    assert [problem.row for problem in problems(data)] == [2, 3]


def test_jsonl_with_byte_order_mark_windows_lines_and_odd_separators():
    data = b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n\r\n"
    data += json.dumps(row(video="b\u2028c.mp4"), ensure_ascii=False).encode() + b"\r\n"
    assert [(found.row, found.video_id) for found in parse_manifest("m.jsonl", data, "/")] == [
        (1, "a"),
        (3, "b\u2028c"),
    ]


@pytest.mark.parametrize("value", [row(), [row(), row(video="b.mp4")]])
def test_json_over_several_lines_is_one_problem(value: object):
    (problem,) = problems(json.dumps(value, indent=2), "m.jsonl")
    assert (problem.row, problem.reason) == (1, "it is JSON over several lines")


def test_csv_merges_the_prompts_of_a_video():
    text = """video,video_id,frame,time,object_id,mask,box,label,complete,start,end,stride
a.mp4,,0,,1,,"1 2 3 4",cat,,,,2
a.mp4,,,00:00:03,2,m/2.png,,,true,,50,

b.mp4,bee,7,,,x.png,,,,,,
"""
    first, second = parse_manifest("m.CSV", text.encode("utf-8-sig"), "/base")
    assert first == VideoRow(
        2,
        "/base/a.mp4",
        "a",
        (
            Prompt(frame=0, object_id=1, box=(1.0, 2.0, 3.0, 4.0), label="cat"),
            Prompt(time_s=3.0, object_id=2, mask="/base/m/2.png", complete=True),
        ),
        end=50,
        stride=2,
    )
    assert (second.row, second.video_id, second.prompts) == (5, "bee", (Prompt(frame=7, mask="/base/x.png"),))
    assert first.label_of(1) == "cat"


def test_csv_of_a_table_that_knows_no_missing_whole_numbers():
    """pandas writes 2.0 where another row of the column is empty."""
    text = "video,frame,object_id,box,start\na.mp4,2.0,1.0,1 2 3 4,2.0\nb.mp4,0,1.0,1 2 3 4,\n"
    first, second = parse_manifest("m.csv", text.encode(), "/base")
    assert (first.start, first.prompts[0].frame, second.start) == (2, 2, None)
    assert [problem.column for problem in problems(text.replace("1.0", "1.5"), "m.csv")] == ["object_id", "object_id"]


def test_csv_with_prompts_as_json():
    text = 'video,prompts\na.mp4,"[{""frame"": 3, ""object_id"": 1, ""box"": [1, 2, 3, 4]}]"\n'
    (found,) = parse_manifest("m.csv", text.encode(), "/base")
    assert found.prompts == (Prompt(frame=3, object_id=1, box=(1.0, 2.0, 3.0, 4.0)),)


def test_bad_csv_rows_are_reported_at_once():
    text = """video,video_id,frame,time,object_id,mask,box,complete,stride,prompts
a.mp4,,x,,1,,1 2 3 4,,,
a.mp4,,1
b.mp4,,1,,1,,1 2 3,,,
c.mp4,,1,,1,,one two,,,
d.mp4,,1,,1,,1 2 3 4,maybe,,
e.mp4,,,1:99,1,,1 2 3 4,,,
x/f.mp4,f,1,,1,,1 2 3 4,,2,
y/f.mp4,f,1,,1,,1 2 3 4,,,
g.mp4,,1,,1,,1 2 3 4,,2,
g.mp4,,2,,1,,1 2 3 4,,3,
h.mp4,,1,,1,,1 2 3 4,,,[]
i.mp4,,,,,,,,,{
j.mp4,,,,,,,,,
"""
    found = problems(text, "m.csv")
    assert [(problem.row, problem.column) for problem in found] == [
        (2, "frame"),
        (3, ""),
        (4, "box"),
        (5, "box"),
        (6, "complete"),
        (7, "time"),
        (9, "video_id"),
        (11, "stride"),
        (12, "prompts"),
        (13, "prompts"),
        (13, "prompts"),
        (14, "prompts"),
    ]


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_parquet_with_nested_prompts():
    records = [
        {"video": "a.mp4", "video_id": None, "prompts": [BOX | {"box": [1.0, 2.0, 3.0, 4.0]}], "labels": [(1, "cat")]},
        {
            "video": "b.mp4",
            "video_id": "bee",
            "prompts": [{"time": 2.0, "object_id": 4, "mask": "m.png"}],
            "labels": None,
        },
    ]
    fields = {"frame": pa.int32(), "time": pa.float64(), "object_id": pa.int64(), "mask": pa.string()}
    kind = pa.struct({**fields, "box": pa.list_(pa.float64())})
    schema = pa.schema(
        {
            "video": pa.string(),
            "video_id": pa.string(),
            "prompts": pa.list_(kind),
            "labels": pa.map_(pa.int32(), pa.string()),
        }
    )
    first, second = parse_manifest("m.parquet", parquet(pa.Table.from_pylist(records, schema=schema)), "/base")
    assert first.prompts == (Prompt(frame=0, object_id=1, box=(1.0, 2.0, 3.0, 4.0)),) and first.labels == ((1, "cat"),)
    assert (second.row, second.prompts) == (2, (Prompt(time_s=2.0, object_id=4, mask="/base/m.png"),))


def test_flat_parquet_as_pandas_writes_it():
    """pandas turns whole numbers with gaps into floats, and gaps into nulls."""
    frame = pd.DataFrame(
        {
            "video": ["a.mp4", "a.mp4", "b.mp4"],
            "frame": [0, None, 5],
            "time": [None, 1.5, None],
            "object_id": [1, 2, 1],
            "box": [[1.0, 2.0, 3.0, 4.0], None, [1.0, 2.0, 3.0, 4.0]],
            "mask": [None, "m.png", None],
        }
    )
    sink = io.BytesIO()
    frame.to_parquet(sink)
    first, second = parse_manifest("m.parquet", sink.getvalue(), "/base")
    assert [(p.frame, p.time_s, p.object_id) for p in first.prompts] == [(0, None, 1), (None, 1.5, 2)]
    assert second.prompts[0].frame == 5 and second.row == 3


def test_parquet_with_unknown_columns_or_bad_rows():
    table = pa.table({"video": ["a.mp4"], "boxes": [[1.0]]})
    assert [problem.column for problem in problems(parquet(table), "m.parquet")] == ["boxes"]
    rows = pa.table({"video": ["a.mp4", None, "c.mp4"], "prompts": ["[", "[]", json.dumps([BOX | {"frame": -2}])]})
    found = problems(parquet(rows), "m.parquet")
    assert [(problem.row, problem.column) for problem in found if problem.row != 1] == [
        (2, "video"),
        (2, "prompts"),
        (3, "prompts[0].frame"),
    ]
    assert any(problem.row == 1 and "not JSON" in problem.reason for problem in found)


@pytest.mark.parametrize(
    "fields",
    [
        {"box": (1, 2, 3, 4)},
        {"frame": 1, "time_s": 1.0, "box": (1, 2, 3, 4)},
        {"frame": 1},
        {"frame": 1, "mask": "a", "box": (1, 2, 3, 4)},
        {"frame": -1, "mask": "a"},
        {"time_s": float("nan"), "mask": "a"},
        {"frame": 1, "mask": "a", "object_id": 0},
        {"frame": 1, "box": (1, 2, 3)},
    ],
)
def test_a_prompt_that_contradicts_itself_cannot_be_made(fields):
    with pytest.raises(ValueError):
        Prompt(**fields)
    with pytest.raises(ValueError, match="not a prompt"):
        Prompt.from_json(json.dumps(fields))
