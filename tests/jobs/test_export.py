"""jobs.export and jobs.import_masks: there and back, each format read by its own tool where one can be installed."""

import io
import json
import os
import pickle
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from made_export import Clip, block, clips, tree, write_clips
from made_output import MadeVideo, write_failure, write_output
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from jobs import evaluate
from jobs.export import main as export
from jobs.import_masks import main as import_masks
from jobs.verify import main as verify
from schemas import read_masks, reader
from schemas.convert.davis import PALETTE
from schemas.convert.formats import FORMATS

HOLDS_ALL_OBJECTS = ("youtube-vis", "coco", "sa-v", "burst", "stcnbuf")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[list[Clip], Path]:
    """The clips, and the output that holds them."""
    folder = tmp_path_factory.mktemp("made")
    made = clips(folder)
    write_clips(folder / "out", made)
    return made, folder / "out"


def exported(out: Path, form: str, to: Path, *extra: object) -> Path:
    assert export(["--masks", str(out), "--format", form, "--to", str(to), *map(str, extra)]) == 0
    return to


def imported(source: Path, form: str, to: Path, *extra: object) -> Path:
    assert import_masks(["--from", str(source), "--format", form, "--to", str(to), *map(str, extra)]) == 0
    return to


def masks_of(out: Path, video_id: str) -> dict[int, dict[int, np.ndarray]]:
    return dict(read_masks(str(out), video_id))


@pytest.mark.parametrize("form", FORMATS)
def test_export_import_export_gives_the_same_bytes(made, tmp_path, form):
    corpus, out = made
    first = exported(out, form, tmp_path / "first")
    parts = [([clip.video_id for clip in corpus], ())]
    if form == "stcnbuf":  # it does not say which frames its lists are of
        parts = [(["dög/run: 1", "clip", "nothing"], ()), (["late"], ("--first-frame", 4, "--stride", 3))]
    for number, (ids, extra) in enumerate(parts):
        only = [word for video_id in ids for word in ("--only", video_id)]
        back = imported(first, form, tmp_path / f"back{number}", *only, *extra)
        assert verify([str(back), "--all-masks"]) == 0
        exported(back, form, tmp_path / "second")
        for clip in (clip for clip in corpus if clip.video_id in ids):
            ours, theirs = masks_of(back, clip.video_id), clip.masks
            names = dict(zip(sorted(clip.labels), range(1, 9), strict=False)) if form == "stcnbuf" else None
            shift = 1 if form in ("davis", "youtube-vis") and clip.images else 0  # the images are numbered from 1
            assert [frame - shift for frame in ours] == sorted(theirs)
            for frame, found in theirs.items():
                wanted = {names[key] if names else key: mask for key, mask in found.items()}
                if form == "davis" and len(wanted) > 1 and 5 in wanted:
                    wanted[2] = wanted[2] & ~wanted[5]  # the smaller one lies on top
                assert sorted(ours[frame + shift]) == sorted(wanted)
                for object_id, mask in wanted.items():
                    np.testing.assert_array_equal(ours[frame + shift][object_id], mask)
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    assert len(tree(tmp_path / "first")) == {"davis": 32, "sa-v": 4, "stcnbuf": 4}.get(form, 1)


def test_davis_is_what_davis_has_and_what_evaluate_reads(made, tmp_path, capsys):
    corpus, out = made
    folder = exported(out, "davis", tmp_path / "davis")
    shared = sum(int((found[2] & found[5]).sum()) for found in corpus[0].masks.values() if len(found) > 1)
    assert shared > 0 and f"{shared} pixels that objects share" in capsys.readouterr().out
    names = {name.partition("/")[2] for name in tree(folder)}
    assert {"clip/frame_0001.png", "late/00004.png", "late/00019.png", "dög%2Frun%3A 1/00000.png"} <= names
    with Image.open(folder / "Annotations/dög%2Frun%3A 1/00003.png") as image:
        assert image.mode == "P" and bytes(image.getpalette()) == PALETTE
        assert image.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]  # as in the data set
        assert sorted(np.unique(np.asarray(image))) == [0, 2]
    # The masks as their own truth: all right, but for the pixels that a palette cannot hold.
    # A video whose masks show nothing has nothing to score, and does not stop the others.
    command = ["--truth", str(folder), "--json", str(tmp_path / "s.json")]
    assert evaluate.main(["--masks", str(out), *command]) == 0
    (left_out,) = json.loads((tmp_path / "s.json").read_text())["left_out"]
    assert left_out["video_id"] == "nothing" and "show no object" in left_out["reason"]
    scores = {v["video_id"]: v for v in json.loads((tmp_path / "s.json").read_text())["videos"]}
    assert scores["clip"]["J&F"] == scores["late"]["J&F"] == 1 and scores["clip"]["frames_told_by"] == "order"
    assert scores["dög/run: 1"]["J"] > 0.8
    # And an imported output against it.
    back = imported(folder, "davis", tmp_path / "back")
    assert evaluate.main(["--masks", str(back), *command]) == 0
    assert json.loads((tmp_path / "s.json").read_text())["overall"]["J&F"] == 1


def test_davis_by_trackeval(made, tmp_path):
    corpus, out = made
    from trackeval.datasets import DAVIS

    folder = exported(out, "davis", tmp_path / "davis", "--only", "late") / "Annotations"
    (tmp_path / "trackers/us/data").mkdir(parents=True)
    (folder / "late").rename(tmp_path / "trackers/us/data/late")
    (tmp_path / "truth").symlink_to(tmp_path / "trackers/us/data")
    paths = {"GT_FOLDER": str(tmp_path / "truth"), "TRACKERS_FOLDER": str(tmp_path / "trackers"), "PRINT_CONFIG": False}
    raw = DAVIS(paths).get_raw_seq_data("us", "late")
    late = corpus[2]
    assert raw["num_timesteps"] == len(late.frames)
    for position, frame in enumerate(late.frames):
        found = dict(zip(raw["tracker_ids"][position].tolist(), raw["tracker_dets"][position], strict=True))
        assert_masks(found, late.masks.get(frame, {}))


def test_davis_frames_of_a_meta_json(made, tmp_path, capsys):
    _, out = made
    meta = tmp_path / "meta.json"
    objects = {"1": {"category": "cat", "frames": ["00004", "00010"]}, "3": {"category": "x", "frames": ["00010"]}}
    meta.write_text(json.dumps({"videos": {"late": {"objects": objects}, "elsewhere": {"objects": {}}}}))
    folder = exported(out, "davis", tmp_path / "some", "--meta", meta)
    assert sorted(tree(folder)) == ["Annotations/late/00004.png", "Annotations/late/00010.png"]
    assert "left out: clip (not in --meta)" in capsys.readouterr().err
    objects["1"]["frames"].append("00005")
    meta.write_text(json.dumps({"videos": {"late": {"objects": objects}}}))
    assert export(["--masks", str(out), "--format", "davis", "--to", str(tmp_path / "no"), "--meta", str(meta)]) == 2
    assert "late has no frame '00005'" in capsys.readouterr().err
    assert not (tmp_path / "no").exists() or not tree(tmp_path / "no")


def assert_masks(found: dict[int, dict], wanted: dict[int, np.ndarray]) -> None:
    """found: RLE records by object id."""
    assert sorted(found) == sorted(wanted)
    for object_id, record in found.items():
        np.testing.assert_array_equal(coco_mask.decode(record), wanted[object_id])


def test_coco_by_pycocotools(made, tmp_path):
    corpus, out = made
    file = exported(out, "coco", tmp_path / "coco") / "coco.json"
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
    names = {one["id"]: one["name"] for one in coco.dataset["videos"]}
    assert len(coco.getImgIds()) == sum(len(clip.frames) for clip in corpus)
    labels = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert sorted(labels.values()) == ["cat", "dog", "object"]
    for clip in corpus:
        images = {one["frame_id"]: one for one in coco.imgs.values() if names[one["video_id"]] == clip.video_id}
        assert sorted(images) == list(clip.frames)
        for frame, image in images.items():
            annotations = {one["instance_id"]: one for one in coco.imgToAnns[image["id"]]}
            found = {key: coco.annToRLE(one) for key, one in annotations.items()}
            assert_masks(found, clip.masks.get(frame, {}))
            for object_id, one in annotations.items():
                assert one["bbox"] == coco_mask.toBbox(found[object_id]).tolist()
                assert one["area"] == coco_mask.area(found[object_id])
                assert labels[one["category_id"]] == (clip.labels[object_id] or "object")
    assert coco.imgs[1]["file_name"] == "clip/frame_0001.png"


def test_youtube_vis_by_trackeval(made, tmp_path):
    corpus, out = made
    from trackeval.datasets import YouTubeVIS

    file = exported(out, "youtube-vis", tmp_path / "gt/youtube_vis_ours") / "youtube-vis.json"
    record = json.loads(file.read_text())
    # A submission in the data set's form, made of the same masks by pycocotools.
    results = [
        {key: one[key] for key in ("video_id", "category_id")}
        | {"score": 1.0, "segmentations": [s and coco_mask.frPyObjects(s, *s["size"]) for s in one["segmentations"]]}
        for one in record["annotations"]
    ]
    for one in results:
        one["segmentations"] = [s and s | {"counts": s["counts"].decode()} for s in one["segmentations"]]
    (tmp_path / "trackers/youtube_vis_ours/us/data").mkdir(parents=True)
    (tmp_path / "trackers/youtube_vis_ours/us/data/r.json").write_text(json.dumps(results))
    data = YouTubeVIS(
        {"GT_FOLDER": f"{tmp_path}/gt/", "TRACKERS_FOLDER": f"{tmp_path}/trackers/", "SPLIT_TO_EVAL": "ours",
         "PRINT_CONFIG": False}
    )  # fmt: skip
    assert sorted(data.class_list) == ["cat", "dog", "ghost", "object"]
    folders = {clip.video_id: clip for clip in corpus} | {"dög%2Frun%3A 1": corpus[0]}
    assert len(data.seq_list) == 4
    own = {one["id"]: one["object_id"] for one in record["annotations"]}
    for name in data.seq_list:
        clip, raw = folders[name], data.get_raw_seq_data("us", name)
        assert raw["num_timesteps"] == len(clip.frames)
        for position, frame in enumerate(clip.frames):
            ids = [own[number] for number in raw["gt_ids"][position].tolist()]
            assert_masks(dict(zip(ids, raw["gt_dets"][position], strict=True)), clip.masks.get(frame, {}))
            np.testing.assert_allclose(np.diag(raw["similarity_scores"][position]), 1)


def test_burst_by_trackeval(made, tmp_path):
    corpus, out = made
    from trackeval.datasets import BURST

    folder = exported(out, "burst", tmp_path / "gt")
    data = tmp_path / "trackers/us/data"
    data.mkdir(parents=True)
    (data / "r.json").write_bytes((folder / "burst.json").read_bytes())
    paths = {"GT_FOLDER": f"{folder}/", "TRACKERS_FOLDER": f"{tmp_path}/trackers/", "PRINT_CONFIG": False}
    with redirect_stdout(io.StringIO()):
        burst = BURST(paths | {"EXEMPLAR_GUIDED": True})
    by_name = {f"val-stcn-ray-{clip.video_id}": clip for clip in corpus} | {"val-stcn-ray-dög%2Frun%3A 1": corpus[0]}
    assert set(burst.seq_list) <= set(by_name) and len(burst.seq_list) == 4
    mapping = burst.gt_data["track_id_mapping"]
    images = {image["id"]: image for image in burst.gt_data["images"]}
    found = {}
    for one in burst.gt_data["annotations"]:
        image = images[one["image_id"]]
        own = {number: int(key) for key, number in mapping[str(one["video_id"])].items()}
        key = image["video"].replace("/", "-"), image["file_name"].rpartition("/")[2]
        found.setdefault(key, {})[own[one["track_id"]]] = one["segmentation"]
    for name in burst.seq_list:
        clip = by_name[name]
        for position, frame in enumerate(clip.frames):
            image = f"frame_{position + 1:04d}.png" if clip.images else f"{frame:05d}.jpg"
            assert_masks(found.pop((name, image), {}), clip.masks.get(frame, {}))
        burst.get_raw_seq_data("us", name)  # its evaluation takes the file as a result, too
    assert not found


def test_burst_keeps_scores_and_given_masks(made, tmp_path):
    corpus, out = made
    back = imported(exported(out, "burst", tmp_path / "b"), "burst", tmp_path / "back")
    from schemas.reader import open_masks

    for clip in corpus:
        before = {(r.frame, r.object_id): r for _, rows in open_masks(str(out), clip.video_id).frames() for r in rows}
        after = {(r.frame, r.object_id): r for _, rows in open_masks(str(back), clip.video_id).frames() for r in rows}
        assert before == after


def test_sa_v_as_its_visualisation_reads_it(made, tmp_path):
    corpus, out = made
    folder = exported(out, "sa-v", tmp_path / "sa-v")
    record = json.loads((folder / "dög%2Frun%3A 1_auto.json").read_text())
    assert record["video_id"] == "dög/run: 1" and record["masklet_id"] == [2, 5, 7]
    assert record["masklet_visibility_changes"] == [0, 4, 0] and record["masklet_first_appeared_frame"] == [0, 0, -1]
    for frame, rles in zip(corpus[0].frames, record["masklet"], strict=True):
        found = {key: rle for key, rle in zip(record["masklet_id"], rles, strict=True) if coco_mask.area(rle)}
        assert_masks(found, corpus[0].masks[frame])
    late = json.loads((folder / "late_auto.json").read_text())
    assert late["masklet_first_appeared_frame"] == [7, 7] and late["video_frame_count"] == 23
    # The data set's own numbering starts at 0, ours at 1; every fourth frame has masks.
    other = {"video_id": "sav_1", "video_height": 7.0, "video_width": 5.0, "video_frame_count": 9.0, "masklet_id": [0]}
    rle = coco_mask.encode(np.asfortranarray(block(1, 1, 2, 2, (7, 5))))
    other["masklet"] = [[rle | {"counts": rle["counts"].decode()}]] * 3
    (tmp_path / "one.json").write_text(json.dumps(other))
    back = imported(tmp_path / "one.json", "sa-v", tmp_path / "back", "--stride", 4)
    assert [(frame, list(found)) for frame, found in masks_of(back, "sav_1").items()] == [(0, [1]), (4, [1]), (8, [1])]
    # Ours say which frames they have, and are believed unless told otherwise.
    assert late["annotated_frames"] == {"first": 4, "stride": 3}
    for name, extra, frames in (("own", (), (7, 10)), ("told", ("--first-frame", 0, "--stride", 2), (2, 4))):
        back = imported(folder, "sa-v", tmp_path / name, "--only", "late", *extra)
        assert tuple(masks_of(back, "late"))[:2] == frames


def test_stcnbuf_by_its_own_programs(made, tmp_path):
    corpus, out = made
    folder = exported(out, "stcnbuf", tmp_path / "pkl", "--only", "dög/run: 1")
    (file,) = folder.glob("*.pkl")
    command = ["--input-path", str(file), "--output-path", str(tmp_path / "and.pkl")]
    ran = subprocess.run(
        [sys.executable, "-m", "stcnbuf.temporal_intersect", *command], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    back = imported(tmp_path / "and.pkl", "stcnbuf", tmp_path / "back")
    ours, clip = masks_of(back, "and"), corpus[0]
    empty = np.zeros_like(clip.masks[0][2])
    for frame in clip.frames:
        near = [clip.masks[f] for f in range(max(0, frame - 1), min(12, frame + 2))]
        for place, object_id in enumerate((2, 5, 7), 1):
            mask = np.minimum.reduce([masks.get(object_id, empty) for masks in near])
            np.testing.assert_array_equal(ours.get(frame, {}).get(place, empty), mask)


def test_what_stcnbuf_writes_is_read_whatever_the_pickle_protocol(tmp_path):
    import rlemasklib
    import simplepyutils

    masks = [[block(f, 2), block(9, f)] for f in range(3)]
    made = [[rlemasklib.encode(mask) for mask in found] for found in masks]
    simplepyutils.dump_pickle(made, str(tmp_path / "own.pkl"))
    for protocol in (3, 4, 5):
        (tmp_path / f"p{protocol}.pkl").write_bytes(pickle.dumps(made, protocol))
    back = imported(tmp_path, "stcnbuf", tmp_path / "back")
    for name in ("own", "p3", "p4", "p5"):
        for frame, found in masks_of(back, name).items():
            np.testing.assert_array_equal(found[1], masks[frame][0])
            np.testing.assert_array_equal(found[2], masks[frame][1])


def test_nothing_is_replaced_unless_asked_for(made, tmp_path, capsys):
    _, out = made
    folder = exported(out, "davis", tmp_path / "to", "--only", "late")
    other = folder / "Annotations/late/99999.png"
    other.write_bytes(b"left over")
    command = ["--masks", str(out), "--format", "davis", "--to", str(folder)]
    assert export([*command, "--only", "late"]) == 2
    assert "has 7 of the files already" in capsys.readouterr().err
    assert export([*command, "--only", "clip"]) == 0  # another video is not in the way
    one = folder / "Annotations/late/00007.png"
    before = one.read_bytes()
    one.write_bytes(b"changed")
    assert export([*command, "--only", "late", "--skip-existing"]) == 0
    assert one.read_bytes() == b"changed" and other.exists()
    assert export([*command, "--only", "late", "--overwrite"]) == 0
    assert one.read_bytes() == before and not other.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["Annotations"]
    assert export(["--masks", str(out), "--format", "davis", "--to", str(out / "davis")]) == 2
    assert "give another --to" in capsys.readouterr().err and not (out / "davis").exists()


def test_any_storage(made, tmp_path):
    _, out = made
    assert export(["--masks", str(out), "--format", "davis", "--to", "memory://export/davis", "--only", "late"]) == 0
    assert import_masks(["--from", "memory://export/davis", "--format", "davis", "--to", "memory://export/out"]) == 0
    assert list(dict(read_masks("memory://export/out", "late"))) == list(masks_of(out, "late"))


@pytest.mark.parametrize("form", FORMATS)
def test_shards_are_not_listed(tmp_path, monkeypatch, form):
    listed, ls = [], MemoryFileSystem.ls
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda fs, path, **more: listed.append(path) or ls(fs, path, **more))
    url = f"memory://{tmp_path.name}/out"
    write_output(url, [MadeVideo(f"v{number}", split=number == 3) for number in range(5)])
    listed.clear()
    monkeypatch.setattr(reader, "_finished", None)  # the rows have been read: no video's is looked for again
    exported(url, form, tmp_path / "to")
    assert sum(path.endswith("/videos") for path in listed) == 1  # they would have been seen
    assert [path for path in listed if "/masks" in path] == []


def test_a_lost_shard_is_named(tmp_path, capsys):
    write_output(tmp_path / "out", [MadeVideo("short"), MadeVideo("other")])
    lost = tmp_path / "out" / MadeVideo("short").shards()[0]
    lost.unlink()
    assert export(["--masks", str(tmp_path / "out"), "--format", "coco", "--to", str(tmp_path / "to")]) == 2
    assert f"masks/{lost.name} is lost: see python -m jobs.verify" in capsys.readouterr().err


def test_category_ids_of_a_data_set(made, tmp_path, capsys):
    _, out = made
    categories = tmp_path / "categories.json"
    names = {"dog": 378, "object": 1, "ghost": 20}
    categories.write_text(json.dumps({"categories": [{"id": i, "name": name} for name, i in names.items()]}))
    command = ["--masks", str(out), "--format", "burst", "--categories", str(categories), "--to", str(tmp_path / "b")]
    assert export(command) == 2
    assert "no category 'cat'" in capsys.readouterr().err
    names["cat"] = 225
    categories.write_text(json.dumps({"categories": [{"id": i, "name": name} for name, i in names.items()]}))
    assert export(command) == 0
    record = json.loads((tmp_path / "b/burst.json").read_text())
    assert {one["name"]: one["id"] for one in record["categories"]} == names
    (clip,) = [one for one in record["sequences"] if one["seq_name"] == "clip"]
    assert clip["track_category_ids"] == {"1": 378}


def test_failed_and_missing_videos(made, tmp_path, capsys):
    assert export(["--masks", str(made[1]), "--format", "coco", "--to", str(tmp_path), "--only", "dog"]) == 2
    assert "no finished video 'dog'" in capsys.readouterr().err
    assert export(["--masks", str(tmp_path / "none"), "--format", "coco", "--to", str(tmp_path)]) == 2
    assert "none has no finished video: give the --output" in capsys.readouterr().err
    failed = MadeVideo("bad")
    write_failure(write_output(tmp_path / "bad", [failed], unfinished=["bad"]), failed)
    assert export(["--masks", str(tmp_path / "bad"), "--format", "coco", "--to", str(tmp_path)]) == 2
    assert "holds no video to export; bad: failed: " in capsys.readouterr().err
    write_output(tmp_path / "cut", [MadeVideo("short")])
    (shard,) = (tmp_path / "cut/masks").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-100])
    assert export(["--masks", str(tmp_path / "cut"), "--format", "coco", "--to", str(tmp_path)]) == 2
    assert f"{shard.name} is damaged" in capsys.readouterr().err
    assert export(["--masks", str(made[1]), "--format", "davis", "--to", str(tmp_path), "--meta", "/none.json"]) == 2
    assert "/none.json" in capsys.readouterr().err
