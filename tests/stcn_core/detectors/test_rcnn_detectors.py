"""Mask R-CNN and PointRend: real layouts by their keys and shapes, behaviour on small ones with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_detectors import CLASSES, TINY, tiny_weights
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from stcn_core.detectors import DetectorError, make_detector
from stcn_core.detectors.coco import CONTIGUOUS, TORCHVISION
from stcn_core.detectors.mask_rcnn import MaskRcnn, build_v1, build_v2
from stcn_core.detectors.point_mask import PointMask, paste, sample_in_boxes
from stcn_core.detectors.pointrend import PointRend, build
from stcn_core.detectors.pointrend_zoo import anchor_shapes, from_zoo
from stcn_core.detectors.rcnn_parts import RcnnLayout
from stcn_core.detectors.weights import read_weights

ZOO = json.loads((Path(__file__).parent / "pointrend_zoo.json").read_text())
PICTURE = np.random.default_rng(3).integers(0, 255, (72, 100, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["mask-rcnn", "mask-rcnn-v2", "pointrend"])
def test_random_weights_give_right_shapes_and_the_same_again(tmp_path: Path, name: str):
    path = tiny_weights(tmp_path, name)
    found = make_detector(name, path).detect(PICTURE, min_score=0.0, limit=7)
    assert 1 <= len(found) <= 7 and set(found.classes) <= set(CLASSES)
    assert found.masks.shape == (len(found), 72, 100) and found.masks.dtype == np.float16
    assert 0 <= found.masks.min() and found.masks.max() <= 1
    for (x0, y0, x1, y1), mask in zip(found.boxes, found.masks, strict=True):
        assert 0 <= x0 < x1 <= 100 and 0 <= y0 < y1 <= 72
        outside = mask.copy()
        outside[max(0, int(y0) - 3) : int(y1) + 4, max(0, int(x0) - 3) : int(x1) + 4] = 0
        assert not outside.any()
    again = make_detector(name, path).detect(PICTURE, min_score=0.0, limit=7)
    assert np.array_equal(again.masks, found.masks) and np.array_equal(again.boxes, found.boxes)
    higher = float(np.median(found.scores))
    fewer = make_detector(name, path).detect(PICTURE, min_score=higher, limit=7)
    assert len(fewer) and fewer.scores.min() >= higher and len(fewer) <= len(found)
    dogs = make_detector(name, path).detect(PICTURE, min_score=0.0, classes=["dog"], limit=7)
    assert set(dogs.classes) <= {"dog"}
    with pytest.raises(DetectorError, match="knows no class 'cat'"):
        make_detector(name, path).detect(PICTURE, classes=["cat"])


def test_full_layouts_are_torchvisions():
    for ours, theirs in ((build_v1, maskrcnn_resnet50_fpn), (build_v2, maskrcnn_resnet50_fpn_v2)):
        expected = {k: v.shape for k, v in theirs(weights=None, weights_backbone=None).state_dict().items()}
        if ours is build_v1:  # the published file was trained with frozen batch norm, which counts nothing
            expected = {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
        assert {k: v.shape for k, v in ours(RcnnLayout(), len(TORCHVISION)).state_dict().items()} == expected


def test_weights_of_the_same_network_give_torchvisions_own_detections(tmp_path: Path):
    path = tiny_weights(tmp_path, "mask-rcnn")
    network = build_v1(TINY, 3).eval()
    network.load_state_dict(read_weights(path)[0])
    for module in network.modules():
        if hasattr(module, "eps") and type(module).__name__ == "FrozenBatchNorm2d":
            module.eps = 0.0
    network.roi_heads.score_thresh = 0.0
    image = torch.from_numpy(PICTURE).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        theirs = network([image])[0]
    ours = MaskRcnn(path).detect(PICTURE, min_score=0.0, limit=10)
    assert torch.allclose(torch.from_numpy(ours.boxes), theirs["boxes"][:10], atol=1e-4)
    assert torch.allclose(torch.from_numpy(ours.masks).float(), theirs["masks"][:10, 0], atol=1e-3)


def test_the_published_file_has_older_names(tmp_path: Path):
    path = tiny_weights(tmp_path, "mask-rcnn")
    state = read_weights(path)[0]
    older = {}
    for key, tensor in state.items():
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for kind in ("inner", "layer"):
            for level in range(4):
                key = key.replace(f"fpn.{kind}_blocks.{level}.0.", f"fpn.{kind}_blocks.{level}.")
        for number in range(4):
            key = key.replace(f"roi_heads.mask_head.{number}.0.", f"roi_heads.mask_head.mask_fcn{number + 1}.")
        older[key] = tensor
    assert set(older) != set(state)
    from safetensors.torch import save_file

    renamed = tmp_path / "older.safetensors"
    save_file(older, renamed, {"detector_config": json.dumps(TINY.to_json())})
    found = MaskRcnn(renamed).detect(PICTURE, min_score=0.0, limit=3)
    assert np.array_equal(found.masks, MaskRcnn(path).detect(PICTURE, min_score=0.0, limit=3).masks)


def test_wrong_weights_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="do not exist"):
        make_detector("mask-rcnn", tmp_path / "none.pth")
    with pytest.raises(KeyError, match="there are mask-rcnn"):
        make_detector("yolo", tmp_path)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(DetectorError, match="read safely"):
        make_detector("mask-rcnn", tmp_path / "text.pth")
    lost = tiny_weights(tmp_path, "lost")
    for name in ("mask-rcnn", "pointrend"):
        with pytest.raises(DetectorError):
            make_detector(name, lost)
    with pytest.raises(DetectorError, match="missing|unexpected"):
        make_detector("mask-rcnn-v2", tiny_weights(tmp_path, "mask-rcnn"))


def zoo_state(old: bool, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random weights under the zoo's names. old: as saved before 2021, with the constants that files held then."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in ZOO["keys"].items():
        if old:
            key = key.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
            key = key.replace("mask_head.coarse_head", "mask_coarse_head")
            key = key.replace("mask_head.point_head", "mask_point_head")
        state[key] = torch.empty(shape).normal_(0, 0.02, generator=draw)
    if old:
        state["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
        state["pixel_std"] = torch.ones(3, 1, 1)
        for level, anchors in enumerate(anchor_shapes()):
            state[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = anchors
    return state


@pytest.mark.parametrize("old", [False, True])
def test_the_zoos_keys_fill_the_network_exactly(old: bool):
    state = zoo_state(old)
    made = from_zoo(state, Path("zoo.pkl"))
    network = build(RcnnLayout(), len(CONTIGUOUS))
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in made.items()} == expected
    assert len(CONTIGUOUS) == 80 and CONTIGUOUS[0] == "person" and CONTIGUOUS[-1] == "toothbrush"
    # Spot checks of what is not a mere renaming.
    stem = state["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(made["backbone.body.conv1.weight"][:, 0], stem[:, 2])  # BGR
    scores = state["roi_heads.box_predictor.cls_score.bias"]
    assert torch.equal(made["roi_heads.box_predictor.cls_score.bias"], torch.cat((scores[80:], scores[:80])))
    boxes = made["roi_heads.box_predictor.bbox_pred.bias"]
    assert not boxes[:4].any() and torch.equal(boxes[4:], state["roi_heads.box_predictor.bbox_pred.bias"])
    shortcut = state["backbone.bottom_up.res3.0.shortcut.weight"]
    assert torch.equal(made["backbone.body.layer2.0.downsample.0.weight"], shortcut)
    finest = state["backbone.fpn_output2.weight"]
    assert torch.equal(made["backbone.fpn.layer_blocks.0.0.weight"], finest)


def test_another_zoo_model_is_refused():
    state = zoo_state(old=True)
    with pytest.raises(DetectorError, match="unexpected roi_heads.mask_head.deconv.weight"):
        from_zoo(state | {"roi_heads.mask_head.deconv.weight": torch.zeros(1)}, Path("m.pkl"))
    with pytest.raises(DetectorError, match="pixel_mean is not that"):
        from_zoo(state | {"pixel_mean": torch.zeros(3, 1, 1)}, Path("m.pkl"))


def test_pointrends_strides_and_anchors_are_detectron2s():
    network = build(RcnnLayout(), 2)
    block = network.backbone.body["layer2"][0]
    assert block.conv1.stride == (2, 2) and block.conv2.stride == (1, 1)
    shapes = list(anchor_shapes())
    width, height = (shapes[0][0, 2:] - shapes[0][0, :2]).tolist()
    assert abs(width * height - 32 * 32) < 1e-2 and abs(height / width - 0.5) < 1e-5
    features = [torch.zeros(1, 1, 7, 5), *(torch.zeros(1, 1, 1, 1) for _ in range(4))]
    from torchvision.models.detection.image_list import ImageList

    images = ImageList(torch.zeros(1, 3, 30, 20), [(30, 20)])  # 30 is no multiple: torchvision would stretch
    anchors = network.rpn.anchor_generator(images, features)[0]
    centres = (anchors[: 7 * 5 * 3, :2] + anchors[: 7 * 5 * 3, 2:]) / 2
    assert centres[-1].tolist() == [16.0, 24.0]


def test_points_are_sampled_where_they_lie():
    columns = torch.arange(20.0).expand(1, 1, 10, 20) * 4 + 2  # each cell holds the x of its centre in the picture
    boxes = torch.tensor([[8.0, 4.0, 40.0, 36.0]])
    points = torch.tensor([[[0.0, 0.5], [0.5, 0.5], [1.0, 0.5]]])
    assert torch.allclose(sample_in_boxes(columns, boxes, points)[0, 0], torch.tensor([8.0, 24.0, 40.0]))


def test_only_uncertain_points_are_refined():
    torch.manual_seed(0)
    head = PointMask(8, 8, 16, 2).eval()
    asked = []
    original = head.point_head.forward
    head.point_head.forward = lambda fine, coarse: asked.append(fine.shape[-1]) or original(fine, coarse)
    with torch.inference_mode():
        masks = head(torch.randn(1, 8, 24, 32), torch.tensor([[4.0, 4.0, 90.0, 60.0]]), torch.tensor([1]))
    assert masks.shape == (1, 224, 224) and asked == [784] * 4
    assert 0 < masks.min() and masks.max() < 1


def test_a_mask_is_pasted_over_its_box():
    mask = torch.zeros(1, 4, 4)
    mask[:, :, 2:] = 1  # its right half
    pasted = paste(mask, torch.tensor([[10.0, 5.0, 30.0, 25.0]]), (40, 50))[0]
    assert (pasted[8:22, 24:28] == 1).all() and (pasted[8:22, 12:16] == 0).all()
    assert not pasted[:4].any() and not pasted[:, 32:].any()
    outside = paste(mask, torch.tensor([[-30.0, -30.0, -5.0, -5.0]]), (40, 50))
    assert not outside.any()


def test_a_zoo_file_whole(tmp_path: Path):
    """The published layout as a pickle of arrays, through the whole detector, once."""
    import pickle

    path = tmp_path / "zoo.pkl"
    state = {key: tensor.numpy() for key, tensor in zoo_state(old=True).items()}
    for key in state:
        if "norm.running_var" in key or key.endswith("norm.weight"):
            state[key] = np.ones_like(state[key])
    path.write_bytes(pickle.dumps({"model": state, "__author__": "test"}))
    detector = PointRend(path)
    detector._network.transform.min_size, detector._network.transform.max_size = (96,), 128
    found = detector.detect(PICTURE, min_score=0.0, limit=2)
    assert found.masks.shape == (2, 72, 100) and set(found.classes) <= set(CONTIGUOUS)


@pytest.mark.parametrize("name", ["mask-rcnn", "mask-rcnn-v2", "pointrend"])
def test_tensors_of_other_shapes_are_refused(tmp_path: Path, name: str):
    key = "roi_heads.box_predictor.cls_score.weight"
    for extra in ({}, {"backbone.bottom_up.stem.conv1.weight": torch.zeros(3, 3)}):
        path = tmp_path / "odd.pth"
        torch.save({key: torch.tensor(1.0), **extra}, path)
        with pytest.raises(DetectorError, match="odd.pth holds no weights of"):
            make_detector(name, path)
