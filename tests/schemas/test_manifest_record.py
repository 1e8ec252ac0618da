"""Rows written down again read back equal; suggestions that nobody filled in are left out and counted."""

import json
from dataclasses import replace

import pytest

from schemas.manifest import ManifestError, VideoRow, parse_manifest
from schemas.manifest_record import row_record
from schemas.prompt import Prompt

ROW = VideoRow(
    1, "s3://b/ü.mp4", "ü \"x\" <b>",
    (
        Prompt(frame=0, object_id=3, mask="s3://b/a.png", complete=True),
        Prompt(time_s=12.25, object_id=4, box=(1.0, 2.5, 3.0, 4.0), label="cat"),
        Prompt(frame=7, object_id=3, rle=(2, 2, b"13")),
    ),
    start=3, end=90, stride=2, labels=((3, "dog"),),
)  # fmt: skip


def parsed(*records: dict) -> tuple[VideoRow, ...]:
    text = "".join(json.dumps(record) + "\n" for record in records)
    return parse_manifest("m.jsonl", text.encode(), "s3://b/folder")


def test_a_row_reads_back_equal():
    assert parsed(row_record(ROW)) == (ROW,)


def test_suggestions_without_a_mask_are_left_out_and_counted_and_filled_ones_are_prompts():
    record = row_record(ROW)
    empty = {"frame": 50, "object_id": 3, "mask": None, "suggested": {"doubt": 0.5}}
    (row,) = parsed({**record, "prompts": [*record["prompts"], empty, {**empty, "frame": 60}]})
    assert row == replace(ROW, unfilled=2)
    (row,) = parsed({**record, "prompts": [*record["prompts"], empty, {**empty, "mask": "new.png"}]})
    assert row.unfilled == 1
    assert row.prompts == (*ROW.prompts, Prompt(frame=50, object_id=3, mask="s3://b/folder/new.png"))


def test_a_null_mask_that_nobody_suggested_is_a_problem_as_before():
    record = row_record(ROW)
    with pytest.raises(ManifestError, match="none of mask"):
        parsed({**record, "prompts": [*record["prompts"], {"frame": 50, "object_id": 3, "mask": None}]})
    with pytest.raises(ManifestError, match="list is empty"):
        parsed({**record, "prompts": [{"frame": 50, "object_id": 3, "suggested": {}}]})
