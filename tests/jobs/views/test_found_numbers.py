"""Corrections of what a detector found keep its objects' numbers."""

import numpy as np

from jobs.views.found_numbers import with_numbers
from schemas.prompt import Prompt
from schemas.video_row import VideoRow
from stcn_core.detection import Surroundings, find_objects
from stcn_core.detectors import Detections

FINDS = Prompt(detector="mask-rcnn")


def row(*prompts: Prompt) -> VideoRow:
    return VideoRow(1, "/v.mp4", "v", prompts)


class Three:
    """Finds three squares."""

    class_names = ("square",)

    def detect(self, picture: np.ndarray, *, classes=(), min_score: float = 0.5, limit: int = 50) -> Detections:
        masks = np.zeros((3, 16, 16), np.float16)
        for n in range(3):
            masks[n, 5 * n : 5 * n + 4, :4] = 0.9
        boxes = np.array([[0, 5 * n, 4, 5 * n + 4] for n in range(3)], np.float32)
        return Detections(masks, boxes, ("square",) * 3, np.array([0.9, 0.8, 0.7], np.float32))


def numbers(prompts: tuple[Prompt, ...]) -> list[int]:
    detector = Three()
    around = Surroundings(
        (16, 16), int, lambda url: b"", lambda n: [4], lambda f: np.zeros((16, 16, 3), np.uint8), lambda name: detector
    )
    return [one.object_id for one in find_objects(prompts, around)]


def test_a_correction_leaves_the_numbers_as_they_were() -> None:
    correction = Prompt(frame=9, object_id=2, rle=(16, 16, b"`8"))
    assert numbers((FINDS, correction)) == [1, 3, 4]  # what a row means that says no number
    for prompts in ((FINDS,), (Prompt(frame=0, object_id=1, box=(0, 0, 9, 9)), FINDS)):
        before = numbers(prompts)
        held, unnamed = with_numbers(row(*prompts), before)
        assert not unnamed and numbers(held.prompts) == before
        assert numbers((*held.prompts, correction)) == before


def test_what_a_row_cannot_say_is_not_to_be_named() -> None:
    assert with_numbers(row(FINDS, Prompt(detector="lost")), [1, 2]) == (row(FINDS, Prompt(detector="lost")), {1, 2})
    between = row(FINDS, Prompt(frame=0, object_id=2, box=(0, 0, 9, 9)))
    assert with_numbers(between, [1, 3, 4]) == (between, {1, 3, 4})
    given = row(Prompt(frame=0, object_id=2, box=(0, 0, 9, 9)))
    assert with_numbers(given, []) == (given, frozenset())
    said = row(Prompt(detector="lost", object_id=4), FINDS)
    assert with_numbers(said, [1, 4])[0].prompts[1].object_id == 1
