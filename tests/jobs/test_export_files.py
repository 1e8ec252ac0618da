"""jobs.export: files in its way, files that it makes on the way, and options that a format has no use for."""

import errno
import json
from pathlib import Path

import pytest
from made_export import Clip, block, write_clips
from made_output import MadeVideo, write_output
from PIL import Image

from jobs.export import main as export
from jobs.import_masks import main as import_masks
from schemas.convert import sa_v
from schemas.convert.output import MasksOutput


@pytest.fixture
def out(tmp_path) -> Path:
    """An output with the videos cat and dog."""
    write_output(tmp_path / "out", [MadeVideo("cat"), MadeVideo("dog")])
    return tmp_path / "out"


def videos_in(file: Path) -> list[str]:
    return [video["name"] for video in json.loads(file.read_text())["videos"]]


@pytest.mark.parametrize("form", ["coco", "youtube-vis", "burst"])
def test_one_file_for_all_videos_never_loses_or_keeps_some_in_silence(out, tmp_path, capsys, form):
    command = ["--masks", str(out), "--format", form, "--to", str(tmp_path / "to")]
    file = tmp_path / "to" / f"{form}.json"
    assert export([*command, "--only", "dog"]) == 0
    one = file.read_bytes()
    # What was exported while the run went on is not what all videos are.
    for more in (["--skip-existing"], []):
        assert export([*command, *more]) == 2
        assert f"{form}.json is there already" in capsys.readouterr().err
    assert export([*command, "--overwrite"]) == 0
    both = file.read_bytes()
    assert both != one
    assert export([*command, "--overwrite", "--only", "dog"]) == 2
    assert "may hold other videos" in capsys.readouterr().err and file.read_bytes() == both
    if form == "coco":
        assert videos_in(file) == ["cat", "dog"]


def test_many_files_are_looked_up_in_one_listing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jobs.export.FEW", 1)
    write_output(tmp_path / "out", [MadeVideo(name) for name in ("a", "b", "c")])
    command = ["--masks", str(tmp_path / "out"), "--format", "sa-v", "--to", str(tmp_path / "to")]
    assert export([*command, "--only", "a", "--only", "b"]) == 0
    assert export(command) == 2
    assert "has 2 of the files already (such as a_auto.json)" in capsys.readouterr().err
    assert export([*command, "--skip-existing"]) == 0
    assert "3 videos in 1 files" in capsys.readouterr().out


def test_a_full_scratch_disk_is_named(out, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sa_v, "write_json", full)
    (tmp_path / "scratch").mkdir()
    command = ["--masks", str(out), "--format", "sa-v", "--to", str(tmp_path / "to")]
    assert export([*command, "--scratch", str(tmp_path / "scratch")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'scratch'}/stcn-export-" in error and "(see --scratch) cannot be written" in error
    assert str(out) not in error and list((tmp_path / "scratch").iterdir()) == []


def test_a_scratch_folder_that_is_not_there_is_named(out, tmp_path, capsys):
    command = ["--masks", str(out), "--format", "sa-v", "--to", str(tmp_path / "to")]
    assert export([*command, "--scratch", str(tmp_path / "nowhere")]) == 2
    assert f"{tmp_path}/nowhere (see --scratch) cannot be written: it does not exist" in capsys.readouterr().err


def test_images_of_one_name_are_told_apart(tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "1.png", "2.jpg"):
        Image.new("RGB", (32, 24)).save(folder / name)
    masks = {frame: {1: block(frame, 2)} for frame in range(3)}
    write_clips(tmp_path / "out", [Clip("clip", range(3), masks, {1: "cat"}, 3, None, folder)])
    assert export(["--masks", str(tmp_path / "out"), "--format", "davis", "--to", str(tmp_path / "to")]) == 0
    assert "2 of its images are called 1" in capsys.readouterr().err
    names = sorted(path.name for path in (tmp_path / "to").rglob("*.png"))
    assert names == ["00000.png", "00001.png", "00002.png"]


def test_shards_are_not_opened_to_look_for_names_that_only_imports_have(out, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(MasksOutput, "_recorded", lambda *_: opened.append(_) or (None, None))
    for form in ("davis", "sa-v"):
        assert export(["--masks", str(out), "--format", form, "--to", str(tmp_path / form)]) == 0
    assert opened == []
    back = str(tmp_path / "back")
    assert import_masks(["--from", str(tmp_path / "davis"), "--format", "davis", "--to", back]) == 0
    assert export(["--masks", back, "--format", "davis", "--to", str(tmp_path / "again")]) == 0
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("command", "form", "option"),
    [
        (export, "sa-v", "--frame-names index"),
        (export, "coco", "--meta m.json"),
        (export, "davis", "--split val"),
        (import_masks, "davis", "--stride 5"),
        (import_masks, "coco", "--first-frame 100"),
        (import_masks, "sa-v", "--frames order"),
        (import_masks, "davis", "--files *.json"),
    ],
)
def test_options_that_the_format_has_no_use_for_are_refused(tmp_path, capsys, command, form, option):
    source = "--masks" if command is export else "--from"
    with pytest.raises(SystemExit) as ended:
        command([source, str(tmp_path), "--format", form, "--to", str(tmp_path / "to"), *option.split()])
    assert ended.value.code == 2
    assert f"{option.split()[0]} is for --format " in capsys.readouterr().err


@pytest.mark.parametrize("form", ["coco", "youtube-vis", "burst"])
def test_a_label_that_reads_as_none_is_counted(tmp_path, capsys, form):
    write_clips(tmp_path / "out", [Clip("clip", range(1), {0: {1: block(1, 2)}}, {1: "object"}, 1)])
    assert export(["--masks", str(tmp_path / "out"), "--format", form, "--to", str(tmp_path / "to")]) == 0
    assert '1 labels "object" (they read as none)' in capsys.readouterr().out
