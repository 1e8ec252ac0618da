"""`python -m jobs.plan`: the forecast of a real corpus, with bad videos in it. Writes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_corpus import ROOT, SETTINGS, environment, write_checkpoint, write_corpus

from cluster.inspect import rate
from cluster.stores.storage import Storage
from jobs.plan import main

RATE = ["--frames-per-second", "20"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two good videos, one missing, one that is text."""
    manifest = write_corpus(tmp_path, videos=2, frames=30)
    row = json.loads(manifest.read_text().splitlines()[0])
    (tmp_path / "letter.mp4").write_text("dear")
    with manifest.open("a") as file:
        for name in ("letter", "nowhere"):
            file.write(json.dumps(row | {"video": f"{name}.mp4", "video_id": name}) + "\n")
    write_checkpoint(tmp_path)
    return tmp_path


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def planned(corpus: Path, capsys: pytest.CaptureFixture, *more: str) -> dict:
    command = ["--manifest", str(corpus / "manifest.jsonl"), "--checkpoint", str(corpus / "tiny.safetensors")]
    assert main([*command, *SETTINGS, "--json", *more]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_what_it_says_and_that_it_writes_nothing(
    corpus: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    before = everything(corpus)
    monkeypatch.chdir(corpus)
    found = planned(corpus, capsys, *RATE, "--actors", "2", "--output", str(corpus / "out"))
    assert everything(corpus) == before and not (corpus / "out").exists()
    assert found["videos"] == 2 and found["frames"] == 63 and found["units"] == {"whole": 2}
    assert found["device_seconds"] == pytest.approx(63 / 20) and found["masks"] == 126
    assert {video["video_id"] for video in found["unreadable"]} == {"letter", "nowhere"}
    assert all(video["reason"] and video["row"] > 2 for video in found["unreadable"])
    assert found["rate"] == "20 frames/s per actor, as given"


def test_the_rate_is_measured_where_none_is_given(
    corpus: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rate, "SECONDS", 0.2)
    found = planned(corpus, capsys)
    assert "measured on this machine (CPU, 1 thread(s))" in found["rate"] and "with 4 memory frames" in found["rate"]
    assert found["device_seconds"] > 0 and found["frames_per_second"] > 0
    causal = planned(corpus, capsys, "--burn-in-passes", "0")
    assert "measured on this machine" in causal["rate"] and causal["banks"] == 0
    averaged = planned(corpus, capsys, "--threads", "1", "--memory-frames", "2", "--scales", "32,48", "--flip")
    assert "with 2 memory frames" in averaged["rate"]


def test_settings_decide_the_units(corpus: Path, capsys: pytest.CaptureFixture):
    found = planned(corpus, capsys, *RATE, "--segment-frames", "5", "--group-frames", "5", "--only", "v-1")
    assert found["videos"] == 1 and found["frames"] == 33 and found["units"] == {"whole": 1}
    assert planned(corpus, capsys, *RATE, "--end", "7", "--only", "v-1")["frames"] == 7


def test_bad_arguments(corpus: Path, capsys: pytest.CaptureFixture):
    manifest = ["--manifest", str(corpus / "manifest.jsonl")]
    for arguments, text in (
        (["--manifest", str(corpus / "no.jsonl")], "no.jsonl"),
        ([*manifest, "--checkpoint", str(corpus / "none.pth")], "none.pth"),
        ([*manifest, "--only", "somebody"], "somebody"),
        ([*manifest, "--start", "5", "--end", "2"], "--end"),
        ([*manifest, "--checkpoint", str(corpus / "letter.mp4")], "letter.mp4"),
    ):
        assert main(arguments) == 2
        assert text in capsys.readouterr().err
    for wrong in (["--frames-per-second", "0"], ["--frames-per-second", "fast"]):
        with pytest.raises(SystemExit):
            main([*manifest, *wrong])


def test_another_run_in_the_output_is_refused(corpus: Path, capsys: pytest.CaptureFixture):
    from made_output import write_output

    write_output(corpus / "out")
    before = everything(corpus / "out")
    command = ["--manifest", str(corpus / "manifest.jsonl"), "--output", str(corpus / "out"), *RATE]
    assert main(command) == 5
    assert "--segment-frames: 10 -> 1000" in capsys.readouterr().err
    assert everything(corpus / "out") == before


def test_s3_and_nothing_published(corpus: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Any attempt to write would fail here."""

    def refuse(*_: object) -> None:
        raise AssertionError("a dry run writes")

    for name in ("publish", "create", "delete", "probe"):
        monkeypatch.setattr(Storage, name, refuse)
    assert planned(corpus, capsys, *RATE, "--output", "memory://nowhere")["videos"] == 2


def test_ray_is_not_needed_and_torch_only_to_measure(corpus: Path):
    arguments = ["--manifest", str(corpus / "manifest.jsonl"), *SETTINGS, *RATE]
    code = (
        "import sys\nfor name in ('torch', 'ray'): sys.modules[name] = None\n"
        f"from jobs.plan import main\nsys.exit(main({arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "videos:  2 to do" in done.stdout and "unreadable: 2" in done.stdout
