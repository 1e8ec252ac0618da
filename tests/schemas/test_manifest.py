"""The manifest's rows, and everything that can be wrong with them, reported all at once."""

import json
import pickle

import numpy as np
import pytest
from made_manifest import BOX, jsonl, problems, prompt, row
from pycocotools import mask as coco

from schemas.manifest import ManifestError, VideoRow, parse_manifest
from schemas.prompt import Prompt

MASK = np.asfortranarray(np.eye(6, 9, dtype=np.uint8))
COUNTS = coco.encode(MASK)["counts"]
RLE = {"size": [6, 9], "counts": COUNTS.decode()}


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
