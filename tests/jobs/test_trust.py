"""AUROC against its definition, and the whole command on a made output with made truth."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_export import clips, write_clips
from made_output import SIZE, MadeVideo, write_output
from PIL import Image

from jobs.trust import auroc, main, rank_correlation
from schemas import read_masks

VIDEO = MadeVideo("one", 40, objects=(1,))


def test_auroc_is_the_chance_that_a_bad_one_has_more_doubt():
    draw = np.random.default_rng(0)
    bad, doubt = draw.random(60) < 0.3, draw.integers(0, 8, 60).astype(float)  # many ties
    pairs = [(d > g) + (d == g) / 2 for d in doubt[bad] for g in doubt[~bad]]
    assert auroc(bad, doubt) == pytest.approx(np.mean(pairs))
    assert auroc([True, False], [1.0, 0.0]) == 1.0 and auroc([True, False, True], [0.0, 1.0, float("nan")]) == 0.0
    assert np.isnan(auroc([False, False], [0.0, 1.0]))


def test_rank_correlation_sees_order_only():
    assert rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [9, 5, 4, 1]) == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def write_truth(folder: Path, output: Path, wrong: set[int]) -> None:
    """The output's own masks, but elsewhere on the frames that are to be wrong; a frame per PNG."""
    (folder / "one").mkdir(parents=True)
    found = dict(read_masks(str(output), "one"))
    for frame in range(40):
        truth = found.get(frame, {}).get(1, np.zeros(SIZE, np.uint8))
        if frame in wrong:
            truth = np.roll(truth, (12, 9), (0, 1))
        Image.fromarray(truth * 255).save(folder / "one" / f"{frame:05d}.png")


def test_the_command_finds_the_column_that_finds_bad_masks(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_output(tmp_path / "out", [VIDEO])
    # Doubt of object 1 is (position % 10) / 10: nine tenths on 9, 19, 29; every fourth frame from 3 on has no mask.
    write_truth(tmp_path / "truth", tmp_path / "out", {8, 9, 18, 28, 29})
    arguments = ["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), "--halves"]
    assert main([*arguments, "--json", str(tmp_path / "t.json")]) == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "t.json").read_text())
    part = report["parts"][0]
    assert (part["masks"], part["bad"], part["absent"], part["absent_but_visible"]) == (29, 5, 10, 0)
    rows = {row["column"]: row for row in part["scores"]}
    assert rows["doubt"]["pooled"] == rows["doubt"]["within"] > 0.95
    assert rows["score"]["pooled"] == 0.5 and rows["score"]["rho"] is None  # the same for all
    assert "second_opinion" not in rows
    assert "doubt" in shown and "5 of them bad (17.2 %)" in shown
    assert [len(one["videos"]) for one in report["parts"]] == [1, 1, 0]


def test_a_mask_is_of_the_image_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture):
    """The images are numbered from 1, so that numbers would be one frame late; one video's truth cannot be placed."""
    write_clips(tmp_path / "out", [one for one in clips(tmp_path) if one.video_id in ("clip", "late")])
    for name in ("clip", "late"):
        (tmp_path / "truth" / name).mkdir(parents=True)
    for frame, masks in read_masks(str(tmp_path / "out"), "clip"):
        if frame in (3, 4, 6, 8):
            Image.fromarray(masks[1] * 255).save(tmp_path / f"truth/clip/frame_{frame + 1:04d}.png")
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "truth/late/last.png")
    command = ["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), "--json", str(tmp_path / "t.json")]
    assert main(command) == 0
    report = json.loads((tmp_path / "t.json").read_text())
    assert (report["parts"][0]["masks"], report["parts"][0]["bad"]) == (4, 0)
    assert [one["video_id"] for one in report["left_out"]] == ["late"]
    assert "left out: late (" in capsys.readouterr().err
    assert main([*command, "--video-id", "late"]) == 2 and "which frame is it?" in capsys.readouterr().err


def test_nothing_to_compare_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_output(tmp_path / "out", [VIDEO])
    (tmp_path / "truth").mkdir()
    assert main(["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth")]) == 2
    assert "no finished video with truth" in capsys.readouterr().err
    assert main(["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), "--video-id", "x"]) == 2
    assert "holds no finished video 'x'" in capsys.readouterr().err
