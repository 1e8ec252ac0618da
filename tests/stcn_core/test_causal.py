"""Causal runs of whole videos: late objects, and STCN's own schedule written by hand."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels

from stcn_core import offline
from stcn_core.aggregate import soft_aggregate
from stcn_core.frames import Padding, normalise
from stcn_core.masks import ObjectMask
from stcn_core.network import STCN
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
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
    return OfflineSettings(**{"burn_in_passes": 0, "memory_frames": 4, "prompt_weight": 1, **changes})


def mask_of(frame: int, number: int) -> np.ndarray:
    return (LABELS[frame] == number).astype(np.uint8)


def causal(
    network: STCN, prompts: PromptSet, options: OfflineSettings, numbers: Iterable[int] = range(FRAMES)
) -> Results:
    run = offline.OfflineSegmenter(Propagation(network, SIZE), options, prompts, source=SIZE, size=SIZE, video_id="v")
    return dict(run.causal_pass(zip(numbers, VIDEO, strict=True)))


def areas(results: Results, object_id: int) -> list[int]:
    return [sum(mask.area for mask in results[frame] if mask.object_id == object_id) for frame in sorted(results)]


def test_late_objects_begin_at_their_prompt(network: STCN) -> None:
    frames = {3: FramePrompts({5: mask_of(3, 1)}), 11: FramePrompts({9: mask_of(11, 2)}, {2: mask_of(11, 3)})}
    for policy in ("fifo", "random-token", "unbounded"):
        options = settings(memory_every=1, memory_policy=policy)
        results = causal(network, PromptSet((2, 5, 9), frames), options)
        first = {i: next(n for n, area in enumerate(areas(results, i)) if area) for i in (2, 5, 9)}
        assert first == {5: 3, 9: 11, 2: 11}
        assert all(any(areas(results, i)[number + 1 :]) for i, number in first.items())  # and are there afterwards
        # Before its prompt nothing is known of an object: frames up to 10 are those of a run without the late ones,
        # but for the rounding of a network that sees another batch.
        alone = causal(network, PromptSet((5,), {3: frames[3]}), options)
        for number in range(3, 11):
            (mine,), (other,) = results[number], alone[number]
            assert (mine.decode() != other.decode()).sum() <= 3
            assert mine.score == pytest.approx(other.score, abs=1e-3)


@pytest.mark.parametrize("objects", [1, 3])
def test_unbounded_causal_run_is_stcn(network: STCN, objects: int) -> None:
    """STCN's own loop, written by hand: first frame and every fifth, full memory, dense top-k in float64."""
    options = settings(memory_policy="unbounded", memory_every=5, recent_frames=0)
    given = {k: mask_of(0, k) for k in range(1, objects + 1)}
    results = causal(network, PromptSet(tuple(given), {0: FramePrompts(given)}), options)

    padding = Padding.to_multiple(*SIZE)
    keys, values, expected, margins = [], [], [], []
    with torch.inference_mode():
        for number, picture in enumerate(VIDEO):
            pixels = padding.add(normalise(picture[None]))
            features = network.encode_key(pixels)
            query = features.key[0].flatten(1).double()  # [Ck, Q]
            if number == 0:
                hard = torch.stack([torch.from_numpy(mask_of(0, k + 1)).float() for k in range(objects)])
                soft = soft_aggregate(padding.add(hard))
            else:
                memory = torch.cat(keys, 1).double()  # [Ck, N]
                scores = (2 * memory.t() @ query - memory.square().sum(0)[:, None]) / query.shape[0] ** 0.5
                best = scores.topk(min(20, len(scores)), 0)
                weights = torch.zeros_like(scores).scatter_(0, best.indices, torch.softmax(best.values, 0))
                readout = torch.cat(values, 2).double() @ weights  # [K, Cv, Q]
                readout = readout.float().unflatten(2, features.key.shape[2:])[None]
                soft = soft_aggregate(torch.sigmoid(network.decode(readout, features)))[0]
            two = padding.remove(soft).topk(2, 0).values
            margins.append((two[0] - two[1]).numpy())
            expected.append(padding.remove(soft).argmax(0).numpy())
            if number % 5 == 0:
                keys.append(features.key[0].flatten(1))
                values.append(network.encode_value(pixels, features.f16, soft[1:][None])[0].flatten(2))

    assert len(np.unique(expected)) == objects + 1
    for number in range(FRAMES):
        found = np.zeros(SIZE, int)
        for mask in results[number]:
            found[mask.decode() == 1] = mask.object_id
        decided = margins[number] > 1e-3
        assert np.array_equal(found[decided], expected[number][decided])
        assert decided.mean() > 0.8


@pytest.mark.parametrize(("start", "stride"), [(0, 1), (3, 1), (3, 5), (0, 5), (7, 10)])
def test_memory_every_counts_the_frames_that_are_fed(
    network: STCN, monkeypatch: pytest.MonkeyPatch, start: int, stride: int
) -> None:
    options = settings(memory_policy="unbounded", memory_every=5, recent_frames=0)
    numbers = range(start, start + stride * FRAMES, stride)
    kept = []

    class Watched(offline.OnlineSegmenter):
        def step(self, *args: object) -> torch.Tensor:
            result = super().step(*args)
            kept.append(self.memory.bank_frames())
            return result

    monkeypatch.setattr(offline, "OnlineSegmenter", Watched)
    causal(network, PromptSet((1,), {start: FramePrompts({1: mask_of(0, 1)})}), options, numbers)
    assert kept[-1] == [numbers[i] for i in (5, 10, 15, 20)]
