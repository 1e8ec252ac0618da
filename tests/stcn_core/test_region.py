"""Decoding in boxes: equal to the whole frame inside of them, whatever the box; and nothing outside."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_networks import TINY, moving_squares, random_network, square_labels
from made_videos import real_clips
from PIL import Image

from stcn_core import region
from stcn_core.checkpoint import BUNDLED, load_checkpoint
from stcn_core.inference import PreparedNetwork
from stcn_core.masks import ObjectMask
from stcn_core.network import NetworkConfig
from stcn_core.offline import OfflineSegmenter
from stcn_core.online import OnlineSegmenter
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.region import ABSENT, Box, Windows, boxes_of, coverage, decode_regions
from stcn_core.settings import OfflineSettings
from stcn_core.training.validation import jaccard

GRID = (14, 20)
BOXES = [
    Box(6, 8, 9, 10),  # in the middle
    Box(0, 1, 0, 1),
    Box(13, 14, 18, 20),
    Box(3, 9, 0, 20),
    Box(7, 8, 2, 3),
]


def made(config: NetworkConfig = TINY, objects: int = 1, precision: str = "fp32") -> tuple:
    network = PreparedNetwork(random_network(config), precision=precision)
    draw = torch.Generator().manual_seed(0)
    features = network.encode_key(torch.randn(2, 3, GRID[0] * 16, GRID[1] * 16, generator=draw))
    readout = torch.randn(2, objects, config.value_dim, *GRID, generator=draw)
    return network, readout, features


def never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a large box nor a touched border leads to the whole frame."""
    monkeypatch.setattr(region, "WHOLE", 2.0)
    monkeypatch.setattr(Windows, "touched", lambda self, logit, size: torch.tensor(False))


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("objects", [1, 3, 30])  # 30: the frame's part is computed for the whole frame
def test_equal_inside_the_box_and_absent_outside(box: Box, objects: int, monkeypatch: pytest.MonkeyPatch) -> None:
    never_whole(monkeypatch)
    network, readout, features = made(objects=objects)
    expected = network.decode(readout, features)
    found = decode_regions(network, readout, features, [[box] * objects] * 2)
    inside = box.scaled(16)
    torch.testing.assert_close(inside.of(found), inside.of(expected), atol=1e-4, rtol=1e-4)
    outside = torch.ones(found.shape, dtype=torch.bool)
    inside.of(outside).fill_(False)
    assert (found[outside] == ABSENT).all()


def test_the_reach_is_not_larger_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one pixel less around any stage some box differs: the windows are the decoder's reach, not a guess."""
    never_whole(monkeypatch)
    network, readout, features = made()
    readout *= 30  # so that what lies at the windows' edge is seen
    expected = BOXES[0].scaled(16).of(network.decode(readout, features))
    around = Windows.around
    scale = expected.abs().max()

    def error() -> float:
        found = decode_regions(network, readout, features, [[BOXES[0]]] * 2)
        return ((BOXES[0].scaled(16).of(found) - expected).abs().max() / scale).item()

    assert error() < 1e-5
    for field in ("sixteenth", "eighth", "fourth"):

        def smaller(cells: Box, grid: tuple[int, int], field: str = field) -> Windows:
            windows = around(cells, grid)
            box = getattr(windows, field)
            less = Box(box.top + 1, box.bottom - 1, box.left + 1, box.right - 1)
            record = {**windows.__dict__, field: less}
            if field != "fourth":  # what comes out cannot be more than what goes in
                out = getattr(windows, f"{field}_out")
                record[f"{field}_out"] = out
            return Windows(**record)

        monkeypatch.setattr(Windows, "around", smaller)
        assert error() > 1e-5, field


def test_official_layout_in_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    never_whole(monkeypatch)
    network, readout, features = made(NetworkConfig.official())
    expected = network.decode(readout, features)
    found = decode_regions(network, readout, features, [[Box(6, 8, 9, 10)], [Box(2, 4, 12, 15)]])
    for b, box in enumerate((Box(6, 8, 9, 10), Box(2, 4, 12, 15))):
        inside = box.scaled(16)
        torch.testing.assert_close(inside.of(found[b]), inside.of(expected[b]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_in_a_box(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    never_whole(monkeypatch)
    network, readout, features = made(objects=2, precision=precision)
    expected = network.decode(readout, features)
    found = decode_regions(network, readout, features, [[BOXES[0]] * 2] * 2)
    inside = BOXES[0].scaled(16)
    assert (inside.of(found) - inside.of(expected)).abs().max() < 0.05 * expected.abs().max()


def test_a_mask_on_the_border_is_decoded_in_the_whole_frame() -> None:
    network, readout, features = made(objects=2)
    network.decoder.pred.bias.fill_(5.0)  # everything is the object
    found = decode_regions(network, readout, features, [[BOXES[0], None], [None, BOXES[4]]])
    expected = network.decode(readout, features)
    torch.testing.assert_close(found[0, 0], expected[0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1, 1], expected[1, 1], atol=1e-4, rtol=1e-4)
    assert (found[0, 1] == ABSENT).all() and (found[1, 0] == ABSENT).all()


def test_a_mask_on_the_frames_own_border_is_not_decoded_again() -> None:
    windows = Windows.around(Box(0, 14, 0, 4), GRID)
    logit = torch.full((14 * 16, 64), -1.0)
    logit[0], logit[:, 0] = 1.0, 1.0
    logit[0, -1] = -1.0
    assert not windows.touched(logit, (GRID[0] * 16, GRID[1] * 16))
    logit[5, -1] = 1.0
    assert windows.touched(logit, (GRID[0] * 16, GRID[1] * 16))
    whole = Windows.around(Box(0, 14, 0, 20), GRID)
    assert not whole.touched(torch.ones(14 * 16, 20 * 16), (GRID[0] * 16, GRID[1] * 16))


def test_a_box_that_nearly_is_the_frame_is_the_frame() -> None:
    network, readout, features = made()
    box = Box(1, 13, 1, 19)
    found = decode_regions(network, readout, features, [[box]] * 2)
    torch.testing.assert_close(found, network.decode(readout, features), atol=1e-4, rtol=1e-4)


def test_cost_follows_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels convolved by the decoder's last block, for a box of one cell and for the whole frame."""
    never_whole(monkeypatch)
    network, readout, features = made()
    seen = []
    network.decoder.up_8_4.out_conv.conv2.register_forward_hook(lambda module, x, y: seen.append(y[0, 0].numel()))
    decode_regions(network, readout, features, [[Box(6, 7, 9, 10)], [None]])
    assert seen == [12 * 12]  # 4 x 4 and 4 around it
    network.decode(readout[:1], features[:1])
    assert seen[1] == 56 * 80


def test_boxes_of_presence() -> None:
    presence = torch.zeros(2, 3, 6, 9)
    presence[0, 0, 2, 3] = 0.5
    presence[0, 1, 0, 0] = presence[0, 1, 5, 8] = 1.0
    presence[1, 2] = region.PRESENT / 2
    assert boxes_of(presence) == [[Box(1, 4, 2, 5), Box(0, 6, 0, 9), None], [None, None, None]]


def test_coverage_is_the_largest_probability_of_a_cell() -> None:
    masks = torch.zeros(2, 32, 48)
    masks[0, 17, 33] = 0.7
    masks[1] = 0.2
    found = coverage(masks)
    assert found.shape == (2, 2, 3)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, pytest.approx(0.7)]]
    assert (found[1] - 0.2).abs().max() < 1e-6


SIZE, FRAMES = (96, 128), 12
VIDEO, LABELS = moving_squares(FRAMES, *SIZE), square_labels(FRAMES, *SIZE)
Rows = dict[int, list[tuple[int, bytes]]]


def segmenter(regions: bool) -> OfflineSegmenter:
    """Two objects, prompted on the first frame."""
    settings = OfflineSettings(
        memory_frames=4, group_frames=3, segment_frames=6, recent_frames=2, region_decoding=regions
    )
    given = {k: (LABELS[0] == k).astype(np.uint8) for k in (1, 2)}
    return OfflineSegmenter(
        Propagation(random_network(), SIZE, regions=regions),
        settings,
        PromptSet((1, 2), {0: FramePrompts(given)}),
        source=SIZE,
        size=SIZE,
        video_id="v",
        visited=6,
    )


def burned_in(regions: bool) -> OfflineSegmenter:
    result = segmenter(regions)
    result.memorise_prompts(lambda frame: VIDEO[frame])
    list(result.burn_in([5, 1, 9, 3, 7, 11], lambda frame: VIDEO[frame]))
    return result


def rows_of(masks: Iterator[tuple[int, list[ObjectMask]]]) -> Rows:
    return {frame: [(mask.object_id, mask.counts) for mask in found] for frame, found in masks}


def test_a_video_in_boxes_that_hold_everything_is_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region, "PRESENT", -1.0)
    monkeypatch.setattr(region, "WHOLE", 2.0)
    plain = dict(burned_in(False).final_pass(enumerate(VIDEO)))
    boxed = dict(burned_in(True).final_pass(enumerate(VIDEO)))
    for frame in range(FRAMES):
        for one, other in zip(plain[frame], boxed[frame], strict=True):
            differing = (one.decode() != other.decode()).mean()
            assert one.object_id == other.object_id and one.area > 100
            assert differing < 0.001  # rounding at the border


def test_a_saved_bank_knows_where_objects_are(tmp_path: Path) -> None:
    """A later segment in another process gets the masks that the whole run gives it."""
    whole = burned_in(True)
    whole.save_bank(tmp_path / "bank.safetensors")
    expected = rows_of(whole.final_pass(enumerate(VIDEO)))
    later = segmenter(True)
    later.load_bank(tmp_path / "bank.safetensors")
    frames = [(n, VIDEO[n]) for n in range(FRAMES)]
    assert rows_of(later.final_pass(frames[6:], frames[:6])) == {n: expected[n] for n in range(6, FRAMES)}
    with pytest.raises(ValueError, match="region-decoding|value channels"):
        segmenter(False).load_bank(tmp_path / "bank.safetensors")


def test_settings_and_propagation_must_agree() -> None:
    with pytest.raises(ValueError, match="region_decoding"):
        OfflineSegmenter(
            Propagation(random_network(), SIZE),
            OfflineSettings(region_decoding=True),
            PromptSet((1,), {}),
            source=SIZE,
            size=SIZE,
            video_id="v",
        )


@pytest.mark.parametrize("seed", range(3))
def test_online_steps_in_boxes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region, "PRESENT", -1.0)
    monkeypatch.setattr(region, "WHOLE", 2.0)
    network = random_network(seed=seed)
    options = OfflineSettings(memory_frames=4, memory_every=2, region_decoding=True)
    runs = [OnlineSegmenter(Propagation(network, SIZE, regions=regions), options, 1) for regions in (False, True)]
    for frame in range(5):
        given = {0: (LABELS[0] == 1).astype(np.uint8)} if frame == 0 else {}
        plain, boxed = (online.step(frame, VIDEO[frame], given) for online in runs)
        torch.testing.assert_close(boxed, plain, atol=1e-3, rtol=0)


@pytest.mark.real_clips
@pytest.mark.parametrize("name", ["davis16_bmx-bumps", "davis17_tennis"])
def test_real_clips_lose_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """J with the bundled network, against the same run without boxes."""
    folder = real_clips() / name
    paths = sorted((folder / "frames").iterdir())[:48:4]
    pictures = [np.array(Image.open(path).convert("RGB").resize((427, 240))) for path in paths]
    masks = [Image.open(folder / "masks" / f"{path.stem}.png") for path in paths]
    truth = np.stack([np.array(mask.resize((427, 240), Image.Resampling.NEAREST)) for mask in masks])
    if truth[0].max() == 255:
        truth = (truth > 127).astype(np.uint8)
    ids = tuple(int(i) for i in np.unique(truth[0]) if i not in (0, 255))
    prompts = PromptSet(ids, {0: FramePrompts({i: (truth[0] == i).astype(np.uint8) for i in ids})})
    network, _ = load_checkpoint(BUNDLED)
    areas, around = [], Windows.around
    monkeypatch.setattr(Windows, "around", lambda *args: areas.append(around(*args).fourth.area) or around(*args))
    scores = []
    for regions in (False, True):
        settings = OfflineSettings(memory_frames=6, region_decoding=regions)
        propagation = Propagation(network, (240, 427), regions=regions)
        run = OfflineSegmenter(propagation, settings, prompts, source=(240, 427), size=(240, 427), video_id=name)
        run.memorise_prompts(lambda frame: pictures[frame])
        list(run.burn_in(range(1, len(pictures), 2), lambda frame: pictures[frame]))
        labels = np.zeros_like(truth)
        for frame, found in run.final_pass(enumerate(pictures)):
            for mask in found:
                labels[frame][mask.decode() > 0] = mask.object_id
        scores.append(jaccard(labels, truth))
    print(f"{name}: J {scores[0]:.4f} without, {scores[1]:.4f} with boxes")
    assert abs(scores[1] - scores[0]) <= 0.005
    assert np.mean(areas) < 0.6 * 60 * 108
