"""Prompts of all kinds: from a manifest and back, what they say of themselves, equal text for what was there before."""

import json

import pytest

from schemas.manifest import ManifestError, parse_manifest
from schemas.manifest_record import row_record
from schemas.prompt import Prompt
from schemas.video_row import VideoRow
from stcn_core.detectors import DETECTORS

PROMPTS = [
    {"frame": 0, "object_id": 1, "box": [1, 2, 3, 4]},
    {"frame": 5, "object_id": 1, "absent": True},
    {"frame": 5, "object_id": 2, "points": [[10, 20.5, 1], [3, 4, 0]], "detector": "mask-rcnn", "classes": ["dog"]},
    {"frame": 7, "object_id": 3, "box": [1, 2, 3, 4], "detector": "pointrend", "matching": "nearest"},
    {"frame": 9, "object_id": 4, "mask": "/m.png", "detector": "lost-crf"},
    {"detector": "mask-rcnn-v2", "classes": ["person", "dog"], "max_objects": 3, "min_score": 0.25},
    {"detector": "mask-rcnn", "frames": [0, 50, 100], "object_id": 20, "max_objects": 2},
    {"detector": "lost", "candidates": 5},
]


def parsed(*prompts: dict, **more) -> VideoRow:
    record = {"video": "/a.mp4", "prompts": list(prompts)} | more
    return parse_manifest("m.jsonl", json.dumps(record).encode(), "/")[0]


def test_all_kinds_are_read_and_written_again():
    row = parsed(*PROMPTS)
    assert [prompt.kinds for prompt in row.prompts] == [
        ("box",), ("absent",), ("points",), ("box",), ("mask",), (), (), ()
    ]  # fmt: skip
    assert [prompt.finds for prompt in row.prompts] == [False] * 5 + [True] * 3
    assert [prompt.detects for prompt in row.prompts] == [False] * 2 + [True] * 6
    assert row.prompts[2].points == ((10.0, 20.5, 1), (3.0, 4.0, 0))
    assert row.objects_expected == 4 + 3 + 2 + 1
    for prompt in row.prompts:
        assert Prompt.from_json(prompt.to_json()) == prompt
    again = parse_manifest("m.jsonl", json.dumps(row_record(row)).encode(), "/")[0]
    assert again.prompts == row.prompts


def test_what_was_there_before_is_written_as_before():
    old = Prompt(frame=3, object_id=2, box=(1.0, 2.0, 3.0, 4.0), label="cat")
    assert old.to_json() == '{"box": [1.0, 2.0, 3.0, 4.0], "frame": 3, "label": "cat", "object_id": 2}'


def test_csv_has_the_same_columns():
    text = (
        "video,frame,object_id,points,detector,classes,absent,frames,min_score\n"
        'a.mp4,4,1,"[[1, 2, 1]]",,,,,\n'
        "a.mp4,5,1,,,,true,,\n"
        'a.mp4,,,,mask-rcnn,"person, dog",,0 10 20,0.3\n'
    )
    points, absent, detector = parse_manifest("m.csv", text.encode(), "/")[0].prompts
    assert points.points == ((1.0, 2.0, 1),) and absent.absent
    assert (detector.classes, detector.frames, detector.min_score) == (("person", "dog"), (0, 10, 20), 0.3)


def test_rows_without_prompts_only_where_the_run_has_a_detector():
    data = b'{"video": "a.mp4"}\n{"video": "b.mp4", "prompts": []}\n'
    with pytest.raises(ManifestError, match="2 problems"):
        parse_manifest("m.jsonl", data, "/")
    assert [row.prompts for row in parse_manifest("m.jsonl", data, "/", bare=True)] == [(), ()]
    with pytest.raises(ManifestError, match="the name is unknown"):
        parse_manifest("m.jsonl", b'{"video": "a.mp4", "promts": []}', "/", bare=True)


def test_a_label_without_an_object_of_its_own_is_not_given_to_others():
    row = parsed({"frame": 0, "object_id": 1, "box": [1, 2, 3, 4]}, {"detector": "lost", "label": "thing"})
    assert row.label_of(1) is None


def test_the_names_are_those_of_the_detectors():
    from schemas.prompt import DETECTORS as NAMES

    assert tuple(DETECTORS) == NAMES


def test_more_objects_than_are_kept_are_refused():
    parsed({"detector": "lost", "max_objects": 50})
    with pytest.raises(ManifestError, match="max_objects 2000000000 is above 50"):
        parsed({"detector": "lost", "object_id": 1, "max_objects": 2_000_000_000})


def test_what_a_detector_found_may_be_corrected_on_its_frame():
    finds, mask = {"detector": "lost", "frame": 3, "object_id": 1}, {"frame": 3, "object_id": 1, "mask": "m.png"}
    assert len(parsed(finds, mask).prompts) == 2
    with pytest.raises(ManifestError, match="two prompts on frame 3"):
        parsed({"frame": 3, "object_id": 1, "box": [1, 1, 5, 5]}, mask)
