"""`jobs.manifest` on small data sets: what is given by each benchmark's rules, read back as annotate reads it."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_evaluation import block, write_truth
from PIL import Image

from jobs import manifest
from schemas.manifest import VideoRow, parse_manifest
from stcn_core.prompts import resolve_prompts

SIZE = (24, 32)


def images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / f"{name}.jpg")


def rows(tmp_path: Path, *words: str) -> dict[str, VideoRow]:
    target = tmp_path / "made" / "m.jsonl"
    kind, *rest = words
    assert manifest.main([kind, str(tmp_path / "data"), "--to", str(target), "--overwrite", *rest]) == 0
    return {row.video_id: row for row in parse_manifest(str(target), target.read_bytes(), str(target.parent))}


def given(row: VideoRow) -> dict[int, dict[int, int]]:
    """frame -> object id -> area of what the manifest gives, read as a unit reads it."""
    found = resolve_prompts(row.prompts, SIZE, lambda seconds: 0, lambda url: Path(url).read_bytes())
    return {frame: {i: int(mask.sum()) for i, mask in here.given.items()} for frame, here in found.frames.items()}


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    a, b = block(0, 0), block(16, 8)
    for name in ("bear", "dogs", "train-only"):
        images(root / "JPEGImages/480p" / name, ["00000", "00001", "00002"])
        write_truth(root / "Annotations/480p" / name, [a + 2 * b, a + 2 * b, a + 2 * b + 3 * block(0, 16)])
    (root / "ImageSets").mkdir()
    (root / "ImageSets/2017.txt").write_text("dogs\nbear\n\n")
    lines = [f"/JPEGImages/480p/bear/{n:05d}.jpg /Annotations/480p/bear/{n:05d}.png" for n in range(3)]
    (root / "ImageSets/2016.txt").write_text("\n".join(lines))
    return root


def test_davis_gives_the_first_frames_objects(tmp_path: Path, davis: Path) -> None:
    found = rows(tmp_path, "davis", "--split", str(davis / "ImageSets/2017.txt"))
    assert sorted(found) == ["bear", "dogs"]
    assert given(found["dogs"]) == {0: {1: 64, 2: 64}}  # object 3, which comes later, is not one there
    assert found["dogs"].video == str(davis / "JPEGImages/480p/dogs")
    assert sorted(rows(tmp_path, "davis")) == ["bear", "dogs", "train-only"]


def test_davis_2016_merges_them(tmp_path: Path, davis: Path) -> None:
    found = rows(tmp_path, "davis", "--merge-objects", "--split", str(davis / "ImageSets/2016.txt"))
    assert {name: given(row) for name, row in found.items()} == {"bear": {0: {1: 128}}}


def write_youtube(root: Path) -> None:
    a, b = block(0, 0), block(16, 8)
    images(root / "JPEGImages/v", ["00000", "00005", "00010", "00015"])
    # The second mask repeats object 1, which was given before.
    write_truth(root / "Annotations/v", [a, a + 4 * b], names=["00005", "00015"])


def test_youtube_vos_gives_objects_where_they_appear(tmp_path: Path) -> None:
    write_youtube(tmp_path / "data")
    for kind in ("youtube-vos", "mose"):
        found = rows(tmp_path, kind)["v"]
        assert given(found) == {1: {1: 64}, 3: {4: 64}} and found.start is None
    assert rows(tmp_path, "youtube-vos", "--from-first-prompt")["v"].start == 1
    assert given(rows(tmp_path, "generic")["v"]) == {1: {1: 64}, 3: {1: 64, 4: 64}}


def test_meta_names_objects_and_their_categories(tmp_path: Path) -> None:
    write_youtube(tmp_path / "data")
    meta = tmp_path / "meta.json"
    objects = {"4": {"category": "okapi", "frames": ["00015"]}}
    meta.write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    found = rows(tmp_path, "youtube-vos", "--meta", str(meta))["v"]
    assert given(found) == {3: {4: 64}} and found.label_of(4) == "okapi"


def refused(tmp_path: Path, capsys: pytest.CaptureFixture, *words: str) -> str:
    kind, *rest = words
    assert manifest.main([kind, str(tmp_path / "data"), "--to", str(tmp_path / "m.jsonl"), *rest]) == 2
    assert not (tmp_path / "m.jsonl").exists()
    return capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path, davis: Path, capsys: pytest.CaptureFixture) -> None:
    split = tmp_path / "split.txt"
    split.write_text("bear\nwolf\n")
    assert "'wolf' is in the split" in refused(tmp_path, capsys, "davis", "--split", str(split))
    (davis / "Annotations/480p/bear/00000.png").unlink()
    split.write_text("bear\n")
    assert "bear/00000.png of its first frame" in refused(tmp_path, capsys, "davis", "--split", str(split))
    split.write_text("\n")
    assert "names no video" in refused(tmp_path, capsys, "davis", "--split", str(split))
    write_youtube(tmp_path / "data")
    (tmp_path / "meta.json").write_text('{"videos": {}}')
    for shelf in ("JPEGImages", "Annotations"):
        (davis / shelf / "480p").rename(tmp_path / shelf)
    assert "does not name the video 'v'" in refused(
        tmp_path, capsys, "youtube-vos", "--meta", str(tmp_path / "meta.json")
    )


def test_what_is_there_is_kept(tmp_path: Path, davis: Path, capsys: pytest.CaptureFixture) -> None:
    target = tmp_path / "m.jsonl"
    command = ["davis", str(davis), "--to", str(target)]
    assert manifest.main(command) == 0
    target.write_text("prompts drawn by hand")
    assert manifest.main(command) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err and target.read_text() == "prompts drawn by hand"
    assert manifest.main([*command, "--overwrite"]) == 0
    assert len(target.read_text().splitlines()) == 3


@pytest.mark.parametrize("words", [["mose", "--merge-objects"], ["davis", "--meta", "m"], ["davis", "--to", "m.csv"]])
def test_options_that_do_not_fit(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        manifest.main([words[0], str(tmp_path), "--to", "m.jsonl", *words[1:]])
    assert stop.value.code == 2
