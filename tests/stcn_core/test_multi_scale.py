"""Runs at several sizes and mirrored, averaged before the decision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from made_networks import moving_squares, random_network, square_labels
from PIL import Image

from stcn_core.multi_scale import MultiScaleSegmenter, scaled_size
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings, Scale, parse_scales

SIZE, FRAMES = (40, 56), 12
VIDEO = moving_squares(FRAMES, *SIZE, objects=2)
LABELS = square_labels(FRAMES, *SIZE, objects=2)
FIRST = {3: (LABELS[0] == 1).astype(np.uint8), 5: (LABELS[0] == 2).astype(np.uint8)}
MIRRORED = {number: np.ascontiguousarray(mask[:, ::-1]) for number, mask in FIRST.items()}
GIVEN = PromptSet((3, 5), {0: FramePrompts(FIRST)})
ORDER = [7, 3, 9, 5]


@pytest.fixture(scope="module")
def made() -> Callable[[tuple[int, int]], Propagation]:
    network = random_network()
    return lambda size: Propagation(network, size)


def options(**changes: object) -> OfflineSettings:
    return OfflineSettings(
        **{"memory_frames": 4, "group_frames": 2, "segment_frames": 4, "recent_frames": 2, **changes}
    )


def begin(made: Callable, settings: OfflineSettings, prompts: PromptSet = GIVEN) -> MultiScaleSegmenter:
    return MultiScaleSegmenter(made, settings, prompts, source=SIZE, size=SIZE, video_id="v", visited=8)


def burned_in(run: MultiScaleSegmenter | OfflineSegmenter, video: np.ndarray = VIDEO) -> None:
    run.memorise_prompts(lambda frame: video[frame])
    assert list(run.burn_in(iter(ORDER), lambda frame: video[frame])) == ORDER


def arrays(results: object) -> dict[int, np.ndarray]:
    found = {}
    for frame, masks in results:
        found[frame] = np.zeros(SIZE, np.uint8)
        for mask in masks:
            found[frame][mask.decode() == 1] = mask.object_id
    return found


def test_the_average_by_hand(made: Callable) -> None:
    """Two sizes and their mirrored views, one of them with kernels: four runs computed one by one."""
    run = begin(made, options(scales="32,48:3", flip=True))
    assert [r.segmenter.settings.kernel_sigma for r in run.runs] == [0, 0, 3, 3]
    burned_in(run)
    found = arrays(run.final_pass(enumerate(VIDEO)))
    total = np.zeros((FRAMES, 3, *SIZE), np.float32)
    for side, sigma in ((32, 0.0), (48, 3.0)):
        size = (side, {32: 45, 48: 67}[side])
        for mirrored in (False, True):
            video = [np.asarray(Image.fromarray(p).resize(size[::-1], Image.Resampling.BICUBIC)) for p in VIDEO]
            turn = -1 if mirrored else 1
            video = np.ascontiguousarray(np.stack(video)[:, :, ::turn])
            prompts = PromptSet((3, 5), {0: FramePrompts(MIRRORED if mirrored else FIRST)})
            settings = options(kernel_sigma=sigma)
            alone = OfflineSegmenter(made(size), settings, prompts, source=SIZE, size=size, video_id="v", visited=8)
            burned_in(alone, video)
            for one in alone.final_predictions(enumerate(video)):
                p = one.probabilities.flip(-1) if mirrored else one.probabilities
                total[one.frame] += F.interpolate(p[None], SIZE, mode="bilinear", align_corners=False)[0].numpy()
    best = np.sort(total, 1)
    decided = best[:, -1] - best[:, -2] > 1e-3
    decided[0] = False  # the given masks
    expected = np.array([0, 3, 5])[total.argmax(1)]
    assert decided.mean() > 0.7 and len(np.unique(expected[decided])) == 3
    assert np.array_equal(np.stack([found[n] for n in range(FRAMES)])[decided], expected[decided])
    assert np.array_equal(found[0], np.where(LABELS[0] == 1, 3, np.where(LABELS[0] == 2, 5, 0)))


def test_mirrored_runs_make_the_whole_symmetric(made: Callable) -> None:
    """With flip, a mirrored video gets mirrored masks; without, it does not."""
    mirror = PromptSet((3, 5), {0: FramePrompts(MIRRORED)})
    wrong = {}
    for flip in (True, False):
        both = []
        for video, prompts in ((VIDEO, GIVEN), (np.ascontiguousarray(VIDEO[:, :, ::-1]), mirror)):
            run = begin(made, options(scales="40", flip=flip), prompts)
            burned_in(run, video)
            both.append(np.stack(list(arrays(run.final_pass(enumerate(video))).values())))
        wrong[flip] = (both[0] != both[1][:, :, ::-1]).mean()
    assert wrong[True] < 0.002 < 0.01 < wrong[False]


@pytest.mark.parametrize("first", [4, 8])
def test_split_equals_unsplit(made: Callable, tmp_path: Path, first: int) -> None:
    settings = options(scales="32,40", flip=True)
    whole = begin(made, settings)
    burned_in(whole)
    whole.save_bank(tmp_path / "bank")
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    expected = list(whole.final_pass(enumerate(VIDEO)))[first:]
    other = begin(made, settings)
    other.load_bank(tmp_path / "bank")
    warm = min(first, other.ring_frames)
    numbered = list(enumerate(VIDEO))
    assert list(other.final_pass(numbered[first:], numbered[first - warm : first])) == expected


def test_a_bank_of_other_runs_is_refused(made: Callable, tmp_path: Path) -> None:
    run = begin(made, options(scales="32"))
    burned_in(run)
    run.save_bank(tmp_path / "bank")
    with pytest.raises(ValueError, match="no whole archive of 2 banks"):
        begin(made, options(scales="32,40")).load_bank(tmp_path / "bank")
    with pytest.raises(ValueError, match="working size"):
        begin(made, options(scales="48")).load_bank(tmp_path / "bank")
    (tmp_path / "bank").write_bytes((tmp_path / "bank").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"bank"):
        begin(made, options(scales="32")).load_bank(tmp_path / "bank")


def test_causal_runs_are_averaged_too(made: Callable) -> None:
    settings = options(burn_in_passes=0, scales="32,48")
    found = arrays(begin(made, settings).causal_pass(enumerate(VIDEO)))
    single = arrays(begin(made, options(burn_in_passes=0, scales="32")).causal_pass(enumerate(VIDEO)))
    assert list(found) == list(range(FRAMES))
    assert any(not np.array_equal(found[n], single[n]) for n in range(1, FRAMES))


def test_one_run_at_the_own_size_is_the_plain_segmenter(made: Callable) -> None:
    run = begin(made, options(scales="40"))
    plain = OfflineSegmenter(made(SIZE), options(), GIVEN, source=SIZE, size=SIZE, video_id="v", visited=8)
    for each in (run, plain):
        burned_in(each)
    assert list(run.final_pass(enumerate(VIDEO))) == list(plain.final_pass(enumerate(VIDEO)))


def test_runs_may_visit_different_frames(made: Callable) -> None:
    """Under a gate each run labels the frames again that its own bank holds."""
    run = begin(made, options(scales="32,48", burn_in_gate="agreement,relabel", gate_overlap=0.6))
    run.memorise_prompts(lambda frame: VIDEO[frame])
    visits = list(run.burn_in(iter(ORDER), lambda frame: VIDEO[frame]))
    assert set(visits) == set(ORDER) and len(visits) >= 8  # rehearsed, then visited
    assert list(arrays(run.final_pass(enumerate(VIDEO)))) == list(range(FRAMES))


def test_scales() -> None:
    assert parse_scales("480,600:7") == (Scale(480), Scale(600, 7.0))
    assert scaled_size((1080, 1920), Scale(480)) == (480, 853) and scaled_size((240, 426), Scale(600)) == (600, 1065)
    for text in ("480,480", "0", "a", "480:x", "480:-1"):
        with pytest.raises(ValueError, match="--scales"):
            parse_scales(text)


def test_a_video_one_pixel_wide_is_mirrored_too(made: Callable) -> None:
    """A column that is mirrored counts as contiguous, but its stride is negative."""
    video, given = np.zeros((12, 9, 1, 3), np.uint8), PromptSet((1,), {1: FramePrompts({1: np.ones((9, 1), np.uint8)})})
    settings = options(scales="16", flip=True)
    run = MultiScaleSegmenter(made, settings, given, source=(9, 1), size=(9, 1), video_id="v", visited=8)
    burned_in(run, video)
    assert [frame for frame, _ in run.final_pass(enumerate(video))] == list(range(12))
