from pathlib import Path

import numpy as np
import pytest
from made_networks import moving_squares, square_labels
from PIL import Image

from jobs.ablation.clips import ClipError, ClipSpec, bar_at, list_clips, open_clip, to_and_fro, to_and_fro_frames

SIZE, FRAMES = (48, 64), 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAVIS's layout: two clips, and one with masks of some frames only."""
    root = tmp_path_factory.mktemp("davis")
    for seed, name in enumerate(("a", "b", "broken")):
        for part, pixels, suffix in (
            ("JPEGImages", moving_squares(FRAMES, *SIZE, seed=seed), "png"),
            ("Annotations", square_labels(FRAMES, *SIZE), "png"),
        ):
            (root / part / "480p" / name).mkdir(parents=True)
            for number, each in enumerate(pixels[: 3 if (name, part) == ("broken", "Annotations") else None]):
                Image.fromarray(each).save(root / part / "480p" / name / f"{number:05d}.{suffix}")
    return root


def clip(folder: Path, kind: str):
    (spec, *_), _ = list_clips(folder, [kind])
    return open_clip(spec, 48)


def test_folders_without_all_masks_are_left_out(folder: Path) -> None:
    found, left_out = list_clips(folder, ["real", "spliced"])
    assert [spec.name for spec in found] == ["a.real", "b.real", "a.spliced", "b.spliced"]
    assert len(left_out) == 1 and "broken: 8 frames and 3 masks" in left_out[0]
    with pytest.raises(ClipError, match="no folder"):
        list_clips(folder / "Annotations", ["real"])


def test_to_and_fro_turns_at_the_ends() -> None:
    assert [to_and_fro(i, 4) for i in range(11)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]
    assert to_and_fro_frames(4, 3) == 10


def test_to_and_fro_shows_the_same_frames(folder: Path) -> None:
    real, long = clip(folder, "real"), clip(folder, "to-and-fro-3")
    assert long.frames == 22 and long.spec.every == 2
    for number, shown in ((7, 7), (8, 6), (14, 0), (21, 7)):
        assert np.array_equal(long.picture(number), real.picture(shown))
        assert np.array_equal(long.labels(number), real.labels(shown))


def test_spliced_has_no_object_in_the_second(folder: Path) -> None:
    spliced = clip(folder, "spliced")
    assert spliced.frames == 16
    assert spliced.labels(7).any() and not any(spliced.labels(i).any() for i in range(8, 16))
    assert not np.array_equal(spliced.picture(8), clip(folder, "real").picture(0))


def test_what_the_bar_covers_is_not_visible(folder: Path) -> None:
    real, occluded = clip(folder, "real"), clip(folder, "occluded")
    covered = 0
    assert np.array_equal(occluded.picture(0), real.picture(0))  # the prompt is whole
    for number in range(FRAMES):
        left, right = bar_at(number, FRAMES, SIZE[1])
        changed = (occluded.picture(number) != real.picture(number)).any((0, 2))
        assert not changed[:left].any() and not changed[right:].any()
        assert not occluded.labels(number)[:, left:right].any()
        covered += right - left
    assert covered > SIZE[1]


def test_smaller_than_the_source(folder: Path) -> None:
    small = open_clip(ClipSpec("a.real", "real", (str(folder / "JPEGImages" / "480p" / "a"),)), 24)
    assert small.size == (24, 32) and small.picture(0).shape == (24, 32, 3) and small.labels(3).shape == (24, 32)
    assert small.objects == (1, 2) and set(np.unique(small.labels(3))) <= {0, 1, 2}
