"""Scores of masks against the same sums written out in NumPy, and what they must not touch."""

import numpy as np
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels

from stcn_core.frames import Padding
from stcn_core.match import MatchMaps
from stcn_core.offline import OfflineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.readout import TopK
from stcn_core.score import near_edge, score_frames
from stcn_core.settings import OfflineSettings

torch.set_num_threads(1)
VIDEO, LABELS = moving_squares(20), square_labels(20)
NETWORK = random_network()


def probabilities(frames: int, objects: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(frames, 1 + objects, size[0] // 8, size[1] // 8, generator=draw) * 3
    return torch.softmax(torch.nn.functional.interpolate(coarse, size, mode="bilinear"), 1)


@pytest.mark.parametrize("objects", [1, 3])
def test_scores_equal_sums_written_out(objects: int):
    p, padding = probabilities(2, objects, (48, 64)), Padding(3, 2, 4, 5)
    draw = torch.Generator().manual_seed(1)
    match = MatchMaps(*(torch.rand(2, objects, 12, generator=draw) for _ in range(2)))
    second = probabilities(2, objects, (48, 64), seed=2)
    found = score_frames(p, padding, match, second)
    inside = np.zeros((48, 64), bool)
    inside[3:46, 4:59] = True
    for b in range(2):
        labels = np.where(inside, p[b].argmax(0).numpy(), 0)
        other = np.where(inside, second[b].argmax(0).numpy(), 0)
        ordered = np.sort(p[b].numpy(), 0)
        margin = ordered[-1] - ordered[-2]
        cells = np.arange(48)[:, None] // 16 * 4 + np.arange(64) // 16
        for k in range(objects):
            mask, mine = labels == k + 1, p[b, k + 1].numpy()
            scores = found[b][k]
            assert scores.margin == pytest.approx(margin[mask].mean(), abs=1e-5)
            union = mine[inside].sum() + mask.sum() - mine[mask].sum()
            assert scores.soft_iou == pytest.approx(mine[mask].sum() / union, abs=1e-5)
            assert scores.match_entropy == pytest.approx(match.entropy[b, k].numpy()[cells[mask]].mean(), abs=1e-5)
            assert scores.match_distance == pytest.approx(match.distance[b, k].numpy()[cells[mask]].mean(), abs=1e-5)
            overlap = (mask & (other == k + 1)).sum() / (mask | (other == k + 1)).sum()
            assert scores.second_opinion == pytest.approx(overlap, abs=1e-5)
            edge = near_edge(torch.from_numpy(labels), padding, 1).numpy() & mask
            assert scores.edge_margin == pytest.approx(margin[edge].mean(), abs=1e-5)


def test_the_edge_is_where_labels_change_and_not_the_frame():
    labels = torch.zeros(16, 16, dtype=torch.int64)
    labels[:, :6] = 1
    near = near_edge(labels, Padding(0, 0, 0, 0), 2)
    assert near.any(0).tolist() == [4 <= x < 8 for x in range(16)]


def test_an_object_without_pixels_has_no_scores_and_no_match_is_unknown():
    p = torch.zeros(1, 3, 16, 16)
    p[:, 1] = 1.0
    here, absent = score_frames(p, Padding(0, 0, 0, 0))[0]
    assert here.margin == 1.0 and here.soft_iou == 1.0
    assert here.match_entropy is None and here.second_opinion is None and here.edge_margin is None
    assert set(vars(absent).values()) == {None}


def test_match_is_0_for_one_element_and_1_for_all_alike_and_the_distance_is_the_squared_one():
    match = MatchMaps.unread(1, 1, 2, "cpu")
    weight = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    query = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]).view(1, 4, 1, 2)
    key = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]])  # the best element of each pixel
    score = torch.stack([(2 * k @ query[0, :, 0, i] - k @ k) / 2 for i, k in enumerate(key)])
    index = torch.zeros(2, 4, dtype=torch.int64)
    match.add(slice(0, 1), [0], TopK(index, weight, score[:, None]), query, "l2")
    assert match.entropy[0, 0].tolist() == pytest.approx([0.0, 1.0])
    assert match.distance[0, 0].tolist() == pytest.approx([4 / 2, 9 / 2])


@pytest.mark.parametrize(("passes", "second"), [(0, False), (1, False), (1, True)])
def test_every_predicted_mask_has_scores_and_a_second_opinion_changes_no_mask(passes: int, second: bool):
    given = {i: (LABELS[0] == k).astype(np.uint8) for k, i in ((1, 2), (2, 7))}
    prompts, found = PromptSet((2, 7), {0: FramePrompts(given=given)}), []
    for asked in {False, second}:
        settings = OfflineSettings(memory_frames=4, burn_in_passes=passes, second_opinion=asked)
        propagation, size = Propagation(NETWORK, (48, 64)), (48, 64)
        run = OfflineSegmenter(propagation, settings, prompts, source=size, size=size, video_id="v", visited=20)
        if passes:
            run.memorise_prompts(VIDEO.__getitem__)
            list(run.burn_in(np.random.default_rng(0).permutation(20).tolist(), VIDEO.__getitem__))
        frames = run.final_pass(enumerate(VIDEO)) if passes else run.causal_pass(enumerate(VIDEO))
        found.append([mask for _, masks in frames for mask in masks])
    assert [m.counts for m in found[0]] == [m.counts for m in found[-1]]
    for mask in found[-1]:
        known = [mask.more.margin, mask.more.soft_iou, mask.more.match_entropy, mask.more.match_distance]
        assert all(value is None for value in known) if mask.is_prompt else all(value >= 0 for value in known)
        assert (mask.more.second_opinion is not None) == (second and not mask.is_prompt)
    assert sum(not mask.is_prompt for mask in found[-1]) >= 20


def test_a_causal_run_has_no_bank_for_a_second_opinion():
    with pytest.raises(ValueError, match="--second-opinion"):
        OfflineSettings(burn_in_passes=0, second_opinion=True)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("where", ["decoder", "key", "key inf", "value"])
@pytest.mark.parametrize("passes", [0, 1])
def test_what_is_no_number_is_not_taken_for_an_empty_frame(passes: int, where: str, regions: bool):
    network, (height, width) = random_network(), (64, 96)
    layers = {"decoder": network.decoder.pred, "value": network.value_encoder.fuser.block2.conv2}
    layer = layers.get(where, network.key_proj.key_proj)
    torch.nn.init.constant_(
        layer.bias, float("inf" if where == "key inf" else "nan")
    )  # as where half precision overflows
    video = moving_squares(3, height, width)
    given = PromptSet((1,), {0: FramePrompts({1: np.ones((height, width), np.uint8)})})
    settings = OfflineSettings(burn_in_passes=passes, memory_frames=2, region_decoding=regions)
    size = (height, width)
    propagation = Propagation(network, size, regions=regions)
    run = OfflineSegmenter(propagation, settings, given, source=size, size=size, video_id="v")
    with pytest.raises(FloatingPointError, match="--precision fp16"):
        if passes:
            run.memorise_prompts(lambda frame: video[frame])
            list(run.burn_in([1, 2], lambda frame: video[frame]))
        list(run.final_pass(enumerate(video)) if passes else run.causal_pass(enumerate(video)))
