"""Detector options of the command line: which rows get which prompts, and what is refused before work starts."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_detectors import colour_picture, tiny_weights
from PIL import Image

from jobs import annotate, plan
from jobs.detector_arguments import found_late, with_detectors
from schemas.manifest import ManifestError
from schemas.prompt import Prompt
from schemas.video_row import VideoRow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos as folders of images."""
    for name in "ab":
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(3):
            picture = colour_picture(("red", 4, 4, 12), ("green", 30, 20, 14))
            Image.fromarray(picture).save(tmp_path / "videos" / name / f"{number:05d}.png")
    return tmp_path


def rows(*arguments: str, check: bool = True) -> tuple[list[VideoRow], dict]:
    args = annotate.parser().parse_args([*arguments, "--output", "/tmp/none"])
    return with_detectors(annotate.manifest_rows(args), args, check)


def test_a_folder_needs_no_prompts_with_a_detector(folder: Path):
    weights = tiny_weights(folder, "mask-rcnn")
    videos = str(folder / "videos")
    found, known = rows("--manifest", videos, "--detector", "mask-rcnn", "--detector-weights", str(weights),
                        "--detector-classes", "person, dog", "--detector-score", "0.3", "--max-objects", "2",
                        "--detector-frames", "even:3")  # fmt: skip
    assert [row.video_id for row in found] == ["a", "b"] and known["mask-rcnn"].url == str(weights)
    assert found[0].prompts == (
        Prompt(detector="mask-rcnn", classes=("person", "dog"), min_score=0.3, max_objects=2, candidates=3,
               detector_sha256=known["mask-rcnn"].sha256),
    )  # fmt: skip
    with pytest.raises(ManifestError, match="a folder says nothing about the objects"):
        rows("--manifest", videos)


def test_rows_say_for_themselves_what_they_want(folder: Path):
    weights = tiny_weights(folder, "mask-rcnn")
    records = [
        {"video": "a.mp4", "prompts": [{"detector": "mask-rcnn", "min_score": 0.9, "frame": 4}]},
        {"video": "b.mp4", "prompts": [{"frame": 0, "object_id": 1, "points": [[1, 2, 1]]}]},
        {"video": "c.mp4", "prompts": [{"frame": 0, "object_id": 1, "box": [1, 2, 3, 4]}]},
        {"video": "d.mp4", "prompts": [{"detector": "lost"}]},
    ]
    manifest = folder / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, records)))
    both = [f"mask-rcnn={weights}", f"lost={tiny_weights(folder, 'lost')}"]
    found, known = rows("--manifest", str(manifest), "--detector-weights", both[0], "--detector-weights", both[1],
                        "--max-objects", "4", "--detector-frames", "0,7")  # fmt: skip
    own, points, box, lost_one = (row.prompts[0] for row in found)
    assert (own.min_score, own.max_objects, own.frame, own.frames) == (0.9, 4, 4, None)
    assert (points.detector, points.max_objects, points.frames) == ("mask-rcnn", None, None)
    assert box == Prompt(frame=0, object_id=1, box=(1, 2, 3, 4))
    assert (lost_one.detector, lost_one.frames) == ("lost", (0, 7)) and set(known) == {"mask-rcnn", "lost"}


def test_what_is_refused_before_work_starts(folder: Path, capsys: pytest.CaptureFixture):
    videos = str(folder / "videos")
    output = str(folder / "out")
    run = ["--manifest", videos, "--output", output, "--detector", "lost"]
    assert annotate.main(run) == 2
    assert "--detector-weights lost=PATH_OR_URL" in capsys.readouterr().err
    assert annotate.main([*run, "--detector-weights", str(folder / "none.pth")]) == 2
    assert "none.pth do not exist" in capsys.readouterr().err
    wrong = str(tiny_weights(folder, "mask-rcnn"))
    assert annotate.main([*run, "--detector-weights", wrong]) == 2
    assert "no vision transformer" in capsys.readouterr().err
    right = ["--detector-weights", str(tiny_weights(folder, "lost"))]
    assert annotate.main([*run, *right, "--detector-classes", "dog"]) == 2
    assert "knows no class 'dog'" in capsys.readouterr().err
    for arguments in (["--detector-frames", "last"], ["--detector-score", "2"], ["--max-objects", "0"]):
        with pytest.raises(SystemExit):
            annotate.main([*run, *right, *arguments])
    assert not Path(output).exists()


def test_the_plan_needs_no_detector(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Objects are counted as --max-objects says; the network of the detector is never made."""
    monkeypatch.setattr("cluster.detector_weights.make_detector", lambda *_: pytest.fail("it was loaded"))
    weights = str(tiny_weights(folder, "mask-rcnn"))
    assert plan.main(["--manifest", str(folder / "videos"), "--detector", "mask-rcnn", "--detector-weights", weights,
                      "--max-objects", "3", "--frames-per-second", "5", "--json"]) == 0  # fmt: skip
    three = json.loads(capsys.readouterr().out)
    assert plan.main(["--manifest", str(folder / "videos"), "--detector", "mask-rcnn", "--detector-weights", weights,
                      "--frames-per-second", "5", "--json"]) == 0  # fmt: skip
    one = json.loads(capsys.readouterr().out)
    assert three["videos"] == one["videos"] == 2 and three["masks"] == 3 * one["masks"] > 0


def test_given_masks_say_which_detections_are_meant(folder: Path):
    labels = np.zeros((48, 64), np.uint8)
    labels[4:16, 4:16], labels[20:34, 30:44] = 1, 2
    for name in "ab":
        (folder / "masks" / name).mkdir(parents=True)
        Image.fromarray(labels, "L").save(folder / "masks" / name / "00000.png")
    weights = tiny_weights(folder, "mask-rcnn")
    common = ["--manifest", str(folder / "videos"), "--prompt-masks", str(folder / "masks")]
    plain, _ = rows(*common)
    matched, _ = rows(*common, "--detector", "mask-rcnn", "--detector-weights", str(weights),
                      "--detector-matching", "nearest")  # fmt: skip
    assert [prompt.detector for prompt in plain[0].prompts] == [None, None]
    manifest = folder / "m.jsonl"
    box = {"frame": 0, "object_id": 1, "box": [1, 2, 3, 4]}
    manifest.write_text(json.dumps({"video": "a.mp4", "prompts": [box]}))
    detector = ["--detector", "mask-rcnn", "--detector-weights", str(weights)]
    as_it_is, _ = rows("--manifest", str(manifest), *detector)
    meant, _ = rows("--manifest", str(manifest), *detector, "--detector-matching", "one-to-one")
    assert as_it_is[0].prompts[0].detector is None and meant[0].prompts[0].detector == "mask-rcnn"
    assert [(p.object_id, p.detector, p.matching) for p in matched[0].prompts] == [
        (1, "mask-rcnn", "nearest"), (2, "mask-rcnn", "nearest")
    ]  # fmt: skip


def test_objects_that_a_causal_run_would_find_in_mid_video():
    late = (Prompt(detector="lost"), Prompt(detector="lost", candidates=3), Prompt(detector="lost", frames=(0, 50)))
    chosen = (
        Prompt(detector="lost", frames=(0,)),
        Prompt(detector="lost", frame=9),
        Prompt(detector="lost", time_s=1.0),
    )
    given = Prompt(frame=9, object_id=1, box=(0, 0, 1, 1), detector="lost")
    found = [VideoRow(n, "/v.mp4", f"v{n}", (given, prompt)) for n, prompt in enumerate((*late, *chosen))]
    assert found_late(found) == 3 and found_late(found[3:]) == 0


def test_a_causal_run_with_a_detector_says_what_it_will_miss(folder: Path, capsys: pytest.CaptureFixture, monkeypatch):
    monkeypatch.setattr("cluster.run.run", lambda *_: 0)
    weights = str(tiny_weights(folder, "mask-rcnn"))
    words = ["--manifest", str(folder / "videos"), "--output", "/tmp/none", "--detector-weights", weights]
    words += ["--detector", "mask-rcnn"]
    for more, said in (
        (["--preset", "stcn"], True),
        (["--preset", "stcn", "--detector-frames", "0"], False),
        ([], False),
    ):
        assert annotate.main([*words, *more]) == 0
        captured = capsys.readouterr()
        assert ("in mid-video" in captured.out + captured.err) == said
