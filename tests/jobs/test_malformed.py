"""Two hundred malformed inputs: no crash of the job, and no failure without an explanation."""

import json
import random
from pathlib import Path

import pytest
from made_corpus import annotate, table_rows, write_checkpoint
from made_mutations import MUTATIONS, mutated, write_sources

from schemas.manifest import ManifestError, parse_manifest
from schemas.videos import STATUSES

PER_KIND = 13  # of twelve ways to damage a file
MANIFESTS = 60


def test_a_job_over_damaged_videos_explains_every_failure(tmp_path: Path):
    sources = write_sources(tmp_path)
    rows = []
    for mutation in MUTATIONS:
        for number in range(PER_KIND):
            name = sorted(sources)[(number + 3 * len(rows)) % len(sources)]
            path = tmp_path / f"{mutation} {number} {name}"
            path.write_bytes(mutated(name, sources[name], mutation, number + 1))
            box = {"frame": 0, "object_id": 1, "box": [5, 5, 20, 20]}
            rows.append({"video": path.name, "video_id": f"{mutation} {number}", "prompts": [box]})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = annotate(manifest, tmp_path / "out", write_checkpoint(tmp_path), "--actors", "2", "--end", "40")
    assert done.returncode == 3, done.stderr
    videos = {row["video_id"]: row for row in table_rows(tmp_path / "out", "videos")}
    assert set(videos) == {row["video_id"] for row in rows}
    statuses = [row["status"] for row in videos.values()]
    assert set(statuses) == set(STATUSES), "the damage is too little or too much to say something"
    failures = {row["video_id"]: row for row in table_rows(tmp_path / "out", "failures") if row["terminal"]}
    for name, row in videos.items():
        if row["status"] == "failed":
            assert len(failures[name]["message"]) > 20 and failures[name]["error_class"] != "internal", failures[name]
        if row["status"] == "truncated":
            assert row["message"] and row["frames_annotated"] > 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_damaged_manifests_are_refused_with_reasons_or_read(kind: str, tmp_path: Path):
    data = _manifest(kind, tmp_path)
    ways = sorted(MUTATIONS)
    refused = 0
    for number in range(MANIFESTS):
        damaged = mutated(kind, data, ways[number % len(ways)], number + 1)
        try:
            rows = parse_manifest(f"m.{kind}", damaged, "file:///videos")
        except ManifestError as error:
            refused += 1
            assert len(str(error)) > 20 and error.problems
        else:
            assert all(row.video and row.video_id and row.prompts for row in rows)
    assert refused > MANIFESTS // 4


def _manifest(kind: str, folder: Path) -> bytes:
    draw = random.Random(0)
    boxes = [[draw.randrange(30), draw.randrange(30), 5, 5] for _ in range(30)]
    if kind == "jsonl":
        rows = [
            {"video": f"{n}.mp4", "prompts": [{"frame": n, "object_id": 1, "box": box}]} for n, box in enumerate(boxes)
        ]
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    lines = ["video,frame,object_id,box", *(f"{n}.mp4,{n},1,{' '.join(map(str, b))}" for n, b in enumerate(boxes))]
    if kind == "csv":
        return "\n".join(lines).encode()
    import pyarrow.csv
    import pyarrow.parquet

    (folder / "m.csv").write_text("\n".join(lines))
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(folder / "m.csv"), folder / "m.parquet")
    return (folder / "m.parquet").read_bytes()
