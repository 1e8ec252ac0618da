"""What is made of a detector's finds: which frame, which numbers, which objects; what is said when there is none."""

from collections.abc import Mapping

import numpy as np
import pytest
from made_detectors import ColourDetector, colour_picture
from PIL import Image
from rlemasklib import RLEMask

from schemas.prompt import Prompt
from stcn_core.detection import Surroundings, find_objects
from stcn_core.found import Found
from stcn_core.prompts import NothingFound, PromptError, resolve_prompts

SIZE = (48, 64)
RED, GREEN, BLUE = ("red", 4, 4, 12), ("green", 30, 20, 14), ("blue", 48, 2, 10)
PICTURES = {0: colour_picture(RED, GREEN, BLUE), 5: colour_picture(), 9: colour_picture(RED, GREEN), 20: None}


class Around:
    """Pictures by frame, in place of a video."""

    def __init__(self, pictures: Mapping[int, np.ndarray | None] = PICTURES, files: Mapping[str, bytes] | None = None):
        self.detector, self.pictures, self.files = ColourDetector(), pictures, files or {}
        self.asked: list[int] = []

    def picture(self, frame: int) -> np.ndarray | None:
        self.asked.append(frame)
        return self.pictures.get(frame)

    def find(self, *prompts: Prompt) -> list[Found]:
        around = Surroundings(
            size=SIZE,
            frame_at=lambda seconds: int(seconds * 10),
            load=self.files.__getitem__,
            spread=lambda count: [5] if count == 1 else [5, 9, 0][:count],
            picture=self.picture,
            detector=lambda name: self.detector,
        )
        return find_objects(prompts, around)


def detector(**more) -> Prompt:
    return Prompt(detector="mask-rcnn", **more)


def square(found: Found) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(found.mask.any(1)), np.flatnonzero(found.mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(found.mask.sum())


def test_objects_are_numbered_by_score_and_limited():
    found = Around().find(detector(frame=0))
    assert [(one.object_id, one.class_name, round(one.score, 3)) for one in found] == [
        (1, "red", 0.9), (2, "green", 0.8), (3, "blue", 0.7)
    ]  # fmt: skip
    assert square(found[0]) == (4, 4, 12, 144) and {one.frame for one in found} == {0}
    assert [one.class_name for one in Around().find(detector(frame=0, max_objects=2))] == ["red", "green"]
    assert [one.class_name for one in Around().find(detector(frame=0, min_score=0.75))] == ["red", "green"]
    assert [one.class_name for one in Around().find(detector(frame=0, classes=("blue", "red")))] == ["red", "blue"]
    assert [one.frame for one in Around().find(detector(time_s=0.95))] == [9, 9]


def test_of_several_frames_the_one_with_most_objects_then_scores_then_the_first():
    around = Around()
    assert {one.frame for one in around.find(detector(frames=(9, 5, 0)))} == {0}
    assert around.asked == [0, 5, 9]
    assert {one.frame for one in Around().find(detector(candidates=3))} == {0}
    assert {one.frame for one in Around().find(detector(candidates=2))} == {9}
    same = {0: colour_picture(GREEN), 5: colour_picture(RED), 9: colour_picture(RED)}
    assert {one.frame for one in Around(same).find(detector(frames=(0, 5, 9)))} == {5}
    assert {one.frame for one in Around().find(detector(frames=(20, 9)))} == {9}  # 20 does not decode


def test_numbers_that_are_taken_are_not_given():
    given = Prompt(frame=5, object_id=2, box=(1, 1, 4, 4))
    found = Around().find(given, detector(frame=0))
    assert [one.object_id for one in found] == [1, 3, 4] and {one.prompt for one in found} == {2}
    found = Around().find(given, detector(frame=0, object_id=7, max_objects=2), detector(frame=9))
    assert [(one.frame, one.object_id) for one in found] == [(0, 7), (0, 8), (9, 1), (9, 3)]


def test_nothing_found_says_what_was_looked_for():
    with pytest.raises(
        NothingFound, match="prompt 1: mask-rcnn finds nothing of red with a score of 0.5 or more on frame 5"
    ):
        Around().find(detector(frame=5, classes=("red",)))
    with pytest.raises(NothingFound, match=r"on 2 frames \(1 of them are not there\)"):
        Around().find(detector(frames=(5, 20)))
    with pytest.raises(NothingFound, match="frame 20, where mask-rcnn should look, is not there"):
        Around().find(detector(frame=20, object_id=1, points=((1, 1, 1),)))


def test_points_choose_the_detection_under_them():
    (found,) = Around().find(detector(frame=0, object_id=4, points=((36, 25, 1), (5, 5, 0))))
    assert (found.object_id, found.class_name, square(found)) == (4, "green", (30, 20, 14, 196))
    with pytest.raises(NothingFound, match=r"none of the 3 detections of mask-rcnn on frame 0 lies under \(20, 40\)"):
        Around().find(detector(frame=0, points=((20, 40, 1),)))
    with pytest.raises(NothingFound):
        Around().find(detector(frame=0, points=((36, 25, 1), (37, 26, 0))))


def test_boxes_on_one_frame_are_matched_together():
    near_red = Prompt(frame=0, object_id=1, box=(3, 3, 12, 12), detector="mask-rcnn")
    also_red = Prompt(frame=0, object_id=2, box=(6, 6, 16, 14), detector="mask-rcnn")
    around = Around()
    names = {one.object_id: one.class_name for one in around.find(near_red, also_red)}
    assert names[1] == "red" and names[2] != "red" and around.asked == [0]
    nearest = [Prompt(**{**p.__dict__, "matching": "nearest"}) for p in (near_red, also_red)]
    assert {one.class_name for one in Around().find(*nearest)} == {"red"}
    three = [Prompt(frame=9, object_id=n, box=(3, 3, 12, 12), detector="mask-rcnn") for n in (1, 2, 3)]
    with pytest.raises(NothingFound, match="has 2 detections on frame 9, none of them for object"):
        Around().find(*three)


def test_a_masks_box_chooses_too(tmp_path):
    labels = np.zeros(SIZE, np.uint8)
    labels[21:33, 31:43], labels[3:11, 49:57] = 1, 2
    path = tmp_path / "m.png"
    Image.fromarray(labels, "L").save(path)
    around = Around(files={"m.png": path.read_bytes()})
    found = around.find(Prompt(frame=0, mask="m.png", detector="pointrend"))
    assert {one.object_id: one.class_name for one in found} == {1: "green", 2: "blue"}
    counts = RLEMask.from_array(np.zeros(SIZE, np.uint8)).to_dict()["counts"]
    empty = Prompt(frame=0, object_id=1, rle=(*SIZE, counts), detector="pointrend")
    assert around.find(empty) == []  # which says absent, as without a detector
    made = resolved([empty, Prompt(frame=5, object_id=1, box=(1, 1, 9, 9))])
    assert not made.frames[0].given[1].any() and not made.frames[0].seeds


def test_a_record_keeps_everything():
    for one in Around().find(detector(frame=0)):
        again = Found.from_record(one.to_record())
        assert np.array_equal(again.mask, one.mask) and again.provenance() == one.provenance()
    with pytest.raises(ValueError, match="not a found object"):
        Found.from_record({"prompt": 1})


def resolved(prompts: list[Prompt], found: list[Found] = ()):
    return resolve_prompts(prompts, SIZE, lambda seconds: 0, {}.__getitem__, found)


def test_finds_seed_and_are_never_pinned():
    prompts = [detector(frame=0, max_objects=2, complete=True), Prompt(frame=9, object_id=1, absent=True)]
    found = Around().find(*prompts)
    made = resolved(prompts, found)
    assert made.object_ids == (1, 2) and not made.frames[0].given
    assert sorted(made.frames[0].seeds) == [1, 2] and made.found[2].class_name == "green"
    assert list(made.frames[9].given) == [1] and not made.frames[9].given[1].any()


def test_absence_by_an_empty_rle_and_by_name_are_the_same():
    box = Prompt(frame=0, object_id=1, box=(1, 1, 9, 9))
    counts = RLEMask.from_array(np.zeros(SIZE, np.uint8)).to_dict()["counts"]
    by_name = resolved([box, Prompt(frame=4, object_id=1, absent=True)])
    by_rle = resolved([box, Prompt(frame=4, object_id=1, rle=(*SIZE, counts))])
    for made in (by_name, by_rle):
        assert list(made.frames[4].given) == [1] and not made.frames[4].given[1].any()
        assert made.frames[4].given[1].shape == SIZE
    with pytest.raises(PromptError, match="object 1 has only empty masks"):
        resolved([Prompt(frame=4, object_id=1, absent=True)])


def test_a_find_and_a_prompt_of_one_object_on_one_frame_contradict():
    found = Around().find(detector(frame=0, object_id=1))
    with pytest.raises(PromptError, match="object 1 has two prompts on frame 0"):
        resolved([detector(frame=0, object_id=1), Prompt(frame=0, object_id=1, box=(1, 1, 5, 5))], found)
