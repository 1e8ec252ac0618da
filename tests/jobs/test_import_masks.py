"""jobs.import_masks: what becomes of masks of other tools, and of files that are damaged or mean harm."""

import dataclasses
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from made_export import SIZE, block, clips, tree, write_clips
from made_videos import real_clips, write_video
from PIL import Image
from rlemasklib import RLEMask

from jobs.annotate import main as annotate
from jobs.clean import main as clean
from jobs.compact import main as compact
from jobs.export import main as export
from jobs.import_masks import main as import_masks
from jobs.import_masks import read_labels
from jobs.render import main as render
from jobs.status import main as status
from jobs.verify import main as verify
from schemas import read_masks
from schemas.convert.davis import png
from schemas.convert.exchange import ImportSettings
from schemas.convert.folder import Folder
from schemas.convert.formats import FORMATS
from schemas.convert.video import ConvertError
from stcn_core.masks import MaskScores
from stcn_core.prompts import read_label_png

HEIGHT, WIDTH = SIZE


def run_import(source: object, form: str, to: object, *extra: object) -> int:
    return import_masks(["--from", str(source), "--format", form, "--to", str(to), *map(str, extra)])


def refused(capsys: pytest.CaptureFixture, source: object, form: str, to: object, *extra: object) -> str:
    """The message; nothing was published of what cannot be read."""
    assert run_import(source, form, to, *extra) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "Traceback" not in text and len(text) < 500, text
    assert not list(Path(to).glob("videos/*"))
    return text


def write_davis(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    """name of a PNG -> label map."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, label in labels.items():
        (folder / f"{name}.png").write_bytes(png(label.astype(np.uint8)))
    return folder


def table(out: Path, name: str) -> list[dict]:
    return [row for file in sorted((out / name).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("place", ["a", "a/masks", "Annotations/a", "Annotations/480p/a"])
def test_what_is_known_and_what_is_null(tmp_path, place):
    write_davis(tmp_path / "real" / place, {f"{n:05d}": 3 * block(n, n) for n in range(4)})
    (tmp_path / "in").mkdir()
    for entry in (tmp_path / "real").iterdir():
        (tmp_path / "in" / entry.name).symlink_to(entry)  # links are followed
    assert run_import(tmp_path / "in", "davis", tmp_path / "out") == 0
    (video,), (track,), rows = (table(tmp_path / "out", name) for name in ("videos", "tracks", "masks"))
    assert (video["video_id"], video["status"], video["frames_annotated"], video["width"]) == ("a", "done", 4, WIDTH)
    assert video["checkpoint_sha256"] == video["settings_sha256"] == "imported"
    assert video["message"] == "imported from davis"
    unknown = "frames_decoded frames_declared working_width working_height fps duration_s rotation codec source_size"
    unknown += " source_version source_sha256 seconds_total seconds_fetch seconds_burn_in seconds_final seconds_network"
    assert {name for name, value in video.items() if value is None} == {*unknown.split(), "device", "actor"}
    scores = {field.name for field in dataclasses.fields(MaskScores)}
    assert {name for name in rows[0] if rows[0][name] is None} == {"label", "pts", "time_s", "doubt", *scores}
    assert (track["object_id"], track["n_visible"], track["prompt_frames"], track["area_mean"]) == (3, 4, [], 54)
    assert [(row["frame_index"], row["pts"], row["time_s"], row["score"]) for row in rows] == [
        (n, None, None, 1.0) for n in range(4)
    ]


def test_the_source_gives_times_and_rates(tmp_path):
    write_davis(tmp_path / "in/a", {f"{n:05d}": block(n, n) for n in (2, 3, 4)})
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips/a.mp4", 6, size=SIZE, rate=10)
    assert run_import(tmp_path / "in", "davis", tmp_path / "out", "--videos", tmp_path / "clips") == 0
    (video,), rows = table(tmp_path / "out", "videos"), table(tmp_path / "out", "masks")
    assert (video["fps"], video["frames_declared"], video["codec"]) == (10, 6, "h264")
    assert (video["first_frame"], video["frames_annotated"]) == (2, 3) and video["video"].endswith("clips/a.mp4")
    assert [row["time_s"] for row in rows] == pytest.approx([0.2, 0.3, 0.4]) and rows[0]["pts"] is not None
    assert verify([str(tmp_path / "out")]) == 0
    overlay = tmp_path / "overlay.mp4"
    where = ["--masks", str(tmp_path / "out"), "--video", str(tmp_path / "clips/a.mp4")]
    assert render([*where, "--to", str(overlay)]) == 0 and overlay.stat().st_size > 0
    write_davis(tmp_path / "in/a", {"00006": block(1, 1)})
    assert run_import(tmp_path / "in", "davis", tmp_path / "out2", "--videos", tmp_path / "clips") == 2


def test_frames_by_the_images_of_the_source(tmp_path, capsys):
    for number in range(5):
        image = tmp_path / f"images/a/x{10 * number + 3}-of-50.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(image)
    write_davis(tmp_path / "in/a", {"x3-of-50": block(0, 0), "x33-of-50": block(3, 3)})
    assert run_import(tmp_path / "in", "davis", tmp_path / "out", "--videos", tmp_path / "images") == 0
    assert [frame for frame, _ in read_masks(str(tmp_path / "out"))] == [0, 3]
    assert run_import(tmp_path / "in", "davis", tmp_path / "order", "--frames", "order") == 0
    assert [frame for frame, _ in read_masks(str(tmp_path / "order"))] == [0, 1]
    assert "do not hold one number" in refused(capsys, tmp_path / "in", "davis", tmp_path / "n", "--frames", "number")
    write_davis(tmp_path / "in/a", {"x4-of-50": block(0, 0)})
    text = refused(capsys, tmp_path / "in", "davis", tmp_path / "no", "--videos", tmp_path / "images")
    assert "the source has no image x4-of-50" in text


def test_frames_that_the_files_are_silent_about(tmp_path, capsys):
    write_davis(tmp_path / "in/a", {"00000": block(0, 0), "00010": block(1, 0), "00015": block(2, 0)})
    assert run_import(tmp_path / "in", "davis", tmp_path / "out") == 0
    assert "1 frames have no mask file and count as empty" in capsys.readouterr().out
    (video,) = table(tmp_path / "out", "videos")
    write_davis(tmp_path / "dates/a", {"1": block(0, 0), "2": block(0, 0), "202601011": block(1, 0)})
    assert "use --frames order" in refused(capsys, tmp_path / "dates", "davis", tmp_path / "dated")
    assert (video["first_frame"], video["stride"], video["frames_annotated"]) == (0, 5, 4)
    assert "1 of its 4 frames" in video["message"]


def test_verify_status_compact_and_annotate_on_an_import(tmp_path, capsys):
    write_clips(tmp_path / "out", clips(tmp_path))
    assert export(["--masks", str(tmp_path / "out"), "--format", "burst", "--to", str(tmp_path / "burst")]) == 0
    command = (tmp_path / "burst", "burst", tmp_path / "back")
    assert run_import(*command) == 0
    before = tree(tmp_path / "back")
    capsys.readouterr()
    assert verify([str(tmp_path / "back")]) == 0
    assert "its masks were imported from burst" in capsys.readouterr().out
    assert status([str(tmp_path / "back")]) == 0 and "4 of 4 done" in capsys.readouterr().out
    assert compact([str(tmp_path / "back"), "--to", str(tmp_path / "few")]) == 0
    assert verify([str(tmp_path / "few")]) == 0 and "imported from burst" in capsys.readouterr().out
    assert list(read_masks(str(tmp_path / "few"), "clip"))
    manifest = tmp_path / "m.jsonl"
    prompt = {"frame": 0, "object_id": 1, "box": [1, 1, 5, 5]}
    manifest.write_text(json.dumps({"video": str(write_video(tmp_path / "v.mp4", 3)), "prompts": [prompt]}) + "\n")
    assert annotate(["--manifest", str(manifest), "--output", str(tmp_path / "back")]) == 5
    assert "jobs.import_masks made takes no further runs" in capsys.readouterr().err
    # Damage is found, and the same command repairs it; what is sound stays.
    victim = next((tmp_path / "back/masks").iterdir())
    victim.write_bytes(victim.read_bytes()[:-9])
    assert verify([str(tmp_path / "back")]) == 1
    assert "run the same jobs.import_masks command again" in capsys.readouterr().out
    victim.unlink()
    assert run_import(*command) == 0 and "3 videos were there already" in capsys.readouterr().out
    assert verify([str(tmp_path / "back")]) == 0
    assert {k: v for k, v in tree(tmp_path / "back").items() if k[:5] == "masks"} == {
        k: v for k, v in before.items() if k[:5] == "masks"
    }
    assert run_import(tmp_path / "burst", "burst", tmp_path / "out") == 2
    assert "is not empty" in capsys.readouterr().err


def test_other_options_than_it_was_begun_with_are_refused(tmp_path, capsys):
    mask = {"size": [HEIGHT, WIDTH], "counts": RLEMask.from_array(block(1, 2)).to_dict()["counts"]}
    for name in ("a_1", "b_1"):
        (tmp_path / f"in/{name}.pkl").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{name}.pkl").write_bytes(pickle.dumps([[mask]] * 3))
    first = (tmp_path / "in", "stcnbuf", tmp_path / "out", "--stride", 2)
    assert run_import(*first) == 0
    before = tree(tmp_path / "out")
    for options, said in (
        (["--stride", 4], "--stride: 2 -> 4"),
        ([], "--stride: 2 -> not given"),
        (["--stride", 2, "--first-frame", 100], "--first-frame: not given -> 100"),
        (["--stride", 2, "--files", "a_*"], "--files: not given -> a_*"),
        (["--stride", 2, "--videos", tmp_path / "in"], f"--videos: not given -> {tmp_path}/in"),
    ):
        capsys.readouterr()
        assert run_import(*first[:3], *options) == 5
        text = capsys.readouterr().err
        assert text.startswith("error: ") and said in text and text.count(" -> ") == 2 and "another --to" in text
    write_davis(tmp_path / "davis/a", {"00000": block(0, 0)})
    assert run_import(tmp_path / "davis", "davis", tmp_path / "out", "--frames", "order") == 5
    text = capsys.readouterr().err
    assert "--frames: not given -> order" in text and "--format: stcnbuf -> davis" in text
    assert tree(tmp_path / "out") == before
    assert run_import(*first) == 0 and "2 videos were there already" in capsys.readouterr().out
    record = json.loads((tmp_path / "out/_run/config.json").read_text())
    del record["options"]  # as the first version of the program wrote it
    (tmp_path / "out/_run/config.json").write_text(json.dumps(record))
    assert run_import(*first) == 0 and "2 videos were there already" in capsys.readouterr().out
    (tmp_path / "out/_run/config.json").write_text("{")
    assert run_import(*first) == 5 and "_run/config.json cannot be used" in capsys.readouterr().err


def test_another_call_adds_its_videos_to_the_plan(tmp_path, capsys):
    for name in "abc":
        write_davis(tmp_path / "in" / name, {f"{n:05d}": block(n, n) for n in range(3)})
    command = (tmp_path / "in", "davis", tmp_path / "out")
    for count, only in ((1, ["--only", "b"]), (2, ["--only", "a"]), (2, ["--only", "b"]), (3, [])):
        assert run_import(*command, *only) == 0
        capsys.readouterr()
        assert verify([str(tmp_path / "out"), "--all-masks"]) == 0
        assert "orphan" not in capsys.readouterr().out
        assert status([str(tmp_path / "out")]) == 0
        assert f"{count} of {count} done" in capsys.readouterr().out
    assert clean([str(tmp_path / "out"), "--to", str(tmp_path / "clean"), "--clean", "close"]) == 0
    capsys.readouterr()
    assert run_import(*command[:2], tmp_path / "clean") == 2  # its masks are no longer those of the files
    assert "nor the same import" in capsys.readouterr().err
    (tmp_path / "out/_run/plan.parquet").write_bytes(b"PAR1")
    assert run_import(*command) == 5 and "plan.parquet is damaged" in capsys.readouterr().err


def test_files_of_the_data_sets_themselves(tmp_path):
    """Small files made after the data sets' descriptions, with what our exports never have."""
    mask, other = block(2, 3), block(10, 12)
    from pycocotools import mask as coco

    def rle(picture: np.ndarray) -> dict:
        record = coco.encode(np.asfortranarray(picture))
        return record | {"counts": record["counts"].decode()}

    vis = {
        "categories": [{"id": 21, "name": "person", "supercategory": "object"}],
        "videos": [
            {"id": 7, "width": WIDTH, "height": HEIGHT, "length": 3,
             "file_names": [f"0043f083b5/{n:05d}.jpg" for n in (0, 5, 10)]}
        ],
        "annotations": [
            {"id": 90, "video_id": 7, "category_id": 21, "iscrowd": 0, "segmentations": [rle(mask), None, rle(other)]},
            {"id": 31, "video_id": 7, "category_id": 21, "iscrowd": 0, "segmentations": [None, rle(other), None]},
        ],
    }  # fmt: skip
    (tmp_path / "vis.json").write_text(json.dumps(vis))
    assert run_import(tmp_path / "vis.json", "youtube-vis", tmp_path / "vis") == 0
    found = dict(read_masks(str(tmp_path / "vis"), "0043f083b5"))
    assert {frame: sorted(masks) for frame, masks in found.items()} == {0: [1], 5: [2], 10: [1]}
    np.testing.assert_array_equal(found[10][1], other)
    assert {row["label"] for row in table(tmp_path / "vis", "masks")} == {"person"}

    images = [{"id": n, "file_name": f"00{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in (1, 2)]
    square = [3, 2, 12, 2, 12, 8, 3, 8]
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 2, 9, 6], "area": 54, "iscrowd": 0}
    crowd = {"counts": coco_plain(other), "size": [HEIGHT, WIDTH]}
    record = {
        "images": images,
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [one | {"segmentation": [square]}, one | {"id": 2, "image_id": 2, "segmentation": crowd}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(record))
    assert run_import(tmp_path / "instances.json", "coco", tmp_path / "coco") == 0
    found = dict(read_masks(str(tmp_path / "coco"), "instances"))
    np.testing.assert_array_equal(found[1][1], mask)
    np.testing.assert_array_equal(found[2][1], other)

    both = {"video_id": "sav_9", "video_height": float(HEIGHT), "video_width": float(WIDTH), "masklet_id": [0, 1]}
    both |= {"video_frame_count": 9.0, "masklet": [[rle(mask), rle(other)]] * 3}
    for kind in ("auto", "manual"):
        (tmp_path / f"sav_9_{kind}.json").write_text(json.dumps(both))
    command = ("sa-v", tmp_path / "sav", "--files", "*_manual.json")
    assert run_import(tmp_path, *command) == 0
    assert [frame for frame, _ in read_masks(str(tmp_path / "sav"))] == [0, 3, 6]


def coco_plain(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, counted here."""
    flat, counts, value = mask.ravel(order="F"), [], 0
    start = 0
    for position in range(len(flat) + 1):
        if position == len(flat) or flat[position] != value:
            counts.append(position - start)
            start, value = position, 1 - value
    return counts


def test_two_files_of_one_video_are_not_mixed(tmp_path, capsys):
    record = {"video_id": "v", "video_height": 4.0, "video_width": 4.0, "masklet_id": [1], "masklet": []}
    for kind in ("auto", "manual"):
        (tmp_path / f"v_{kind}.json").write_text(json.dumps(record))
    text = refused(capsys, tmp_path, "sa-v", tmp_path / "out")
    assert "two videos have the id 'v'; choose with --files" in text and "v_auto.json and" in text


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/tmp/evil-was-here",)


def test_a_pickle_that_means_harm_is_refused(tmp_path, capsys):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([[Evil()]]))
    assert "instruction STACK_GLOBAL" in refused(capsys, tmp_path / "a.pkl", "stcnbuf", tmp_path / "out")
    assert not os.path.exists("/tmp/evil-was-here")
    mask = {"size": [4, 4], "counts": b"`0"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([[mask, mask], [mask]]))
    assert "cannot be told" in refused(capsys, tmp_path / "a.pkl", "stcnbuf", tmp_path / "out")


def test_ids_never_become_paths(tmp_path):
    names = ["../../up", "/abs", "a\\b", "..", "x" * 500]
    records = []
    for number, name in enumerate(names):
        record = {"video_id": name, "video_height": 4.0, "video_width": 4.0, "masklet_id": [1], "video_frame_count": 1}
        records.append(record | {"masklet": [[{"size": [4, 4], "counts": "04<"}]]})
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"in/{number}.json").write_text(json.dumps(records[-1]))
    assert run_import(tmp_path / "in", "sa-v", tmp_path / "deep/er/out") == 0
    for form in FORMATS:
        to = tmp_path / "deep/er" / form
        assert export(["--masks", str(tmp_path / "deep/er/out"), "--format", form, "--to", str(to)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "in"]
    assert sorted(path.name for path in (tmp_path / "deep/er").iterdir()) == sorted(["out", *FORMATS])
    for name in names:
        assert len(list(read_masks(str(tmp_path / "deep/er/out"), name))) == 1


def damages(record: object, path: tuple = ()) -> list:
    """Every place in a JSON value, as (keys and indices that lead there)."""
    found = [path] if path else []
    if isinstance(record, dict):
        for key, value in record.items():
            found += damages(value, (*path, key))
    elif isinstance(record, list):
        for number, value in enumerate(record[:2]):
            found += damages(value, (*path, number))
    return found


@pytest.mark.parametrize("form", ["youtube-vis", "coco", "sa-v", "burst"])
def test_damaged_json_is_refused_or_read_but_never_a_crash(tmp_path, capsys, form):
    write_clips(tmp_path / "out", clips(tmp_path)[2:3])
    assert export(["--masks", str(tmp_path / "out"), "--format", form, "--to", str(tmp_path / "good")]) == 0
    (good,) = (tmp_path / "good").iterdir()
    whole = json.loads(good.read_text())
    bad = tmp_path / "bad.json"
    settings, refusals, tries = ImportSettings(read_labels), 0, 0
    places = damages(whole)
    for path in places:
        record = json.loads(good.read_text())
        parent = record
        for key in path[:-1]:
            parent = parent[key]
        for value in ("text", -1, 10**12, None, [], {"x": 1}):
            parent[path[-1]] = value
            bad.write_text(json.dumps(record))
            tries += 1
            try:
                for video in FORMATS[form].found(Folder(LocalFileSystem(), str(bad), "bad.json"), settings):
                    for mask in video.masks():
                        assert RLEMask.from_dict({"size": [mask.height, mask.width], "counts": mask.counts}).area() >= 0
            except ConvertError as error:
                assert "bad.json" in str(error)
                refusals += 1
    assert len(places) > 15 and tries // 5 < refusals < tries
    assert run_import(good, form, tmp_path / "o/good") == 0
    for text in ("", "{", "[]", "7", '{"a": 1}', "\x00", '{"videos": ' * 5000):
        bad.write_text(text)
        refused(capsys, bad, form, tmp_path / "o/none")


def test_damaged_pngs_are_refused(tmp_path, capsys):
    folder = write_davis(tmp_path / "in/a", {"00000": block(0, 0), "00001": block(1, 1)})
    (folder / "00001.png").write_bytes((folder / "00001.png").read_bytes()[:60])
    assert "00001.png is not a readable picture" in refused(capsys, tmp_path / "in", "davis", tmp_path / "out")
    write_davis(tmp_path / "in/a", {"00001": block(1, 1, size=(HEIGHT, WIDTH - 1))})
    assert run_import(tmp_path / "in", "davis", tmp_path / "one-off") == 0  # as DAVIS has some
    write_davis(tmp_path / "in/a", {"00001": np.zeros((9, 9))})
    assert "all masks of a video must have one size" in refused(capsys, tmp_path / "in", "davis", tmp_path / "out2")
    assert "holds no" in refused(capsys, tmp_path / "in", "stcnbuf", tmp_path / "out3")
    assert "does not exist" in refused(capsys, tmp_path / "nowhere", "davis", tmp_path / "out4")


@pytest.mark.real_clips
def test_real_masks_there_and_back(tmp_path):
    only = ["--only", "davis17_tennis", "--only", "xmem2_chair"]
    assert run_import(real_clips(), "davis", tmp_path / "out", *only) == 0
    for form in ("coco", "burst"):
        assert export(["--masks", str(tmp_path / "out"), "--format", form, "--to", str(tmp_path / form)]) == 0
        assert run_import(tmp_path / form, form, tmp_path / f"from-{form}") == 0
        assert (
            export(["--masks", str(tmp_path / f"from-{form}"), "--format", "davis", "--to", str(tmp_path / "d")]) == 0
        )
        for video_id in only[1::2]:
            given = sorted((real_clips() / video_id / "masks").glob("*.png"))
            ours = sorted((tmp_path / "d/Annotations" / video_id).glob("*.png"))
            assert [path.name for path in ours] == [path.name for path in given] and len(ours) >= 60
            for one, other in zip(ours, given, strict=True):
                theirs = read_label_png(other.read_bytes(), str(other))
                np.testing.assert_array_equal(np.asarray(Image.open(one)), theirs)
        shutil.rmtree(tmp_path / "d")
