"""`python -m jobs.compact` and `python -m jobs.verify` as commands: arguments, exit codes, what they print."""

import json
from pathlib import Path

import pytest
from made_output import VIDEOS, write_output

from jobs.compact import main as compact
from jobs.verify import main as verify


def test_compact_then_verify(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_output(tmp_path / "out")
    assert compact([str(tmp_path / "out"), "--to", str(tmp_path / "to"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["shards"] == 1 and record["videos"] == 3 and record["rows"] > 0
    assert compact([str(tmp_path / "out"), "--to", str(tmp_path / "to")]) == 0
    assert "1 were there already" in capsys.readouterr().out
    assert verify([str(tmp_path / "to"), "--all-masks"]) == 0
    assert ": sound" in capsys.readouterr().out


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_output(tmp_path / "out", unfinished=[VIDEOS[0].video_id])
    out = str(tmp_path / "out")
    for arguments, text in (
        ([out, "--to", str(tmp_path / "to")], "--allow-unfinished"),
        ([out, "--to", out + "/inside"], "lie in each other"),
        ([out, "--to", out], "lie in each other"),
        ([str(tmp_path / "nowhere"), "--to", str(tmp_path / "to")], "does not exist"),
    ):
        assert compact(arguments) == 2
        assert text in capsys.readouterr().err
    for arguments in ([out], [out, "--to", "x", "--shard-mib", "0"], [out, "--to", "x", "--processes", "0"]):
        with pytest.raises(SystemExit) as stop:
            compact(arguments)
        assert stop.value.code == 2


def test_a_damaged_source_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_output(tmp_path / "out")
    (tmp_path / "out" / VIDEOS[0].shards()[0]).write_bytes(b"")
    assert compact([str(tmp_path / "out"), "--to", str(tmp_path / "to")]) == 1
    error = capsys.readouterr().err
    assert VIDEOS[0].shards()[0] in error and "jobs.verify" in error


def test_exit_codes_of_verify(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_output(tmp_path / "out", unfinished=[VIDEOS[0].video_id])
    out = str(tmp_path / "out")
    assert verify([out, "--processes", "1"]) == 6
    assert "sound, but unfinished (1 unfinished)" in capsys.readouterr().out
    (tmp_path / "out" / VIDEOS[1].shards()[0]).unlink()
    assert verify([out, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["counts"] == {"lost": 1, "unfinished": 1}
    assert verify([str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        verify([out, "--processes", "0"])
