"""The offline passes: same masks whatever the splitting, given masks unchanged, late and absent objects."""

import hashlib
import threading
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels

from stcn_core import offline
from stcn_core.burn_in import BurnInChoice
from stcn_core.masks import ObjectMask
from stcn_core.memory import MemoryBank
from stcn_core.network import STCN
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptError, PromptSet
from stcn_core.propagation import EncodedFrames, Propagation
from stcn_core.settings import OfflineSettings

SIZE = (40, 56)
FRAMES = 23
VIDEO = moving_squares(FRAMES, *SIZE, objects=3)
LABELS = square_labels(FRAMES, *SIZE, objects=3)
Results = dict[int, list[ObjectMask]]


@pytest.fixture(scope="module")
def network() -> STCN:
    return random_network()


def settings(**changes: object) -> OfflineSettings:
    defaults = {"memory_frames": 4, "burn_in_frames": 10, "group_frames": 3, "segment_frames": 6, "recent_frames": 2}
    return OfflineSettings(**{**defaults, **changes})


def mask_of(frame: int, number: int) -> np.ndarray:
    return (LABELS[frame] == number).astype(np.uint8)


def given_at(frame: int, ids: Iterable[int] = (1, 2, 3)) -> PromptSet:
    ids = tuple(ids)
    return PromptSet(ids, {frame: FramePrompts({i: mask_of(frame, n) for n, i in enumerate(ids, 1)})})


def segmenter(network: STCN, prompts: PromptSet, options: OfflineSettings, frames: int = FRAMES) -> OfflineSegmenter:
    return OfflineSegmenter(
        Propagation(network, SIZE), options, prompts, source=SIZE, size=SIZE, video_id="v", visited=frames
    )


def visits(options: OfflineSettings, frames: int = FRAMES) -> list[int]:
    choice = BurnInChoice(options.seed, "v", options.burn_in_passes, options.visited_frames)
    for frame in range(frames):
        choice.offer(frame)
    return list(choice.order())


def burned_in(
    network: STCN, prompts: PromptSet, options: OfflineSettings, video: np.ndarray = VIDEO
) -> OfflineSegmenter:
    result = segmenter(network, prompts, options, len(video))
    result.memorise_prompts(lambda frame: video[frame])
    order = visits(options, len(video))
    done = list(result.burn_in(order, lambda frame: video[frame]))
    assert done == [f for f in order if not prompts.frames.get(f, FramePrompts()).given]
    return result


def whole_run(network: STCN, prompts: PromptSet, options: OfflineSettings, video: np.ndarray = VIDEO) -> Results:
    if not options.burn_in_passes:
        return dict(segmenter(network, prompts, options).causal_pass(enumerate(video)))
    return dict(burned_in(network, prompts, options, video).final_pass(enumerate(video)))


def digest(results: Results) -> str:
    text = "\n".join(f"{frame} {mask!r}" for frame in sorted(results) for mask in results[frame])
    return hashlib.sha256(text.encode()).hexdigest()


def areas(results: Results, object_id: int) -> list[int]:
    return [sum(mask.area for mask in results[frame] if mask.object_id == object_id) for frame in sorted(results)]


# The same answer


@pytest.mark.parametrize("policy", ["fifo", "random-frame", "reservoir", "random-token", "unbounded"])
def test_same_seed_same_masks_other_seed_other_bank(network: STCN, policy: str) -> None:
    options = settings(memory_policy=policy)
    first = burned_in(network, given_at(0), options)
    again = burned_in(network, given_at(0), options)
    other = burned_in(network, given_at(0), settings(memory_policy=policy, seed=1))
    assert torch.equal(first.memory.keys, again.memory.keys)
    assert torch.equal(first.memory.values, again.memory.values)
    assert not torch.equal(first.memory.keys, other.memory.keys)
    masks = dict(first.final_pass(enumerate(VIDEO)))
    assert digest(masks) == digest(dict(again.final_pass(enumerate(VIDEO))))
    assert digest(masks) != digest(dict(other.final_pass(enumerate(VIDEO))))
    assert all(len(set(areas(masks, k))) > 3 for k in (1, 2, 3))  # the masks are no trivial ones


@pytest.mark.parametrize(
    ("recent", "group", "segment"),
    [(2, 1, 1), (2, 1, 4), (2, 3, 3), (1, 3, 6), (5, 3, 6), (0, 5, 10), (2, 5, 10), (3, 2, 20)],
)
def test_split_at_segments_equals_unsplit(network: STCN, recent: int, group: int, segment: int) -> None:
    """Every segment by itself, from the bank and the few frames before it; last segment first."""
    options = settings(recent_frames=recent, group_frames=group, segment_frames=segment)
    whole = whole_run(network, given_at(4), options)
    split: Results = {}
    part = burned_in(network, given_at(4), options)
    frames = list(enumerate(VIDEO))
    for start in reversed(range(0, FRAMES, segment)):
        before = frames[max(0, start - part.ring_frames) : start]
        split |= dict(part.final_pass(frames[start : start + segment], before))
    assert sorted(split) == list(range(FRAMES))
    assert digest(split) == digest(whole)


def test_resumed_from_the_middle_to_the_end(network: STCN) -> None:
    """A run that goes on over several segments; more frames before than needed do no harm."""
    options = settings(segment_frames=6)
    whole = whole_run(network, given_at(0), options)
    frames = list(enumerate(VIDEO))
    rest = dict(burned_in(network, given_at(0), options).final_pass(iter(frames[12:]), frames[:12]))
    assert digest(rest) == digest({frame: whole[frame] for frame in range(12, FRAMES)})


def test_the_frames_before_a_segment_matter(network: STCN) -> None:
    """Else the tests above would pass without a ring."""
    options = settings(segment_frames=6)
    frames = list(enumerate(VIDEO))
    with_them = dict(burned_in(network, given_at(0), options).final_pass(frames[12:], frames[6:12]))
    without = dict(burned_in(network, given_at(0), options).final_pass(frames[12:]))
    assert digest(with_them) != digest(without)


def test_the_ring_holds_the_last_frame_of_each_group(network: STCN) -> None:
    """Unless it is pinned, and so remembered anyway."""
    frames = list(enumerate(VIDEO))

    def ring(run: OfflineSegmenter) -> list[int]:
        return sorted(run.memory.slots[index].frame for index in run.memory._recent)

    run = burned_in(network, given_at(0), settings(group_frames=3, segment_frames=30))
    run.rebuild_ring(frames[6:12])
    assert ring(run) == [8, 11]
    list(run.final_pass(frames[12:20], frames[6:12]))
    assert ring(run) == [14, 17]
    run = burned_in(network, given_at(5), settings(group_frames=3, segment_frames=30))
    list(run.final_pass(frames[:9]))
    assert ring(run) == [2, 8]


def test_segments_change_masks_only_after_the_first(network: STCN) -> None:
    one = whole_run(network, given_at(0), settings(segment_frames=30))
    many = whole_run(network, given_at(0), settings(segment_frames=6))
    assert digest({f: one[f] for f in range(6)}) == digest({f: many[f] for f in range(6)})


def test_a_start_and_a_stride_are_only_other_frame_numbers(network: STCN) -> None:
    """Groups and segments are counted in frames fed, from the first."""
    options = settings()

    def run(numbers: list[int]) -> list[list[ObjectMask]]:
        prompts = PromptSet((1,), {numbers[2]: FramePrompts({1: mask_of(2, 1)})})
        result = segmenter(network, prompts, options)
        picture = dict(zip(numbers, VIDEO, strict=True)).__getitem__
        result.memorise_prompts(picture)
        list(result.burn_in([numbers[i] for i in (7, 3, 11, 2, 19, 5)], picture))
        return [masks for _, masks in result.final_pass(zip(numbers, VIDEO, strict=True))]

    assert run(list(range(FRAMES))) == run(list(range(100, 100 + 5 * FRAMES, 5)))


# Prompts


def test_given_masks_are_written_unchanged(network: STCN) -> None:
    """Also overlapping ones, at the source's size, in both kinds of run; predictions yield to them."""
    source = (79, 113)
    masks = {i: np.zeros(source, np.uint8) for i in (4, 7)}
    masks[4][10:50, 20:71] = 1
    masks[7][30:60, 5:40] = 1
    masks[7][70, 100] = 1  # one pixel, lost at the working size
    prompts = PromptSet((2, 4, 7), {5: FramePrompts(masks), 9: FramePrompts({2: 1 - masks[4]})})
    for passes in (0, 1):
        options = settings(burn_in_passes=passes)
        run = OfflineSegmenter(
            Propagation(network, SIZE), options, prompts, source=source, size=SIZE, video_id="v", visited=FRAMES
        )
        if passes:
            run.memorise_prompts(lambda frame: VIDEO[frame])
            list(run.burn_in(visits(options), lambda frame: VIDEO[frame]))
            results = dict(run.final_pass(enumerate(VIDEO)))
        else:
            results = dict(run.causal_pass(enumerate(VIDEO)))
        at = {mask.object_id: mask for mask in results[5]}
        for i in (4, 7):
            assert np.array_equal(at[i].decode(), masks[i])
            assert at[i].is_prompt and at[i].score == 1
        if 2 in at:
            assert not at[2].is_prompt
            assert not (at[2].decode() & (masks[4] | masks[7])).any()
        late = {mask.object_id: mask for mask in results[9]}
        assert np.array_equal(late[2].decode(), 1 - masks[4])
        assert {i for i, mask in late.items() if mask.is_prompt} == {2}
        assert all(mask.height == 79 and mask.width == 113 for masks in results.values() for mask in masks)
        assert not any(mask.is_prompt for frame, masks in results.items() if frame not in (5, 9) for mask in masks)


def test_pinned_frames_stay_and_are_not_visited_twice(network: STCN) -> None:
    options = settings(burn_in_frames=0, recent_frames=2)
    run = burned_in(network, given_at(4), options)
    assert run.memory.pinned_frames() == [4]
    assert 4 not in run.memory.bank_frames()
    assert len(run.memory.slots) == 1 + 2 + 4
    assert len(segmenter(network, given_at(4), settings(memory_frames=50)).memory.slots) == 1 + 2 + FRAMES
    list(run.final_pass(enumerate(VIDEO)))
    assert run.memory.pinned_frames() == [4]


@pytest.mark.parametrize("found", [True, False])
def test_boxes_seed_and_are_predicted_again(network: STCN, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    monkeypatch.setattr("stcn_core.propagation.found_again", lambda mask, guess: found)
    box = np.zeros(SIZE, np.uint8)
    box[10:30, 10:40] = 1
    prompts = PromptSet((1, 2), {3: FramePrompts({1: mask_of(3, 1)}, {2: box}), 8: FramePrompts({}, {2: box})})
    run = burned_in(network, prompts, settings())
    assert run.memory.pinned_frames() == ([3] if found else [3, 3, 8])
    assert run.memory.bank_frames()
    results = dict(run.final_pass(enumerate(VIDEO)))
    for frame in (3, 8):
        for mask in results[frame]:
            assert mask.is_prompt == (frame == 3 and mask.object_id == 1)
            assert mask.object_id == 1 or not np.array_equal(mask.decode(), box)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("policy", ["fifo", "random-token"])
def test_very_short_videos(network: STCN, frames: int, policy: str) -> None:
    """One box on the only frame is all that is known, and is enough."""
    box = np.zeros(SIZE, np.uint8)
    box[10:30, 10:40] = 1
    seeds_only = PromptSet((1,), {0: FramePrompts({}, {1: box})})
    both = PromptSet((1, 2), {0: FramePrompts({2: mask_of(0, 2)}, {1: box})})
    complete = PromptSet(
        (1, 2), {0: FramePrompts({2: 0 * box}, {1: box}), frames - 1: FramePrompts({2: mask_of(0, 2)})}
    )
    for prompts in (seeds_only, both, complete) if frames > 1 else (seeds_only, both):
        for passes in (0, 1, 2):
            options = settings(memory_policy=policy, burn_in_passes=passes)
            results = whole_run(network, prompts, options, VIDEO[:frames])
            assert sorted(results) == list(range(frames))
            assert all(np.isfinite(mask.score) for masks in results.values() for mask in masks)


def test_objects_prompted_on_different_frames(network: STCN) -> None:
    """Offline each is found before its prompt too; ids need not be contiguous."""
    frames = {5: FramePrompts({300: mask_of(5, 2)}), 12: FramePrompts({17: mask_of(12, 1)})}
    results = whole_run(network, PromptSet((17, 300), frames), settings())
    assert {mask.object_id for masks in results.values() for mask in masks} == {17, 300}
    assert any(areas(results, 17)[:12]) and any(areas(results, 300)[:5])
    for masks in results.values():
        assert [mask.object_id for mask in masks] == sorted(mask.object_id for mask in masks)


def test_prompting_an_object_elsewhere_leaves_the_others_validity(network: STCN) -> None:
    """An object that is not given on a prompted frame is unknown there: its reading does not change."""
    only_one = PromptSet((1,), {0: FramePrompts({1: mask_of(0, 1)})})
    run = segmenter(network, only_one, settings())
    run.memorise_prompts(lambda frame: VIDEO[frame])
    alone = run.memory.read(torch.randn(16, 3, 4, generator=torch.Generator().manual_seed(0)), 9, [0])
    two = PromptSet((1, 2), {0: FramePrompts({1: mask_of(0, 1)}), 6: FramePrompts({2: mask_of(6, 2)})})
    run = segmenter(network, two, settings())
    run.memorise_prompts(lambda frame: VIDEO[frame])
    beside = run.memory.read(torch.randn(16, 3, 4, generator=torch.Generator().manual_seed(0)), 9, [0])
    torch.testing.assert_close(alone, beside)


def test_an_empty_given_mask_says_absent(network: STCN) -> None:
    nothing = np.zeros(SIZE, np.uint8)
    frames = {0: FramePrompts({1: mask_of(0, 1), 2: mask_of(0, 2)}), 10: FramePrompts({1: mask_of(10, 1), 2: nothing})}
    for passes in (0, 1):
        results = whole_run(network, PromptSet((1, 2), frames), settings(burn_in_passes=passes))
        assert [mask.object_id for mask in results[10]] == [1]
        assert areas(results, 2)[0] > 0


@pytest.mark.parametrize("objects", [1, 2, 4, 5])
def test_any_number_of_objects(network: STCN, objects: int) -> None:
    labels = square_labels(FRAMES, *SIZE, objects)
    masks = {k: (labels[0] == k).astype(np.uint8) for k in range(1, objects + 1)}
    results = whole_run(network, PromptSet(tuple(masks), {0: FramePrompts(masks)}), settings())
    assert sorted(results) == list(range(FRAMES))
    for masks in results.values():
        total = sum(mask.decode().astype(int) for mask in masks)
        assert np.max(total) <= 1  # predicted masks do not overlap


@pytest.mark.parametrize("size", [(16, 16), (9, 5), (1, 1), (17, 100)])
def test_tiny_frames(network: STCN, size: tuple[int, int]) -> None:
    video = np.random.default_rng(0).integers(0, 256, (7, *size, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[: max(1, size[0] // 2)] = 1
    for passes in (0, 1):
        options = settings(burn_in_passes=passes)
        run = OfflineSegmenter(
            Propagation(network, size),
            options,
            PromptSet((1,), {0: FramePrompts({1: mask})}),
            source=size,
            size=size,
            video_id="v",
            visited=7,
        )
        if passes:
            run.memorise_prompts(lambda frame: video[frame])
            list(run.burn_in(visits(options, 7), lambda frame: video[frame]))
        results = dict(run.final_pass(enumerate(video)) if passes else run.causal_pass(enumerate(video)))
        assert np.array_equal(results[0][0].decode(), mask)
        assert all(np.isfinite(m.score) for masks in results.values() for m in masks)


def test_more_than_255_objects(network: STCN) -> None:
    size, count = (32, 64), 300
    flat = np.arange(32 * 64).reshape(size) // 6 + 1  # 6 pixels for each
    video = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    masks = {k: (flat == k).astype(np.uint8) for k in range(1, count + 1)}
    prompts = PromptSet(tuple(masks), {0: FramePrompts(masks)})
    options = settings(memory_frames=1)
    run = OfflineSegmenter(
        Propagation(network, size), options, prompts, source=size, size=size, video_id="v", visited=3
    )
    run.memorise_prompts(lambda frame: video[frame])
    list(run.burn_in([2], lambda frame: video[frame]))
    results = dict(run.final_pass(enumerate(video)))
    assert [mask.object_id for mask in results[0]] == list(range(1, count + 1))
    assert np.array_equal(results[0][299].decode(), masks[300])


def test_a_full_device_halves_the_batch_and_not_the_masks(network: STCN, monkeypatch: pytest.MonkeyPatch):
    """segment fails for more than two frames at a time, as a full device would."""
    run = burned_in(network, given_at(0), settings(group_frames=5, segment_frames=10))
    plain = dict(run.final_pass(enumerate(VIDEO)))
    segment = Propagation.segment

    def crowded(self: Propagation, encoded: EncodedFrames, *rest: object, **more: object) -> torch.Tensor:
        if len(encoded.frames) > 2:
            raise torch.OutOfMemoryError("full")
        return segment(self, encoded, *rest, **more)

    monkeypatch.setattr(Propagation, "segment", crowded)
    halved = dict(run.final_pass(enumerate(VIDEO)))
    assert run.batch == 2
    for frame, masks in plain.items():
        assert [(m.object_id, m.counts) for m in masks] == [(m.object_id, m.counts) for m in halved[frame]]

    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(Propagation, "segment", full)
    with pytest.raises(torch.OutOfMemoryError):
        list(run.final_pass(enumerate(VIDEO)))


@pytest.mark.parametrize("passes", [0, 1])
def test_encoding_behind_the_network_changes_no_mask(network: STCN, passes: int, monkeypatch: pytest.MonkeyPatch):
    """As on a GPU, where masks are encoded while the next group is computed."""
    options = settings(burn_in_passes=passes)
    plain = whole_run(network, given_at(0), options)
    threads = set()
    decided = offline.decided

    def watched(*given: object) -> tuple[int, list[ObjectMask]]:
        threads.add(threading.get_ident())
        return decided(*given)

    made = OfflineSegmenter.__init__

    def late(self: OfflineSegmenter, *given: object, **named: object) -> None:
        made(self, *given, **named)
        assert self.late == 0  # on a CPU
        self.late = self.settings.group_frames

    monkeypatch.setattr(offline, "decided", watched)
    monkeypatch.setattr(OfflineSegmenter, "__init__", late)
    assert digest(whole_run(network, given_at(0), options)) == digest(plain)
    assert threads
    assert threading.get_ident() not in threads


def test_a_given_mask_always_gets_a_slot() -> None:
    """Unpinned, in a bank that has seen many frames: a reservoir would rarely take it."""
    bank = MemoryBank(OfflineSettings(memory_frames=2, pin_prompts=False), (2, 3), 1, 4, 5, pinned=0)
    key, values = torch.zeros(4, 2, 3), torch.zeros(1, 5, 2, 3)
    for frame in range(200):
        if (position := bank.admit(frame)) is not None:
            bank.memorise(position, frame, key, values, [False])
    bank.memorise_given(200, key, values, [True])
    assert sum(bank.slots[index].valid == (True,) for index in bank._bank) == 1


def test_unpinned_prompts_that_push_each_other_out_are_a_prompts_error() -> None:
    frames = {frame: FramePrompts({i: np.ones((32, 48), np.uint8)}) for i, frame in ((1, 0), (2, 4))}
    options = OfflineSettings(memory_frames=1, memory_policy="fifo", pin_prompts=False)
    propagation = Propagation(random_network(), (32, 48))
    run = OfflineSegmenter(
        propagation, options, PromptSet((1, 2), frames), source=(32, 48), size=(32, 48), video_id="v"
    )
    with pytest.raises(PromptError, match="object 1: .* bank of 1 frames .* --memory-frames"):
        run.memorise_prompts(lambda _: np.zeros((32, 48, 3), np.uint8))
