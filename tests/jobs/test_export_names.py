"""jobs.export: what frames are called where the names of their images are not to be had."""

import dataclasses
import json
from pathlib import Path

import pytest
from made_export import clips, tree, write_clips

from jobs.compact import main as compact
from jobs.export import main as export
from jobs.import_masks import main as import_masks
from jobs.verify import main as verify


def exported(out: Path, form: str, to: Path, *extra: object) -> Path:
    assert export(["--masks", str(out), "--format", form, "--to", str(to), *map(str, extra)]) == 0
    return to


def test_it_says_where_images_go_by_their_indices(tmp_path, capsys):
    corpus = clips(tmp_path)
    images, moved = tmp_path / "images", tmp_path / "moved"
    again = dataclasses.replace(corpus[1], video_id="twin")
    write_clips(tmp_path / "out", [*corpus, again])
    named = {path.name for path in exported(tmp_path / "out", "davis", tmp_path / "named").rglob("*/clip/*")}
    assert named == {f"frame_{number:04d}.png" for number in range(1, 10)}
    assert "indices" not in capsys.readouterr().err
    images.rename(moved)
    by_index = exported(tmp_path / "out", "davis", tmp_path / "by-index")
    said = capsys.readouterr().err
    assert {path.name for path in by_index.rglob("*/clip/*")} == {f"{number:05d}.png" for number in range(9)}
    what = "the frames of 2 videos are named after their indices and not after their images, such as those of clip: "
    what += f"{images} "
    assert what + "cannot be listed: it does not exist" in said and "give --frame-names index" in said
    exported(tmp_path / "out", "coco", tmp_path / "coco", "--json")
    out, err = capsys.readouterr()
    record = json.loads(out)["named_by_index"]
    assert sorted(record) == ["clip", "twin"] and "it does not exist" in record["clip"] and what in err
    # What is meant, or has no names, is nothing to speak of.
    for form, extra in (("davis", ["--frame-names", "index"]), ("sa-v", []), ("davis", ["--only", "late"])):
        exported(tmp_path / "out", form, tmp_path / f"{form}{len(extra)}{extra[-1:]}", "--json", *extra)
        out, err = capsys.readouterr()
        assert json.loads(out)["named_by_index"] == {} and "indices" not in err
    moved.rename(images)
    (images / "frame_0009.png").unlink()
    exported(tmp_path / "out", "davis", tmp_path / "fewer", "--only", "clip")
    assert f"{images} holds 8 images, and 9 when it was annotated" in capsys.readouterr().err


@pytest.mark.parametrize("compacted", [False, True])
def test_an_import_has_the_names_of_its_images(tmp_path, capsys, compacted):
    write_clips(tmp_path / "out", clips(tmp_path))
    back, davis = tmp_path / "back", exported(tmp_path / "out", "davis", tmp_path / "davis")
    assert import_masks(["--from", str(davis), "--format", "davis", "--to", str(back)]) == 0
    if compacted:
        assert compact([str(back), "--to", str(tmp_path / "compacted")]) == 0
        back = tmp_path / "compacted"
        assert verify([str(back), "--all-masks"]) == 0
    (tmp_path / "davis").rename(tmp_path / "gone")
    capsys.readouterr()
    assert tree(exported(back, "davis", tmp_path / "again")) == tree(tmp_path / "gone")
    assert "indices" not in capsys.readouterr().err


def test_a_meta_json_is_refused_where_images_go_by_their_indices(tmp_path, capsys):
    write_clips(tmp_path / "out", clips(tmp_path)[1:2])
    meta = tmp_path / "meta.json"
    command = ["--masks", str(tmp_path / "out"), "--format", "davis", "--to", str(tmp_path / "to"), "--meta", str(meta)]
    meta.write_text(json.dumps({"videos": {"clip": {"objects": {"1": {"frames": ["00005"]}}}}}))
    (tmp_path / "images").rename(tmp_path / "moved")
    assert export(command) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/images cannot be listed: it does not exist" in said and "those of clip are not known" in said
    assert export([*command, "--frame-names", "index"]) == 0
    assert sorted(tree(tmp_path / "to")) == ["Annotations/clip/00005.png"]
