"""`jobs.evaluate --protocol`: each benchmark's rules on small cases, by hand and beside vos-benchmark."""

import json

import numpy as np
import pytest
from made_evaluation import SIZE, block, scores, write_images, write_output, write_truth
from PIL import Image

from jobs import evaluate
from stcn_core.metrics import boundary_f, jaccard


def labels_of(frame):
    """{object id: mask} -> label map."""
    labels = np.zeros(SIZE, np.uint8)
    for object_id, mask in frame.items():
        labels[mask != 0] = object_id
    return labels


def wandering(frames, seed, ids=(1, 2, 4), late=None):
    """frame -> {id: mask}, each now and then absent; object `late` from frame 4 on."""
    draw = np.random.default_rng(seed)
    found = {}
    for frame in range(frames):
        shown = [i for i in ids if draw.random() < 0.8 and not (i == late and frame < 4)]
        found[frame] = {i: block(*draw.integers(0, 24, 1), *draw.integers(0, 16, 1)) for i in shown}
    found[0] = {i: block(3 * i, i) for i in ids if i != late}
    return {frame: {k: labels_of(masks) == k for k in masks} for frame, masks in found.items()}


def as_masks(frames):
    return {n: {k: m.astype(np.uint8) for k, m in masks.items() if m.any()} for n, masks in frames.items()}


def write_case(tmp_path, frames=12, **options):
    predicted, true = wandering(frames, 1, **options), wandering(frames, 2, **options)
    shape = {"frames_decoded": frames, "frames_annotated": frames}
    write_output(tmp_path / "out", "a", as_masks(predicted), **shape)
    write_truth(tmp_path / "truth/a", [labels_of(true[n]) for n in range(frames)])
    return predicted, true


@pytest.mark.parametrize("late", [None, 4])
def test_generic_is_what_vos_benchmark_says(tmp_path, late):
    judge = pytest.importorskip("vos_benchmark.benchmark", reason="vos-benchmark is in the test extra")
    predicted, _ = write_case(tmp_path, late=late)
    (tmp_path / "png/a").mkdir(parents=True)
    for frame, masks in predicted.items():
        Image.fromarray(labels_of(masks)).save(tmp_path / f"png/a/{frame:05d}.png")
    for skip, extra in ((False, ["--all-frames"]), (True, [])):
        video = judge.VideoEvaluator(str(tmp_path / "truth"), str(tmp_path / "png"), skip_first_and_last=skip)
        _, j, f = video("a")
        objects = scores(tmp_path, "--protocol", "generic", *extra)["videos"][0]["objects"]
        assert [row["object_id"] for row in objects] == sorted(j)
        for row in objects:
            assert 100 * row["J"] == pytest.approx(j[row["object_id"]])
            assert 100 * row["F"] == pytest.approx(f[row["object_id"]])


def test_davis_2017_counts_the_first_masks_objects_and_no_others(tmp_path, capsys):
    """davis2017-evaluation: ids 1 to the largest of frame 0 (one that nothing shows is right everywhere), inner frames;
    an object that comes later is not judged."""
    a, b, late = block(0, 0), block(16, 8), block(0, 16)
    truth = [a + 3 * b, a + 3 * b, 5 * late + 3 * b, a + 3 * b, a]
    write_truth(tmp_path / "truth/Annotations/480p/v", truth)
    write_output(tmp_path / "out", "v", {n: {1: a, 3: block(20, 8)} for n in range(5)})
    report = scores(tmp_path, "--protocol", "davis2017")
    objects = {row["object_id"]: row for row in report["videos"][0]["objects"]}
    assert list(objects) == [1, 2, 3] and all(row["frames"] == 3 for row in objects.values())
    half = jaccard(block(20, 8), b)
    assert objects[1]["J"] == pytest.approx(2 / 3) and objects[2]["J&F"] == 1 and objects[3]["J"] == pytest.approx(half)
    row = report["row"]
    assert row["J"] == pytest.approx((2 / 3 + 1 + half) / 3) and row["J&F"] == pytest.approx((row["J"] + row["F"]) / 2)
    lines = capsys.readouterr().out.splitlines()
    stcn = next(line for line in lines if line.startswith("STCN"))
    assert stcn.split()[1:4] == ["85.3", "82.0", "88.6"]
    assert lines[-1].split()[:3] == ["ours", f"{100 * row['J&F']:.1f}", f"{100 * row['J']:.1f}"]


def test_davis_2016_is_one_object(tmp_path):
    """Which label a part has does not matter there."""
    a, b = block(0, 0), block(16, 8)
    write_truth(tmp_path / "truth/v", [a + 2 * b] * 5)
    write_output(tmp_path / "out", "v", {n: {1: b, 2: a} for n in range(5)})
    report = scores(tmp_path, "--protocol", "davis2016")
    assert report["overall"]["n_objects"] == 1 and report["row"]["J&F"] == 1
    assert scores(tmp_path, "--protocol", "davis2017")["row"]["J"] == 0


def test_youtube_vos_by_seen_and_unseen_categories(tmp_path):
    """An object counts on the true masks after its first one, the last frame too; other frames have no truth."""
    a, b, off = block(0, 0), block(16, 8), block(2, 0)
    write_truth(tmp_path / "truth/Annotations/v", [a, a, a + 2 * b, a + 2 * b], names=["0", "5", "10", "15"])
    predicted = {n: {1: off if n == 5 else a, **({2: b} if n == 15 else {2: a} if n < 10 else {})} for n in range(16)}
    write_output(tmp_path / "out", "v", predicted)
    for name, kinds in (("meta", ("cat", "okapi")), ("train", ("cat", "dog"))):
        objects = {str(k): {"category": kind, "frames": []} for k, kind in enumerate(kinds, 1)}
        (tmp_path / f"{name}.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    files = ["--meta", str(tmp_path / "meta.json"), "--seen", str(tmp_path / "train.json")]
    report = scores(tmp_path, "--protocol", "youtube-vos", *files)
    first, second = report["videos"][0]["objects"]
    assert (first["frames"], second["frames"]) == (3, 1) and (first["group"], second["group"]) == ("seen", "unseen")
    row = report["row"]
    assert row["J_seen"] == pytest.approx((jaccard(off, a) + 2) / 3) and row["J_unseen"] == row["F_unseen"] == 1
    assert row["F_seen"] == pytest.approx((boundary_f(off, a) + 2) / 3)
    assert row["J&F"] == pytest.approx((row["J_seen"] + row["F_seen"] + 2) / 4)
    assert scores(tmp_path, "--protocol", "youtube-vos")["row"] == {"J&F": pytest.approx((first["J&F"] + 1) / 2)}


def test_masks_of_some_images_are_told_by_the_images_names(tmp_path):
    """As in YouTube-VOS: images 00000, 00005, ... of which the later ones have true masks."""
    folder = write_images(tmp_path / "data/JPEGImages/v", [f"{5 * number:05d}" for number in range(6)])
    write_truth(tmp_path / "truth/Annotations/v", [block(n, 0) for n in (2, 3, 4)], names=["00010", "00015", "00020"])
    write_output(tmp_path / "out", "v", {n: {1: block(n, 0)} for n in range(6)}, **folder)
    video = scores(tmp_path, "--protocol", "youtube-vos")["videos"][0]
    assert video["frames_told_by"] == "image name" and video["J"] == 1 and video["objects"][0]["frames"] == 2
    assert scores(tmp_path, "--all-frames")["overall"]["J"] == 1


def test_a_file_that_is_no_meta_json_is_named(tmp_path, capsys):
    write_case(tmp_path)
    (tmp_path / "meta.json").write_text('{"videos": {"a": []}}')
    command = ["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), "--protocol", "youtube-vos"]
    meta = str(tmp_path / "meta.json")
    assert evaluate.main([*command, "--meta", meta, "--seen", meta]) == 2
    assert "meta.json is not a meta.json of YouTube-VOS" in capsys.readouterr().err
