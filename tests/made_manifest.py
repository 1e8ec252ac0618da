"""Manifests for tests: a row, a prompt, and what is wrong with them."""

import json

import pytest

from schemas.manifest import ManifestError, parse_manifest

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
