"""Which frames are memorised: the rules on given sequences, and in causal runs."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels

from stcn_core.admission import Adaptive, EveryNth, FrameChange, confidence, mask_change, motion_changed
from stcn_core.image_change import image_change
from stcn_core.offline import OfflineSegmenter
from stcn_core.online import OnlineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings

SIZE = (40, 56)
VIDEO = moving_squares(24, *SIZE, objects=2)
LABELS = square_labels(24, *SIZE, objects=2)
FIRST = {0: (LABELS[0] == 1).astype(np.uint8), 1: (LABELS[0] == 2).astype(np.uint8)}


def saved(
    image: Sequence[float], mask: Sequence[float], objects: int = 1, additional: int = 0, prompted: Sequence[int] = ()
) -> list[int]:
    """image and mask are I_t and M_t of frames 1, 2, ... -> the frames that are memorised."""
    rule = Adaptive(additional)
    changes = [FrameChange(0, 0), *(FrameChange(i, m) for i, m in zip(image, mask, strict=True))]
    return [t for t, change in enumerate(changes) if rule.wants(change, objects, t == 0 or t in prompted)]


@pytest.mark.parametrize(
    ("image", "mask", "objects", "expected"),
    [
        (0.0, 0.31, 1, True),
        (0.0, 0.30, 1, False),
        (0.51, 0.09, 1, True),
        (0.51, 0.10, 1, False),  # neither below 0.1 nor large enough for the others
        (0.50, 0.00, 1, False),
        (0.0, 0.11, 3, True),
        (0.0, 0.11, 2, False),
        (0.26, 0.26, 1, True),
        (0.25, 0.26, 1, False),
        (0.61, 0.16, 1, True),
        (0.60, 0.16, 1, False),
    ],
)
def test_the_trigger_by_its_thresholds(image: float, mask: float, objects: int, expected: bool) -> None:
    assert motion_changed(image, mask, objects) is expected


def test_steady_motion_never_triggers_and_a_change_of_it_does() -> None:
    assert saved([40.0] * 20, [7.0] * 20) == []
    assert saved([40.0] * 10 + [41.0] * 10, [7.0] * 20) == [11]  # once: afterwards it is steady again
    assert saved([40.0] * 20, [7.0] * 14 + [7.4] * 6) == [15]


def test_the_first_difference_has_none_before_it() -> None:
    """However much frame 1 differs from frame 0, that is no change of motion; frame 2 is the first that can be one."""
    assert saved([90.0], [90.0]) == []
    assert saved([90.0, 0.0], [0.0, 0.0]) == [2]


def test_cool_down_of_four_frames() -> None:
    jumps = [10.0 * (t % 2) for t in range(1, 21)]
    assert saved(jumps, [0.0] * 20) == [2, 6, 10, 14, 18]
    # What happens while it cools down is not made up for.
    assert saved([0, 9, 9, 9, 0, 0, 0, 0, 0, 0], [0] * 10) == [2]
    assert saved([0, 9, 9, 9, 9, 0, 0, 0, 0, 0], [0] * 10) == [2, 6]


def test_additional_rate_and_its_cool_down() -> None:
    assert saved([5.0] * 30, [0.0] * 30, additional=10) == [10, 20, 30]
    assert saved([5.0] * 12, [0.0] * 12, additional=1) == [1, 5, 9]  # possible from frame 1 on
    assert saved([0.0] * 7 + [5.0] * 13, [0.0] * 20, additional=10) == [8, 20]  # 10 falls into the cool-down after 8


def test_a_prompted_frame_is_left_to_its_pin_and_does_not_start_a_cool_down() -> None:
    jumps = [10.0 * (t % 2) for t in range(1, 13)]
    assert saved(jumps, [0.0] * 12, prompted=[2]) == [3, 7, 11]


def test_image_change_by_hand() -> None:
    """40 x 56 is padded to 48 x 64. A grey step of 78 is 4.06 in normalised values, one of 76 is 3.96."""
    before = np.full((*SIZE, 3), 100, np.uint8)
    after = before.copy()
    after[:10, :10] += 78
    after[20:30, :10] += 76
    assert image_change(after, before) == pytest.approx(100 * 100 / (48 * 64))
    assert image_change(before, after) == image_change(after, before)


def test_mask_change_by_hand() -> None:
    a, b = torch.zeros(2, 10, 10), torch.zeros(2, 10, 10)
    b[0, 0, :5], a[1, 1, :3], b[0, 2, :4], a[1, 2, :4] = 1.0, 0.98, 0.5, 0.5  # the last: 0.5 + 0.5 over the objects
    assert mask_change(a, b) == 9.0


def test_every_nth_from_the_start_or_from_each_prompt() -> None:
    for restart, expected in ((False, [0, 5, 10, 15]), (True, [0, 5, 7, 12, 17])):
        rule = EveryNth(5, restart)
        assert [t for t in range(18) if rule.wants(FrameChange(0, 0), 1, t in (0, 7))] == expected


# In causal runs


@pytest.fixture(scope="module")
def propagation() -> Propagation:
    return Propagation(random_network(), SIZE)


def run(propagation: Propagation, video: np.ndarray = VIDEO, **changes: object) -> list[set[int]]:
    """What was in memory when each frame was read, and at the end."""
    settings = OfflineSettings(**{"burn_in_passes": 0, "memory_policy": "unbounded", "recent_frames": 0, **changes})
    online = OnlineSegmenter(propagation, settings, 2)
    found = []
    for frame, picture in enumerate(video):
        found.append({slot.frame for slot in online.memory.slots if slot.frame >= 0})
        online.step(frame, picture, FIRST if frame == 0 else None)
    return [*found, {slot.frame for slot in online.memory.slots if slot.frame >= 0}]


def test_stm_reads_first_previous_and_every_fifth(propagation: Propagation) -> None:
    held = run(propagation, recent_frames=1, include_last=True, affinity="dot", top_k=0)
    for t in range(1, len(VIDEO)):
        assert held[t] == {0, t - 1, *range(0, t, 5)}, t


def test_stcn_with_its_last_frame_flushes_it_on_every_addition(propagation: Propagation) -> None:
    with_last, without = run(propagation, recent_frames=1, include_last=True), run(propagation)
    assert with_last[7] == {0, 5, 6} and with_last[6] == {0, 5} and without[7] == {0, 5}
    plain_ring = run(propagation, recent_frames=1)
    assert plain_ring[6] == {0, 4, 5}  # the ring alone keeps an older frame


def test_an_adaptive_run_memorises_where_image_or_masks_jump(
    propagation: Propagation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A still video of which a block brightens at frame 9: I_9 jumps, I_10 falls back within the cool-down. The random
    network's masks differ from the given ones: M_1 is large, M_2 is not."""
    video = np.repeat(VIDEO[:1], 16, 0)
    video[9:, 20:, :20] ^= 0x80
    assert run(propagation, video[:9], admission="adaptive", additional_every=0)[-1] == {0, 2}
    monkeypatch.setattr("stcn_core.online.mask_change", lambda now, before: 0.0)
    assert run(propagation, video, admission="adaptive", additional_every=0)[-1] == {0, 9}
    assert run(propagation, video[:1].repeat(16, 0), admission="adaptive", additional_every=0)[-1] == {0}
    assert run(propagation, video, admission="adaptive", additional_every=14)[-1] == {0, 9, 14}
    assert run(propagation, video)[-1] == {0, 5, 10, 15}


# The confidence gate


def test_confidence_is_that_of_the_least_sure_object() -> None:
    p = torch.zeros(4, 4, 4)
    p[1, :2], p[2, 2], p[0] = 0.9, 0.6, 0.3
    assert confidence(p) == pytest.approx(0.6)  # the third object has no pixel
    p[1:] = 0
    assert confidence(p) == 1.0


def sureness(propagation: Propagation, monkeypatch: pytest.MonkeyPatch, gate: float, causal: bool) -> tuple[dict, set]:
    """frame -> confidence of every frame that was judged, and the frames of the bank at the end."""
    seen: dict[int, float] = {}
    segment = propagation.segment

    def watched(encoded: object, *rest: object, **named: object) -> torch.Tensor:
        result = segment(encoded, *rest, **named)
        seen[encoded.frames[0]] = confidence(propagation.unpad(result[0]))
        return result

    monkeypatch.setattr(propagation, "segment", watched)
    common = {"memory_policy": "unbounded", "recent_frames": 0, "memory_every": 1, "confidence_gate": gate}
    if causal:
        online = OnlineSegmenter(propagation, OfflineSettings(burn_in_passes=0, **common), 2)
        for frame, picture in enumerate(VIDEO):
            online.step(frame, picture, FIRST if frame == 0 else None)
        memory = online.memory
    else:
        given = PromptSet((1, 2), {0: FramePrompts({k + 1: mask for k, mask in FIRST.items()})})
        settings = OfflineSettings(**common)
        offline = OfflineSegmenter(propagation, settings, given, source=SIZE, size=SIZE, video_id="v", visited=30)
        offline.memorise_prompts(lambda frame: VIDEO[frame])
        assert len(list(offline.burn_in(range(24), lambda frame: VIDEO[frame]))) == 23
        memory = offline.memory
    monkeypatch.undo()
    return seen, set(memory.bank_frames())


@pytest.mark.parametrize("causal", [True, False])
def test_frames_below_the_gate_are_not_memorised(
    propagation: Propagation, monkeypatch: pytest.MonkeyPatch, causal: bool
) -> None:
    seen, kept = sureness(propagation, monkeypatch, 0.0, causal)
    assert kept == set(range(1, 24))
    gate = float(np.median(list(seen.values())))
    seen, kept = sureness(propagation, monkeypatch, gate, causal)
    assert kept == {frame for frame, value in seen.items() if value >= gate}
    assert 0 < len(kept) < 23
    assert sureness(propagation, monkeypatch, 1.0, causal)[1] == set()


def test_a_frame_that_is_turned_away_takes_no_slot_of_the_bank(
    propagation: Propagation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under fifo the next one gets it: nothing is evicted for a frame that is not kept."""
    answers = iter([0.9, 0.1, 0.9, 0.1, 0.9, 0.9])
    monkeypatch.setattr("stcn_core.offline.confidence", lambda p: next(answers))
    given = PromptSet((1, 2), {0: FramePrompts({k + 1: mask for k, mask in FIRST.items()})})
    settings = OfflineSettings(memory_frames=3, memory_policy="fifo", confidence_gate=0.5)
    run = OfflineSegmenter(propagation, settings, given, source=SIZE, size=SIZE, video_id="v", visited=30)
    run.memorise_prompts(lambda frame: VIDEO[frame])
    list(run.burn_in([5, 6, 7, 8, 9, 10], lambda frame: VIDEO[frame]))
    assert run.memory.bank_frames() == [10, 7, 9]
