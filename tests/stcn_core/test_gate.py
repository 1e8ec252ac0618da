"""The gates of the burn-in: what each decides, and that it changes what the memory holds."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels

from stcn_core import gate
from stcn_core.gate import Stage, certainty, overlaps, stages, surest
from stcn_core.network import STCN
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import GATES, OfflineSettings

SIZE = (40, 56)
VIDEO = moving_squares(20, *SIZE)
LABELS = square_labels(20, *SIZE)
PROMPTS = PromptSet((1, 2), {3: FramePrompts({i: (LABELS[3] == i).astype(np.uint8) for i in (1, 2)})})
ORDER = [int(f) for f in np.random.default_rng(1).permutation([f for f in range(20) if f != 3])]


@pytest.fixture(scope="module")
def network() -> STCN:
    return random_network()


def settings(gates: str, **changes: object) -> OfflineSettings:
    passes = 2 if "restart" in gates else 1
    defaults = {
        "memory_frames": 6,
        "burn_in_passes": passes,
        "group_frames": 3,
        "segment_frames": 6,
        "recent_frames": 2,
    }
    defaults |= {"memory_policy": "fifo", "burn_in_order": "priority"}
    return OfflineSettings(**{**defaults, "burn_in_gate": gates, **changes})


def segmenter(network: STCN, options: OfflineSettings, prompts: PromptSet = PROMPTS) -> OfflineSegmenter:
    return OfflineSegmenter(Propagation(network, SIZE), options, prompts, source=SIZE, size=SIZE, video_id="v")


def burned_in(network: STCN, options: OfflineSettings, prompts: PromptSet = PROMPTS) -> tuple[OfflineSegmenter, list]:
    run = segmenter(network, options, prompts)
    run.memorise_prompts(lambda frame: VIDEO[frame])
    return run, list(run.burn_in(ORDER * options.burn_in_passes, lambda frame: VIDEO[frame]))


def validities(run: OfflineSegmenter) -> list[tuple[bool, ...]]:
    return [slot.valid for slot in run.memory.slots if slot.frame >= 0 and not slot.pinned]


def test_without_a_gate_the_burn_in_is_its_order() -> None:
    assert stages([4, 2, 9], settings(""), [0], "v") == [Stage((4, 2, 9))]
    assert stages([], settings(""), [0], "v") == []


def test_stages_of_all_gates() -> None:
    options = settings("agreement,restart,relabel", burn_in_passes=2)
    rehearsal, first, second, last = stages([5, 1, 7, 1, 7, 5], options, [0], "v")
    assert rehearsal.rehearsal and sorted(rehearsal.frames) == [1, 5, 7]
    assert (first, second, last) == (Stage((5, 1, 7)), Stage((1, 7, 5), restart=True), Stage(None))


def test_every_frame_that_a_pass_visits_is_rehearsed() -> None:
    """Of a long video each pass visits others; those that only a later one visits would never be memorised."""
    options = settings("agreement", burn_in_passes=2)
    rehearsal, first, second = stages([5, 1, 7, 9, 3, 1], options, [0], "v")
    assert rehearsal.rehearsal and sorted(rehearsal.frames) == [1, 3, 5, 7, 9]
    assert (first, second) == (Stage((5, 1, 7)), Stage((9, 3, 1)))


def test_a_rehearsal_grows_outward_too() -> None:
    options = settings("agreement", burn_in_order="outward")
    rehearsal, first = stages([30, 1, 90, 2, 60, 3, 4, 5], options, [0], "v")
    assert rehearsal.frames[0] in (1, 2, 3, 4) and rehearsal.frames[-1] in (5, 30, 60, 90)
    assert first.frames == (30, 1, 90, 2, 60, 3, 4, 5)  # whoever chose them made that order


def test_overlaps_and_certainty() -> None:
    a = torch.tensor([[0, 1, 1], [0, 2, 2]])
    b = torch.tensor([[1, 1, 1], [0, 0, 0]])
    assert overlaps(a, b, 3) == [2 / 3, 0.0, 1.0]
    p = torch.tensor([[[0.1, 0.8]], [[0.9, 0.1]], [[0.0, 0.1]]])  # object 1 in the first pixel, object 2 nowhere
    assert certainty(p) == pytest.approx(0.45)


def test_surest() -> None:
    assert surest({4: 0.9, 2: 0.5, 7: 0.9, 1: 0.1}, [1, 2, 4, 7]) == [4, 7]
    assert surest({}, [3]) == [3]


@pytest.mark.parametrize("name", GATES)
def test_every_gate_changes_the_memory_and_is_repeatable(network: STCN, name: str) -> None:
    options = settings(name, gate_overlap=0.7)
    plain = settings("", burn_in_passes=options.burn_in_passes)
    (run, _), (again, _), (without, _) = (burned_in(network, each) for each in (options, options, plain))
    assert torch.equal(run.memory.values, again.memory.values)
    kept = (run.memory.bank_frames(), validities(run))
    same = kept == (without.memory.bank_frames(), validities(without))
    assert not (same and torch.equal(run.memory.values, without.memory.values))


def test_an_overlap_of_0_trusts_every_frame(network: STCN) -> None:
    plain, _ = burned_in(network, settings(""))
    for name in ("agreement", "two-way"):
        everything, _ = burned_in(network, settings(name, gate_overlap=0.0))
        assert everything.memory.bank_frames() == plain.memory.bank_frames()
        assert set(validities(everything)) == {(True, True)}


def test_what_does_not_give_the_prompt_back_is_not_memorised(network: STCN) -> None:
    run, _ = burned_in(network, settings("two-way", gate_overlap=1.0))
    assert run.memory.bank_frames() == []
    assert run.memory.inserted == 0


def test_agreement_memorises_only_what_the_rehearsal_showed(network: STCN, monkeypatch: pytest.MonkeyPatch) -> None:
    note = gate.Gate.note

    def noted(self: gate.Gate, frame: int, probabilities: torch.Tensor) -> None:
        note(self, frame, probabilities if frame < 10 else 0 * probabilities)  # all background

    monkeypatch.setattr(gate.Gate, "note", noted)
    run, _ = burned_in(network, settings("agreement", gate_overlap=0.3))
    assert run.memory.bank_frames() and all(frame < 10 for frame in run.memory.bank_frames())


def test_an_object_that_is_not_trusted_is_unknown_in_the_slot(network: STCN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.Witness, "hears", lambda self, *_: [1.0, 0.0])
    run, _ = burned_in(network, settings("two-way"))
    assert set(validities(run)) == {(True, False)}
    dict(run.final_pass(enumerate(VIDEO)))  # object 2 is read from its prompt alone


@pytest.mark.parametrize(
    "changes",
    [{"confidence_gate": 1.0}, {"burn_in_gate": "agreement", "gate_overlap": 1.0}, {"memory_policy": "random-token"}],
)
def test_a_box_stays_where_nothing_else_tells_of_its_object(
    network: STCN, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detection or box is dropped after the burn-in; where gates turned every frame away it is all that is known."""
    monkeypatch.setattr(gate.Gate, "trusted", lambda *_: [False, False])
    monkeypatch.setattr(OfflineSegmenter, "_sure", lambda self, _: bool(self.settings.burn_in_gate))
    one, two = ((LABELS[3] == i).astype(np.uint8) for i in (1, 2))
    frames = {3: FramePrompts({1: one}, {1: one, 2: two}), 9: FramePrompts({2: np.zeros(SIZE, np.uint8)})}
    run, _ = burned_in(network, settings("", **changes), PromptSet((1, 2), frames))
    assert run.memory.bank_frames() == []
    # Of object 2 nothing else is known but where it is absent.
    assert [(slot.frame, slot.absent) for slot in run.memory.slots if slot.frame >= 0 and slot.valid[1]] == [
        (3, ()),
        (9, (True, True)),
    ]
    assert 2 in {mask.object_id for _, masks in run.final_pass(enumerate(VIDEO)) for mask in masks}


def test_two_way_asks_the_first_frame_that_shows_an_object(network: STCN) -> None:
    one, two = ((LABELS[3] == i).astype(np.uint8) for i in (1, 2))
    frames = {0: FramePrompts({2: np.zeros(SIZE, np.uint8)}), 3: FramePrompts({1: one, 2: two})}
    frames[9] = FramePrompts({1: (LABELS[9] == 1).astype(np.uint8)}, {2: (LABELS[9] == 2).astype(np.uint8)})
    run = segmenter(network, settings("two-way"), PromptSet((1, 2), frames))
    run.memorise_prompts(lambda frame: VIDEO[frame])
    assert [(w.encoded.frames, w.objects) for w in run.gate._witnesses] == [((3,), (0, 1))]


def test_two_way_hears_the_true_mask_better_than_a_wrong_one() -> None:
    """With the bundled network: the prompt's own frame gives its mask back, a frame with another mask does not."""
    from stcn_core.checkpoint import BUNDLED, load_checkpoint
    from stcn_core.training.renderer import render_clip

    torch.set_num_threads(1)
    (picture, labels), (later, truth) = list(render_clip(3, 2, (240, 320)))
    propagation = Propagation(load_checkpoint(BUNDLED)[0], labels.shape)
    encoded = propagation.encode([0, 1], [picture, later])
    options, full = OfflineSettings(memory_frames=1), (labels == 1).astype(np.uint8)[None]
    witness = gate.Witness(encoded[0], full, [0])
    key = encoded[1].features.key[0]

    def heard(mask: np.ndarray) -> float:
        values = propagation.value(encoded[1], propagation.given(mask.astype(np.uint8)[None]))
        return witness.hears(propagation, options, key, values)[0]

    right, wrong = heard(truth == 1), heard(np.roll(truth == 1, truth.shape[1] // 2, 1))
    assert right > 0.7 and right > wrong + 0.3
    assert heard(np.zeros_like(truth)) == 0


def test_relabel_visits_the_bank_again(network: STCN) -> None:
    run, visited = burned_in(network, settings("relabel"))
    assert visited[: len(ORDER)] == ORDER
    assert sorted(visited[len(ORDER) :]) == sorted(run.memory.bank_frames())


def test_restart_begins_with_half_of_the_bank(network: STCN, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    keep = segmenter(network, settings("restart")).memory.keep_bank.__func__

    def noted(memory, frames: Iterable[int]) -> None:
        keep(memory, frames)
        left.append((memory.bank_frames(), memory.inserted))

    monkeypatch.setattr("stcn_core.memory.MemoryBank.keep_bank", noted)
    run, visited = burned_in(network, settings("restart"))
    assert [(len(frames), inserted) for frames, inserted in left] == [(3, 3)]
    assert set(left[0][0]) <= set(ORDER[-6:])  # fifo: the last six visited were in the bank
    assert visited == ORDER * 2
    assert len(run.memory.bank_frames()) == 6


@pytest.mark.parametrize("policy", ["fifo", "random-frame", "reservoir", "random-token", "unbounded"])
def test_split_equals_unsplit_from_the_saved_bank(network: STCN, policy: str, tmp_path: Path) -> None:
    names = "agreement,two-way" + ("" if policy == "random-token" else ",relabel,restart")
    options = settings(names, memory_policy=policy, gate_overlap=0.3, burn_in_passes=2, burn_in_order="outward")
    run, _ = burned_in(network, options)
    assert run.memory.bank_frames()
    run.save_bank(tmp_path / "bank")
    whole = dict(run.final_pass(enumerate(VIDEO)))
    frames = list(enumerate(VIDEO))
    for start in (12, 0, 6):
        part = segmenter(network, options)
        part.load_bank(tmp_path / "bank")
        for frame, masks in part.final_pass(
            frames[start : start + 6], frames[max(0, start - part.ring_frames) : start]
        ):
            assert repr(masks) == repr(whole[frame])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"burn_in_gate": "outwards"}, "--burn-in-gate"),
        ({"burn_in_gate": "two-way,two-way"}, "--burn-in-gate"),
        ({"burn_in_gate": "two-way", "burn_in_passes": 0}, "causal"),
        ({"burn_in_gate": "restart"}, "--burn-in-passes 2"),
        ({"burn_in_gate": "two-way", "burn_in_order": "stcnbuf", "burn_in_frames": 0}, "--burn-in-order"),
        ({"burn_in_gate": "relabel", "memory_policy": "random-token"}, "random-token"),
        ({"burn_in_gate": "relabel", "pin_prompts": False}, "pin-prompts"),
        ({"gate_overlap": 1.1}, "--gate-overlap"),
    ],
)
def test_settings_that_cannot_be(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OfflineSettings(**changes)
