"""The manifest as JSON lines, CSV and Parquet, and files that are none of these."""

import io
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_manifest import BOX, jsonl, problems, row

from schemas.manifest import VideoRow, parse_manifest
from schemas.prompt import Prompt


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
