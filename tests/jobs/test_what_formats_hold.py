"""jobs.export and jobs.import_masks: object ids that a format has no place for, and frames that it does not say."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_export import SIZE, Clip, block, clips, tree, write_clips
from PIL import Image
from rlemasklib import RLEMask

from jobs.export import main as export
from jobs.import_masks import main as import_masks
from schemas import read_masks

HEIGHT, WIDTH = SIZE


def exported(out: Path, form: str, to: Path, *extra: object) -> Path:
    assert export(["--masks", str(out), "--format", form, "--to", str(to), *map(str, extra)]) == 0
    return to


def run_import(source: Path, form: str, to: Path, *extra: object) -> int:
    return import_masks(["--from", str(source), "--format", form, "--to", str(to), *map(str, extra)])


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


def test_the_largest_object_id_comes_back_from_sa_v(tmp_path, capsys):
    largest = (1 << 31) - 1
    write_clips(tmp_path / "out", [Clip("one", range(1), {0: {largest: block(1, 1)}}, {largest: None}, 1)])
    folder = exported(tmp_path / "out", "sa-v", tmp_path / "sa-v")
    assert import_masks(["--from", str(folder), "--format", "sa-v", "--to", str(tmp_path / "back")]) == 0
    assert [list(found) for _, found in read_masks(str(tmp_path / "back"), "one")] == [[largest]]
    record = json.loads((folder / "one_auto.json").read_text())
    record |= {"masklet_id": [0, largest], "masklet": [[*record["masklet"][0], None]]}
    (folder / "one_auto.json").write_text(json.dumps(record))
    assert import_masks(["--from", str(folder), "--format", "sa-v", "--to", str(tmp_path / "no")]) == 2
    assert f"masklet_id goes from 0 to {largest}" in capsys.readouterr().err


def test_it_says_which_frames_it_took_masks_to_be_of(tmp_path, capsys):
    counts = RLEMask.from_array(block(1, 2)).to_dict()["counts"].decode()
    mask = {"size": [HEIGHT, WIDTH], "counts": counts}
    sizes = {"video_height": float(HEIGHT), "video_width": float(WIDTH)}
    for name, frames in (("every", 8.0), ("fourth", 30.0)):
        record = {"video_id": name, "masklet_id": [1], "masklet": [[mask]] * 8, "video_frame_count": frames, **sizes}
        (tmp_path / f"in/{name}_auto.json").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{name}_auto.json").write_text(json.dumps(record))
    assert run_import(tmp_path / "in", "sa-v", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "1 videos, such as fourth, do not say which frames" in said and "taken to be 4 apart" in said
    assert "--stride" in said
    assert run_import(tmp_path / "in", "sa-v", tmp_path / "json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["assumed_strides"] == {"fourth": 4}
    assert run_import(tmp_path / "in", "sa-v", tmp_path / "told", "--only", "fourth", "--stride", 4) == 0
    assert "taken to be" not in capsys.readouterr().out
    for own, said in (({"first": 2, "stride": 3}, None), ({"first": 2, "stride": 0}, "0 apart, cannot be")):
        (tmp_path / "in/fourth_auto.json").write_text(json.dumps(record | {"annotated_frames": own}))
        if said is None:
            assert run_import(tmp_path / "in", "sa-v", tmp_path / "own", "--only", "fourth") == 0
            assert [frame for frame, _ in read_masks(str(tmp_path / "own"))] == list(range(2, 26, 3))
            assert "taken to be" not in capsys.readouterr().out
        else:
            assert run_import(tmp_path / "in", "sa-v", tmp_path / "no") == 2
            assert said in capsys.readouterr().err
