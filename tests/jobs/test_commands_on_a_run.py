"""plan, status, verify and compact on what `jobs.annotate` really leaves; and its repair after damage."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_corpus import SETTINGS, annotate, read_rows, rows_hash, table_rows, write_checkpoint, write_corpus

from jobs.compact import main as compact
from jobs.plan import main as plan
from jobs.status import main as status
from jobs.verify import main as verify


def output_of(command, capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, dict]:
    capsys.readouterr()
    code = command([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out or "{}")


def test_a_run_from_plan_to_repair(tmp_path: Path, capsys: pytest.CaptureFixture):
    manifest, checkpoint = write_corpus(tmp_path, videos=1, frames=112), write_checkpoint(tmp_path)
    row = json.loads(manifest.read_text())
    (tmp_path / "letter.mp4").write_text("dear")
    with manifest.open("a") as file:
        file.write(json.dumps(row | {"video": "letter.mp4", "video_id": "letter"}) + "\n")
        file.write(json.dumps(row | {"video_id": "short", "end": 20}) + "\n")
    out, command = tmp_path / "out", ["--manifest", manifest, "--checkpoint", checkpoint, *SETTINGS]
    command += ["--output", out, "--frames-per-second", "10"]

    code, before = output_of(plan, capsys, *command)
    assert code == 0 and not out.exists()
    assert before["units"] == {"burn-in": 1, "segment": 3, "whole": 1} and before["frames"] == 132
    assert [video["video_id"] for video in before["unreadable"]] == ["letter"]

    ran = annotate(manifest, out, checkpoint)
    assert ran.returncode == 3, ran.stderr
    planned = pq.read_table(out / "_run/plan.parquet").to_pylist()
    kinds = [unit["kind"] for unit in planned if unit["video_id"] != "letter"]
    assert {kind: kinds.count(kind) for kind in kinds} == before["units"]
    code, after = output_of(plan, capsys, *command)
    assert (code, after["videos"], after["done_before"], after["failed_before"]) == (0, 0, 2, 1)
    code, again = output_of(plan, capsys, *command, "--retry-failed", "not-a-video")
    assert (code, len(again["unreadable"]), again["failed_before"]) == (0, 1, 0)

    code, found = output_of(status, capsys, out)
    assert code == 0 and found["state"] == "done"
    assert (found["videos"], found["done"], found["failed"], found["left"]) == (3, 2, 1, 0)
    assert found["units"]["segment"] == {"done": 3, "planned": 3} and found["units"]["burn-in"]["done"] == 1
    assert found["failures"][0]["error_class"] == "not-a-video" and found["failures"][0]["remedy"]
    code, verdict = output_of(verify, capsys, out, "--all-masks")
    assert (code, verdict["findings"]) == (0, [])

    rows = read_rows(out)
    assert output_of(compact, capsys, out, "--to", tmp_path / "to")[0] == 0
    assert rows_hash(read_rows(tmp_path / "to")) == rows_hash(rows)
    assert output_of(verify, capsys, tmp_path / "to", "--all-masks")[0] == 0
    refused = annotate(manifest, tmp_path / "to", checkpoint)
    assert refused.returncode == 5 and "another schema" in refused.stderr

    shards = [f"masks/{shard['unit_id']}.parquet" for shard in long_video(out)["shards"]]
    data = bytearray((out / shards[0]).read_bytes())
    data[len(data) // 4] ^= 1
    (out / shards[0]).write_bytes(data)
    (out / shards[1]).unlink()
    next((out / "tracks").iterdir()).unlink()
    code, verdict = output_of(verify, capsys, out)
    found = {(finding["kind"], finding["file"]) for finding in verdict["findings"]}
    assert code == 1 and {("damaged", shards[0]), ("lost", shards[1])} <= found
    # As the findings say: what is damaged is deleted, and the same command run again.
    (out / shards[0]).unlink()
    ran = annotate(manifest, out, checkpoint)
    assert ran.returncode == 3, ran.stderr
    assert output_of(verify, capsys, out)[0] == 0
    assert rows_hash(read_rows(out)) == rows_hash(rows)


def long_video(out: Path) -> dict:
    return next(row for row in table_rows(out, "videos") if len(row["shards"] or ()) > 1)
