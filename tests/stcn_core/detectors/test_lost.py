"""LOST's steps on made features, DINO's keys against the transformer itself, the detector on a made picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_detectors import tiny_weights
from timm.models.vision_transformer import VisionTransformer

from stcn_core.detectors import DetectorError, make_detector
from stcn_core.detectors.dense_crf import refine
from stcn_core.detectors.dino import Dino
from stcn_core.detectors.lost import discover
from stcn_core.detectors.weights import read_weights, save_weights

PICTURE = np.random.default_rng(3).integers(0, 255, (70, 101, 3), dtype=np.uint8)


def scene(grid: tuple[int, int] = (8, 10)) -> np.ndarray:
    """Background patches alike to each other; an object of 3 x 4 patches alike to itself and unlike the rest."""
    features = np.tile([1.0, 0.0, 0.1], (grid[0] * grid[1], 1)).reshape(*grid, 3)
    features[2:5, 3:7] = [-0.5, 1.0, 0.0]
    return features


def test_the_object_is_what_is_alike_to_the_patch_alike_to_fewest():
    features = scene()
    found = discover(features.reshape(-1, 3), (8, 10), candidates=100)
    expected = np.zeros((8, 10), bool)
    expected[2:5, 3:7] = True
    assert np.array_equal(found.mask, expected) and found.box == (3, 2, 7, 5)
    assert found.seed == 2 * 10 + 3  # all of the object are alike to 11 others: the first one


def test_only_the_seeds_part_in_four_neighbourhood():
    features = scene()
    features[6, 8] = features[3, 4]  # alike, but apart
    features[5, 7] = features[3, 4]  # alike, but only a corner of it touches
    found = discover(features.reshape(-1, 3), (8, 10))
    assert not found.mask[6, 8] and not found.mask[5, 7] and found.mask.sum() == 12


def test_candidates_widen_the_seed():
    # A chain: a's likes b, b likes c; the seed a alone does not reach c, a with its candidate b does.
    a, b, c, ground = [1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [-0.1, 1.0, 0, 0], [-0.3, -0.3, 1.0, 0]
    features = np.array([[a, b, c] + [ground] * 5])
    alone = discover(features.reshape(-1, 4), (1, 8), candidates=1)
    widened = discover(features.reshape(-1, 4), (1, 8), candidates=100)
    assert alone.seed == widened.seed == 0
    assert alone.mask.tolist() == [[True, True] + [False] * 6]
    assert widened.mask.tolist() == [[True, True, True] + [False] * 5]


def test_degrees_do_not_count_the_patch_itself():
    # Patch 0 is alike to itself alone, the zero not even to itself: both to no other, so the first is the seed.
    features = np.array([[0.0, 1.0], [0.0, 0.0], [1.0, -0.1], [1.0, -0.1]])
    assert discover(features, (2, 2)).seed == 0
    assert discover(features[[1, 0, 2, 3]], (2, 2)) is None  # the zero is the seed, and no foreground
    with pytest.raises(ValueError, match="4 features for a grid"):
        discover(features, (3, 2))


def test_keys_are_those_of_the_last_attention(tmp_path: Path):
    path = tiny_weights(tmp_path, "lost")
    features, grid = Dino(path).keys(PICTURE)
    assert grid == (9, 13) and features.shape == (9 * 13, 24) and features.dtype == np.float32
    whole = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0, dynamic_img_size=True
    )  # fmt: skip
    whole.load_state_dict(read_weights(path)[0])
    caught = []
    whole.eval().blocks[-1].attn.qkv.register_forward_hook(lambda module, given, made: caught.append(made))
    image = torch.from_numpy(PICTURE).permute(2, 0, 1)[None].float() / 255
    image = (image - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    image = torch.nn.functional.pad(image, (0, 3, 0, 2))  # to 104 x 72, right and below
    with torch.inference_mode():
        whole.forward_features(image)
    keys = caught[0].unflatten(-1, (3, 3, 8))[0, 1:, 1].flatten(1)
    assert np.allclose(features, keys.numpy(), atol=1e-5)


def test_checkpoints_of_dinos_own_training_load(tmp_path: Path):
    state, layout = read_weights(tiny_weights(tmp_path, "lost"))
    nested = {f"module.backbone.{key}": value for key, value in state.items()} | {
        "module.head.mlp.0.bias": torch.ones(2)
    }
    torch.save({"student": {}, "teacher": nested}, tmp_path / "dino.pth")
    assert Dino(tmp_path / "dino.pth").keys(PICTURE)[0].shape == (117, 24)
    with pytest.raises(DetectorError, match="no vision transformer"):
        Dino(tiny_weights(tmp_path, "mask-rcnn"))
    broken = {key: value for key, value in state.items() if key != "norm.bias"}
    save_weights(broken, layout, tmp_path / "broken.safetensors")
    with pytest.raises(DetectorError, match="1 missing: norm.bias"):
        Dino(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("name", ["lost", "lost-crf"])
def test_the_detector_gives_one_object(tmp_path: Path, name: str):
    torch.set_num_threads(1)
    detector = make_detector(name, tiny_weights(tmp_path, name))
    found = detector.detect(PICTURE)
    assert len(found) == 1 and found.classes == ("object",) and found.masks.shape == (1, 70, 101)
    x0, y0, x1, y1 = (int(value) for value in found.boxes[0])
    seen = found.masks[0] > 0.5
    assert seen[y0:y1, x0:x1].sum() == seen.sum() and seen[y0].any() and seen[:, x1 - 1].any()
    if name == "lost":  # whole patches
        assert np.array_equal(seen[:64, :96].reshape(8, 8, 12, 8).any((1, 3)), seen[:64:8, :96:8])
    else:
        patches = make_detector("lost", tiny_weights(tmp_path, "lost")).detect(PICTURE).masks[0] > 0.5
        outlined = refine(patches, PICTURE)
        assert np.allclose(found.masks[0], outlined, atol=1e-3) and not np.array_equal(patches, seen)
    assert np.array_equal(detector.detect(PICTURE).masks, found.masks)
    with pytest.raises(DetectorError, match="knows no class"):
        detector.detect(PICTURE, classes=["dog"])


def test_large_pictures_are_looked_at_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from stcn_core.detectors import lost_detector

    monkeypatch.setattr(lost_detector, "LARGEST_SIDE", 35)
    found = make_detector("lost", tiny_weights(tmp_path, "lost")).detect(PICTURE)
    assert found.masks.shape == (1, 70, 101)
