"""PointRend for instances (Kirillov et al. 2020) on torchvision's parts, with the weights of detectron2's model zoo.

Boxes are found as Mask R-CNN finds them; each mask begins as a grid of 28 x 28 points and is doubled until it has
224 x 224, where only the 784 least certain points are predicted anew from the finest map and a coarse prediction.
Where detectron2 and torchvision differ, detectron2 is followed: strides on the first convolution of a block, anchors
neither rounded nor stretched, boxes pooled from pixel centres, background as the last class, BGR without scaling.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.ops.poolers import LevelMapper

from stcn_core.detectors.coco import CONTIGUOUS
from stcn_core.detectors.detections import MOST, Detections, DetectorError, check_classes
from stcn_core.detectors.point_mask import PointMask, paste
from stcn_core.detectors.pointrend_zoo import PIXEL_MEAN, anchor_shapes, from_zoo, is_zoo
from stcn_core.detectors.rcnn_parts import STAGES, RcnnLayout, chosen, look, pyramid
from stcn_core.detectors.weights import fill, read_weights

STRIDES = (4, 8, 16, 32, 64)


class PointRend:
    """Takes the zoo's R50-FPN `.pkl` (or its state dict as `.pth`), and `.safetensors` of this project."""

    name = "pointrend"

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        """Raises DetectorError."""
        state, record = read_weights(weights)
        layout = RcnnLayout() if record is None else RcnnLayout.from_json(record, weights)
        if is_zoo(state):
            state = from_zoo(state, weights)
        key = "roi_heads.box_predictor.cls_score.weight"
        if key not in state:
            raise DetectorError(f"{weights} holds no weights of {self.name}")
        count = state[key].shape[0] - 1
        names = layout.classes or (CONTIGUOUS if count == len(CONTIGUOUS) else None)
        self.class_names = names or tuple(f"class-{number}" for number in range(1, count + 1))
        if len(self.class_names) != count:
            raise DetectorError(f"{weights} names {len(self.class_names)} classes, but has weights for {count}")
        self._network = build(layout, count)
        fill(self._network, state, weights)
        self._network.to(device)
        self._device = device

    @torch.inference_mode()
    def detect(
        self, picture: np.ndarray, *, classes: Collection[str] = (), min_score: float = 0.5, limit: int = MOST
    ) -> Detections:
        """See `stcn_core.detectors.Detector`."""
        check_classes(classes, self.class_names, self.name)
        network, (height, width) = self._network, picture.shape[:2]
        found, features, images = look(network, picture, self._device, min_score)
        keep = chosen(found["labels"], found["scores"], self.class_names, classes, min_score, limit)
        if not keep:
            return Detections.none(height, width)
        boxes, labels = found["boxes"][keep], found["labels"][keep] - 1
        masks = network.roi_heads.mask(features["0"], boxes, labels)
        scaled_height, scaled_width = images.image_sizes[0]
        scale = boxes.new_tensor([width / scaled_width, height / scaled_height] * 2)
        boxes = boxes * scale
        return Detections(
            paste(masks, boxes, (height, width)).cpu().numpy(),
            boxes.cpu().numpy(),
            tuple(self.class_names[label] for label in labels.tolist()),
            found["scores"][keep].cpu().numpy(),
        )


class _Anchors(AnchorGenerator):
    """detectron2's: exact shapes, and strides that are what they are called whatever the padding."""

    def __init__(self) -> None:
        super().__init__(tuple((8 * stride,) for stride in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
        self.cell_anchors = list(anchor_shapes())

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        dtype, device = feature_maps[0].dtype, feature_maps[0].device
        self.set_cell_anchors(dtype, device)
        strides = [[torch.tensor(stride, device=device)] * 2 for stride in STRIDES]
        grids = [list(features.shape[-2:]) for features in feature_maps]
        anchors = torch.cat(self.grid_anchors(grids, strides))
        return [anchors for _ in image_list.image_sizes]


class _AlignedPool(nn.Module):
    """RoIAlign on pixel centres, 7 x 7, each box from the level that fits its size."""

    def __init__(self) -> None:
        super().__init__()
        self._level = LevelMapper(2, 5, eps=1e-8)

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], _sizes: object) -> Tensor:
        levels = self._level(boxes)
        numbers = torch.cat([one.new_full((len(one), 1), float(n)) for n, one in enumerate(boxes)])
        rois = torch.cat((numbers, torch.cat(boxes)), 1)
        pooled = rois.new_zeros(len(rois), features["0"].shape[1], 7, 7)
        for level in range(4):
            here = torch.where(levels == level)[0]
            maps = features[str(level)]
            pooled[here] = roi_align(maps, rois[here], (7, 7), 1 / STRIDES[level], sampling_ratio=0, aligned=True)
        return pooled


def build(layout: RcnnLayout, classes: int) -> FasterRCNN:
    """The network with random weights; `classes` does not count the background."""
    backbone = pyramid(layout, FrozenBatchNorm2d)
    for stage in STAGES[1:]:
        first = backbone.body[stage][0]
        if layout.block == "bottleneck":
            first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    network = FasterRCNN(
        backbone,
        min_size=layout.min_size,
        max_size=layout.max_size,
        image_mean=[value / 255 for value in PIXEL_MEAN],
        image_std=[1 / 255] * 3,
        rpn_anchor_generator=_Anchors(),
        rpn_head=RPNHead(layout.fpn, 3),
        box_head=TwoMLPHead(layout.fpn * 7 * 7, layout.fc),
        box_predictor=FastRCNNPredictor(layout.fc, classes + 1),
    )
    network.roi_heads.box_roi_pool = _AlignedPool()
    network.roi_heads.mask = PointMask(layout.fpn, layout.conv, layout.fc, classes)
    return network
