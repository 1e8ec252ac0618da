"""The saved bank: the final pass of any segment from a file equals the one from the memory itself, bit for bit."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels
from safetensors import safe_open

from stcn_core import bank_file
from stcn_core.bank_file import load_bank, save_bank
from stcn_core.burn_in import BurnInChoice
from stcn_core.checkpoint import save_checkpoint
from stcn_core.masks import ObjectMask
from stcn_core.memory import MemoryBank
from stcn_core.network import STCN
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import MEMORY_POLICIES, OfflineSettings

SIZE = (40, 56)
FRAMES = 25
VIDEO = moving_squares(FRAMES, *SIZE, objects=2)
LABELS = square_labels(FRAMES, *SIZE, objects=2)
SETTINGS = OfflineSettings(memory_frames=4, burn_in_frames=12, group_frames=3, segment_frames=6, recent_frames=2)
Results = dict[int, list[ObjectMask]]


def shown(frame: int, object_id: int) -> np.ndarray:
    return (LABELS[frame] == object_id).astype(np.uint8)


def box() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, 10:40] = 1
    return mask


PROMPTS = {
    "mask": PromptSet((1,), {4: FramePrompts({1: shown(4, 1)})}),
    "box": PromptSet((1,), {4: FramePrompts({}, {1: box()})}),
    "two": PromptSet((1, 2), {0: FramePrompts({1: shown(0, 1), 2: shown(0, 2)})}),
    "apart": PromptSet((3, 8), {2: FramePrompts({3: shown(2, 1)}), 9: FramePrompts({8: shown(9, 2)}, {3: box()})}),
}


@pytest.fixture(scope="module")
def network() -> STCN:
    return random_network()


def begin(
    network: STCN,
    prompts: PromptSet,
    options: OfflineSettings,
    visited: int | None = FRAMES,
    precision: str = "fp32",
    video_id: str = "v",
) -> OfflineSegmenter:
    propagation = Propagation(network, SIZE, precision=precision)
    return OfflineSegmenter(propagation, options, prompts, source=SIZE, size=SIZE, video_id=video_id, visited=visited)


def burned_in(network: STCN, prompts: PromptSet, options: OfflineSettings, precision: str = "fp32") -> OfflineSegmenter:
    run = begin(network, prompts, options, precision=precision)
    choice = BurnInChoice(options.seed, "v", options.burn_in_passes, options.visited_frames)
    for frame in range(FRAMES):
        choice.offer(frame)
    run.memorise_prompts(lambda frame: VIDEO[frame])
    assert list(run.burn_in(choice.order(), lambda frame: VIDEO[frame]))
    return run


def digest(results: Results) -> str:
    text = "\n".join(f"{frame} {mask!r}" for frame in sorted(results) for mask in results[frame])
    return hashlib.sha256(text.encode()).hexdigest()


def split(network: STCN, prompts: PromptSet, path: Path, options: OfflineSettings, **how: object) -> Results:
    """Each segment by a new segmenter that loads the bank; the last one first."""
    frames, results = list(enumerate(VIDEO)), {}
    for start in reversed(range(0, FRAMES, options.segment_frames)):
        run = begin(network, prompts, options, **how)
        run.load_bank(path)
        before = frames[max(0, start - run.ring_frames) : start]
        results |= dict(run.final_pass(frames[start : start + options.segment_frames], before))
    return results


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_split_from_the_file_equals_unsplit(network: STCN, policy: str, prompts: str, tmp_path: Path) -> None:
    options, path = replace(SETTINGS, memory_policy=policy), tmp_path / "bank.safetensors"
    run = burned_in(network, PROMPTS[prompts], options)
    run.save_bank(path)
    whole = dict(run.final_pass(enumerate(VIDEO)))
    assert len({digest({0: masks}) for masks in whole.values()}) > FRAMES / 2  # no trivial masks
    parts = split(network, PROMPTS[prompts], path, options)
    assert sorted(parts) == list(range(FRAMES))
    assert digest(parts) == digest(whole)


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
@pytest.mark.parametrize("found", [True, False])
def test_a_bank_larger_than_the_video(
    network: STCN, policy: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots that stay empty are not saved; whoever loads need not know how many frames were visited."""
    monkeypatch.setattr("stcn_core.propagation.found_again", lambda mask, guess: found)
    options = replace(SETTINGS, memory_policy=policy, memory_frames=60, burn_in_frames=0)
    path = tmp_path / "bank.safetensors"
    run = burned_in(network, PROMPTS["apart"], options)
    run.save_bank(path)
    whole = digest(dict(run.final_pass(enumerate(VIDEO))))
    with safe_open(path, "pt") as file:
        # Both prompted frames hold a given mask: they are pinned, not visited. A seed that is needed stays.
        assert file.get_slice("keys").get_shape()[0] == FRAMES + (not found)
    assert digest(split(network, PROMPTS["apart"], path, options, visited=None)) == whole
    assert digest(split(network, PROMPTS["apart"], path, options, visited=3)) == whole


def test_saved_between_and_after_segments(network: STCN, tmp_path: Path) -> None:
    """The ring is no part of the bank: saved before or after a final pass, the file is the same."""
    first, later = tmp_path / "first", tmp_path / "later"
    run = burned_in(network, PROMPTS["two"], SETTINGS)
    run.save_bank(first)
    list(run.final_pass(enumerate(VIDEO[:8])))
    run.save_bank(later)
    assert first.read_bytes() == later.read_bytes()
    other = begin(network, PROMPTS["two"], SETTINGS)
    other.load_bank(first)
    other.save_bank(later)
    assert first.read_bytes() == later.read_bytes()


def test_a_used_segmenter_loads_over_what_it_held(network: STCN, tmp_path: Path) -> None:
    options, path = replace(SETTINGS, memory_policy="random-token"), tmp_path / "bank"
    run = burned_in(network, PROMPTS["apart"], options)
    run.save_bank(path)
    whole = digest(dict(run.final_pass(enumerate(VIDEO))))
    used = begin(network, PROMPTS["apart"], options)
    used.memorise_prompts(lambda frame: VIDEO[-1 - frame])
    list(used.burn_in(range(20), lambda frame: VIDEO[-1 - frame]))
    used.load_bank(path)
    assert digest(dict(used.final_pass(enumerate(VIDEO)))) == whole


def test_every_slot_comes_back_as_it_was(tmp_path: Path) -> None:
    """A mosaic of frames on which not every object is known, the one thing that no offline run makes."""
    options = replace(SETTINGS, memory_policy="random-token", memory_frames=2)

    def bank() -> MemoryBank:
        return MemoryBank(options, (2, 3), 2, 4, 5, pinned=1)

    draw = torch.Generator().manual_seed(0)
    saved, loaded = bank(), bank()
    for frame in range(5):
        key, values = torch.randn(4, 2, 3, generator=draw), torch.randn(2, 5, 2, 3, generator=draw)
        saved.memorise(saved.admit(frame), frame, key, values, [frame != 3, True])
    save_bank(saved, tmp_path / "bank", {})
    load_bank(loaded, tmp_path / "bank", {})
    assert loaded.layout() == saved.layout()
    assert loaded.layout().partly_known == {3: (False, True)}
    for index in saved.layout().held():
        for one, other in zip(saved.contents(index), loaded.contents(index), strict=True):
            assert torch.equal(one, other) and one.dtype == other.dtype
    query = torch.randn(4, 2, 3, generator=draw)
    assert torch.equal(saved.read(query, 4, [0, 1]), loaded.read(query, 4, [0, 1]))


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "F32"), ("bf16", "BF16")])
def test_values_lie_in_the_narrowest_type_that_holds_them(
    network: STCN, precision: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "bank"
    run = burned_in(network, PROMPTS["two"], SETTINGS, precision)
    run.save_bank(path)
    with safe_open(path, "pt") as file:
        assert file.get_slice("values").get_dtype() == kind
        assert file.get_slice("keys").get_dtype() == "F32"
    whole = dict(run.final_pass(enumerate(VIDEO)))
    assert digest(split(network, PROMPTS["two"], path, SETTINGS, precision=precision)) == digest(whole)


def test_half_precision_values_that_bf16_does_not_hold(tmp_path: Path) -> None:
    settings = replace(SETTINGS, memory_frames=1, recent_frames=0)

    def bank() -> MemoryBank:
        return MemoryBank(settings, (2, 3), 1, 4, 5, pinned=1)

    values = torch.full((1, 5, 2, 3), 1 + 2**-10)
    saved, loaded = bank(), bank()
    saved.pin(3, torch.randn(4, 2, 3), values, [True])
    save_bank(saved, tmp_path / "bank", {})
    with safe_open(tmp_path / "bank", "pt") as file:
        assert file.get_slice("values").get_dtype() == "F16"
    load_bank(loaded, tmp_path / "bank", {})
    assert torch.equal(loaded.keys, saved.keys) and torch.equal(loaded.values, saved.values)
    assert loaded.slots == saved.slots


# What is wrong with a file


@pytest.fixture
def saved(network: STCN, tmp_path: Path) -> Path:
    path = tmp_path / "bank.safetensors"
    burned_in(network, PROMPTS["two"], SETTINGS).save_bank(path)
    return path


def refused(network: STCN, path: Path, prompts: str = "two", **how: object) -> str:
    options = how.pop("options", SETTINGS)
    with pytest.raises(ValueError) as caught:
        begin(network, PROMPTS[prompts], options, **how).load_bank(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999])
def test_truncated(network: STCN, saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    assert "no whole safetensors file" in refused(network, saved)


def test_a_byte_that_changed(network: STCN, saved: Path) -> None:
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for place in (8 + length, 8 + length + 4000, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        saved.write_bytes(changed)
        assert "is damaged: its SHA-256 is" in refused(network, saved)
    draw = np.random.default_rng(0)
    for place in draw.integers(0, 8 + length, 200):  # the header, in which other things may go wrong first
        changed = bytearray(data)
        changed[place] ^= 1 << draw.integers(8)
        saved.write_bytes(changed)
        refused(network, saved)
    saved.write_bytes(data)
    begin(network, PROMPTS["two"], SETTINGS).load_bank(saved)


def test_another_video_prompt_or_setting(network: STCN, saved: Path) -> None:
    assert "saved with video v, this run has w" in refused(network, saved, video_id="w")
    assert "saved with object ids [1, 2], this run has [3, 8]" in refused(network, saved, "apart")
    other = replace(SETTINGS, top_k=7)
    assert "saved with --top-k 20, this run has 7" in refused(network, saved, options=other)


def test_another_shape(saved: Path) -> None:
    network = random_network(replace(random_network().config, value_dim=16))
    assert "saved with value channels 32, this run has 16" in refused(network, saved)


def test_another_kind_of_file(network: STCN, saved: Path) -> None:
    save_checkpoint(network, saved)
    assert "no saved bank of this version" in refused(network, saved)
    saved.write_text(json.dumps({"a": 1}))
    assert "no whole safetensors file" in refused(network, saved)


def test_a_causal_run_has_no_bank(network: STCN, tmp_path: Path) -> None:
    run = begin(network, PROMPTS["two"], replace(SETTINGS, burn_in_passes=0))
    for call in (run.save_bank, run.load_bank):
        with pytest.raises(ValueError, match="a causal run"):
            call(tmp_path / "bank")


def test_a_bank_of_before_a_setting_existed_is_one_with_what_was_done_then(
    network: STCN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = bank_file._all_facts
    run = begin(network, PROMPTS["two"], SETTINGS)
    without = burned_in(network, PROMPTS["two"], SETTINGS)
    monkeypatch.setattr(
        bank_file, "_all_facts", lambda *a: {k: v for k, v in facts(*a).items() if k != "--confidence-gate"}
    )
    without.save_bank(tmp_path / "old")
    monkeypatch.undo()
    run.load_bank(tmp_path / "old")
    earlier = replace(SETTINGS, prompt_weight=1.0)
    monkeypatch.setattr(
        bank_file, "_all_facts", lambda *a: {k: v for k, v in facts(*a).items() if k != "--prompt-weight"}
    )
    burned_in(network, PROMPTS["two"], earlier).save_bank(tmp_path / "unweighed")
    monkeypatch.undo()
    begin(network, PROMPTS["two"], earlier).load_bank(tmp_path / "unweighed")
    with pytest.raises(ValueError, match="--prompt-weight 1.0, this run has 8.0"):
        begin(network, PROMPTS["two"], SETTINGS).load_bank(tmp_path / "unweighed")
    with pytest.raises(ValueError, match="--confidence-gate 0.0, this run has 0.5"):
        begin(network, PROMPTS["two"], replace(SETTINGS, confidence_gate=0.5)).load_bank(tmp_path / "old")
