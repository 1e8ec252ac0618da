"""jobs.export and jobs.import_masks: object ids that a format has no place for, and frames that it does not say."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_export import SIZE, Clip, block, clips, tree, write_clips
from PIL import Image

from jobs.export import main as export
from jobs.import_masks import main as import_masks
from schemas import read_masks


def exported(out: Path, form: str, to: Path, *extra: object) -> Path:
    assert export(["--masks", str(out), "--format", form, "--to", str(to), *map(str, extra)]) == 0
    return to


@pytest.mark.parametrize("form", ["davis", "youtube-vis"])
@pytest.mark.parametrize(
    ("names", "frames", "lost"),
    [
        ([f"{n:05d}" for n in range(12)], range(12), False),
        ([f"{n:05d}" for n in range(100, 160, 5)], range(12), True),
        ([f"frame_{n}_of_12" for n in range(9)], range(9), False),  # in their order, without a gap
        ([f"frame_{n}_of_12" for n in range(9)], range(0, 9, 2), True),
        ([f"frame_{n}_of_12" for n in range(12)], range(12), True),  # 10 comes before 2
    ],
)
def test_it_counts_frames_whose_names_do_not_say_which_they_are(tmp_path, capsys, form, names, frames, lost):
    images = tmp_path / "images/clip"
    images.mkdir(parents=True)
    for name in names:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images / f"{name}.png")
    masks = {frame: {1: block(frame, 2)} for frame in frames}
    write_clips(tmp_path / "out", [Clip("clip", frames, masks, {1: None}, len(names), None, images)])
    exported(tmp_path / "out", form, tmp_path / "to")
    words = f"{len(frames)} positions of frames (--videos gives them to the import)"
    assert (words in capsys.readouterr().out) == lost
    for name, extra in (("alone", []), ("by-images", ["--videos", str(tmp_path / "images")])):
        command = ["--from", str(tmp_path / "to"), "--format", form, "--to", str(tmp_path / name)]
        assert import_masks([*command, *extra]) == 0
        found = {frame: objects[1] for frame, objects in read_masks(str(tmp_path / name), "clip")}
        right = list(found) == list(frames) and all((found[n] == masks[n][1]).all() for n in frames)
        assert right == (bool(extra) or not lost)
    exported(tmp_path / "out", form, tmp_path / "by-index", "--frame-names", "index")
    assert "positions" not in capsys.readouterr().out


def test_it_counts_positions_of_the_frames_of_a_meta_json_alone(tmp_path, capsys):
    write_clips(tmp_path / "out", clips(tmp_path)[1:2])
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({"videos": {"clip": {"objects": {"1": {"frames": ["frame_0002", "frame_0005"]}}}}}))
    exported(tmp_path / "out", "davis", tmp_path / "to", "--meta", meta)
    assert "2 positions of frames" in capsys.readouterr().out  # the images are numbered from 1


def test_a_video_with_object_ids_beyond_a_palette_is_left_out(tmp_path, capsys):
    many = Clip("many", range(1), {0: {255: block(1, 1), 3: block(9, 9)}}, {3: None, 255: None}, 1)
    write_clips(tmp_path / "out", [many])
    command = ["--masks", str(tmp_path / "out"), "--format", "davis", "--to", str(tmp_path / "to")]
    assert export(command) == 2
    assert "no video to export; many: it has an object 255: palette PNGs hold 1 to 254" in capsys.readouterr().err
    write_clips(tmp_path / "out", [Clip("few", range(1), {0: {254: block(1, 1)}}, {254: None}, 1)])
    assert export(command) == 0
    assert "left out: many (it has an object 255: palette" in capsys.readouterr().err
    assert sorted(tree(tmp_path / "to")) == ["Annotations/few/00000.png"]
    assert export([*command, "--only", "many"]) == 2
    assert "'many' of " in capsys.readouterr().err
    exported(tmp_path / "out", "coco", tmp_path / "coco")
