"""A whole run on a pretended device (tests/made_device.py): the same masks, nothing of two devices in one operation,
and no frame for which the host waits while it could queue more work."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_device import pretended_device
from made_networks import moving_squares, random_network, square_labels

from stcn_core import inference, score_product
from stcn_core.host_copy import HostCopy
from stcn_core.masks import ObjectMask
from stcn_core.multi_scale import MultiScaleSegmenter
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

SIZE, SOURCE, FRAMES = (40, 56), (80, 112), 23
VIDEO, LABELS = moving_squares(FRAMES, *SIZE, objects=3), square_labels(FRAMES, *SOURCE, objects=3)
NETWORK = random_network()
PROMPTS = PromptSet(
    (1, 2, 3),
    {
        0: FramePrompts({i: (LABELS[0] == i).astype(np.uint8) for i in (1, 2)}),
        2: FramePrompts({}, {3: (LABELS[2] == 3).astype(np.uint8)}),
    },
)
Masks = list[tuple[int, list[ObjectMask]]]


def settings(**changes: object) -> OfflineSettings:
    return OfflineSettings(
        **{
            "memory_frames": 4,
            "burn_in_frames": 10,
            "group_frames": 3,
            "segment_frames": 6,
            "recent_frames": 2,
            **changes,
        }
    )


def ready(options: OfflineSettings, device: str, precision: str = "fp32") -> OfflineSegmenter | MultiScaleSegmenter:
    """Prompts memorised and burned in, or a causal run that has not begun."""

    def propagation(size: tuple[int, int]) -> Propagation:
        return Propagation(NETWORK, size, device=device, precision=precision, regions=options.region_decoding)

    named = {"source": SOURCE, "size": SIZE, "video_id": "v", "visited": FRAMES}
    if options.scales or options.flip:
        run = MultiScaleSegmenter(propagation, options, PROMPTS, **named)
    else:
        run = OfflineSegmenter(propagation(SIZE), options, PROMPTS, **named)
    if options.burn_in_passes:
        run.memorise_prompts(lambda frame: VIDEO[frame])
        list(run.burn_in(range(1, 11), lambda frame: VIDEO[frame]))
    return run


def passed(run: OfflineSegmenter | MultiScaleSegmenter, options: OfflineSettings) -> Masks:
    pictures = enumerate(VIDEO)
    return list(run.final_pass(pictures) if options.burn_in_passes else run.causal_pass(pictures))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"memory_policy": "random-token"},
        {"memory_policy": "random-token", "exclude_own": False},
        {"memory_policy": "random-frame"},
        {"memory_policy": "reservoir", "burn_in_order": "outward"},
        {"memory_policy": "unbounded", "burn_in_passes": 0},
        {"burn_in_gate": "two-way"},
        {"burn_in_gate": "agreement,relabel"},
        {"burn_in_gate": "restart", "burn_in_passes": 2},
        {"confidence_gate": 0.3},
        {"region_decoding": True},
        {"kernel_sigma": 3.0},
        {"affinity": "dot"},
        {"top_k": 0},
        {"second_opinion": True},
        {"recent_frames": 0},
        {"pin_prompts": False},
        {"scales": "32,48:3", "flip": True},
        {"burn_in_passes": 0},
        {"burn_in_passes": 0, "admission": "adaptive"},
        {"burn_in_passes": 0, "pin_prompts": False, "confidence_gate": 0.2},
    ],
    ids=lambda changes: " ".join(f"{name}={value}" for name, value in changes.items()) or "defaults",
)
def test_a_device_gives_the_masks_of_the_cpu(changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    options = settings(**changes)
    expected = passed(ready(options, "cpu"), options)
    with pretended_device(monkeypatch) as watch:
        found = passed(ready(options, "cuda"), options)
    assert watch.calls > 1000
    assert found == expected
    assert sum(len(masks) for _, masks in found) > FRAMES


def test_half_precision_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read by half products: the host waits to learn which columns are in doubt, a few times per group."""
    for module in (inference, score_product):
        monkeypatch.setattr(module, "computes_in", lambda *_: True)
    options = settings()
    expected = passed(ready(options, "cpu", "bf16"), options)
    with pretended_device(monkeypatch) as watch:
        run = ready(options, "cuda", "bf16")
        before = Counter(watch.here())
        assert passed(run, options) == expected
        here = Counter(watch.here()) - before
    assert set(here) <= {"an index of bools", "tolist"}
    assert 0 < sum(here.values()) < 2 * FRAMES


@pytest.mark.parametrize("passes", [0, 1])
def test_no_frame_is_waited_for(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the thread that queues the work: the other one waits for the labels and scores, once each."""
    options = settings(burn_in_passes=passes)
    with pretended_device(monkeypatch) as watch:
        run = ready(options, "cuda")
        stream = (run.final_pass if passes else run.causal_pass)(enumerate(VIDEO))
        for _ in range(3):
            next(stream)  # the frames with prompts
        before = Counter(watch.here())
        found = list(stream)
        here = Counter(watch.here()) - before
    assert len(found) == FRAMES - 3
    assert not here
    others = sum((each for thread, each in watch.waits.items() if each is not watch.here()), Counter())
    assert set(others) == {"an event"}


def test_a_bank_goes_from_device_to_file_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved on one machine, a bank may be loaded on another, with a GPU or without."""
    options = settings()
    expected = passed(ready(options, "cpu"), options)
    ready(options, "cpu").save_bank(tmp_path / "cpu")
    with pretended_device(monkeypatch):
        run = ready(options, "cuda")
        run.save_bank(tmp_path / "cuda")
        run.load_bank(tmp_path / "cpu")
        assert passed(run, options) == expected
    run = ready(options, "cpu")
    run.load_bank(tmp_path / "cuda")
    assert passed(run, options) == expected


def test_a_copy_is_complete_only_when_it_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the pretended device shows it: read too early, a pinned copy is garbage."""
    with pretended_device(monkeypatch):
        values = Propagation(NETWORK, SIZE, device="cuda").given(np.ones((1, *SIZE), np.uint8))
        copy = HostCopy(values)
        early = copy._tensors[0].clone()
        (found,) = copy.arrays()
    assert np.array_equal(found, values.elem.numpy())
    assert not np.array_equal(early.numpy(), found)
