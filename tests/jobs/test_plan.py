"""`python -m jobs.plan`: the forecast of a real corpus, with bad videos in it. Writes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_corpus import ROOT, SETTINGS, environment, table_rows, write_checkpoint, write_corpus
from made_runs import run_here
from made_videos import write_video

from cluster import planning
from cluster.inspect import rate
from cluster.stores.posix_publish import file_digest
from cluster.stores.storage import Storage
from jobs import annotate
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


def run_stand_in(corpus: Path, output: Path, *names: str) -> Storage:
    """What jobs.annotate would leave with the arguments of `planned`, of the videos named (all that can be read)."""
    names = names or ("v-0", "v-1")
    only = [word for name in names for word in ("--only", name)]
    command = ["--manifest", str(corpus / "manifest.jsonl"), *SETTINGS, "--output", str(output), *only]
    args = annotate.parser().parse_args(command)
    config = annotate.run_config(args, "tiny.safetensors", file_digest(corpus / "tiny.safetensors"))
    storage = Storage(str(output))
    run_here(storage, annotate.manifest_rows(args), config, corpus / "scratch")
    return storage


def test_what_is_taken_over_is_not_forecast(
    corpus: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    earlier = run_stand_in(corpus, corpus / "earlier")
    manifest = corpus / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[1]["prompts"].append({"frame": 9, "object_id": 8, "box": [1, 1, 9, 9]})
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    looked: list[str] = []
    real = planning.probe_sources
    monkeypatch.setattr(planning, "probe_sources", lambda urls, *a, **k: looked.extend(urls) or real(urls, *a, **k))
    reuse = ["--reuse", earlier.url]
    for more in ([], ["--output", str(corpus / "new")]):
        found = planned(corpus, capsys, *RATE, *reuse, *more)
        assert (found["videos"], found["done_before"], found["frames"]) == (1, 0, 33)
        assert found["taken_over"] == {"videos": 1, "shards": 1, "bytes": sizes(earlier, "v-0")}
        assert len(found["unreadable"]) == 2
    assert not (corpus / "new").exists() and not any("video 0" in url for url in looked)
    run_stand_in(corpus, corpus / "new", "v-0")  # done by now: nothing is left to be taken over
    found = planned(corpus, capsys, *RATE, *reuse, "--output", str(corpus / "new"))
    assert (found["videos"], found["done_before"], found["taken_over"]["videos"]) == (1, 1, 0)
    assert planned(corpus, capsys, *RATE)["taken_over"] is None


def sizes(storage: Storage, video_id: str) -> int:
    """Bytes of a video's shards."""
    (row,) = (row for row in table_rows(Path(storage.url), "videos") if row["video_id"] == video_id)
    return sum(shard["bytes"] for shard in row["shards"])


def test_the_run_takes_over_what_was_forecast(corpus: Path, capsys: pytest.CaptureFixture):
    """All of it, so that no Ray is needed."""
    earlier = run_stand_in(corpus, corpus / "earlier").url
    more = ["--reuse", earlier, "--output", str(corpus / "new"), "--only", "v-0", "--only", "v-1"]
    found = planned(corpus, capsys, *RATE, *more)
    assert (found["videos"], found["taken_over"]["videos"], found["taken_over"]["shards"]) == (0, 2, 2)
    command = ["--manifest", str(corpus / "manifest.jsonl"), "--checkpoint", str(corpus / "tiny.safetensors")]
    assert annotate.main([*command, *SETTINGS, *more]) == 0
    assert "took over 2 shard(s) of 2 whole video(s)" in capsys.readouterr().err
    assert sum(Storage(str(corpus / "new")).list("masks").values()) == found["taken_over"]["bytes"]


def test_segments_that_are_taken_over_are_not_forecast(corpus: Path, capsys: pytest.CaptureFixture):
    film = write_video(corpus / "long.mp4", 105, size=(48, 64))
    row = {"video": film.name, "video_id": "long", "prompts": [{"frame": 0, "object_id": 1, "box": [9, 9, 9, 9]}]}
    (corpus / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    earlier = run_stand_in(corpus, corpus / "earlier", "long")
    every = planned(corpus, capsys, *RATE)
    shards = sorted(earlier.list("masks"))
    earlier.delete(shards.pop())
    found = planned(corpus, capsys, *RATE, "--reuse", earlier.url)
    assert every["units"]["segment"] == 1 + len(shards) and found["units"] == {"burn-in": 1, "segment": 1}
    assert found["frames"] < every["frames"] == 105 and found["videos"] == 1
    assert (found["taken_over"]["videos"], found["taken_over"]["shards"]) == (0, len(shards))


def test_what_cannot_be_taken_over_is_refused(corpus: Path, capsys: pytest.CaptureFixture):
    earlier = run_stand_in(corpus, corpus / "earlier").url
    command = [
        "--manifest",
        str(corpus / "manifest.jsonl"),
        "--checkpoint",
        str(corpus / "tiny.safetensors"),
        *SETTINGS,
    ]
    for more, code, text in (
        (["--reuse", earlier, "--resolution", "240"], 5, "--resolution: 480 -> 240"),
        (["--reuse", earlier, "--output", earlier], 2, "is the --output itself"),
        (["--reuse", str(corpus / "none")], 2, "holds no _run/config.json"),
    ):
        assert main([*command, *RATE, *more]) == code
        assert text in capsys.readouterr().err


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
