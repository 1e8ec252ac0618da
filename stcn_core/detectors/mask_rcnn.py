"""Mask R-CNN (He et al. 2017) as torchvision has it, in both layouts, with weights from a local file."""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.misc import FrozenBatchNorm2d

from stcn_core.detectors.coco import UNUSED, names_for
from stcn_core.detectors.detections import MOST, Detections, DetectorError, check_classes
from stcn_core.detectors.rcnn_parts import RcnnLayout, chosen, look, pyramid
from stcn_core.detectors.weights import fill, read_weights

CLASS_KEY = "roi_heads.box_predictor.cls_score.weight"


class MaskRcnn:
    """`maskrcnn_resnet50_fpn`. Takes torchvision's `.pth` and `.safetensors`, also fine-tuned to other classes."""

    name = "mask-rcnn"

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        """Raises DetectorError."""
        state, record = read_weights(weights)
        state = {_today(key): tensor for key, tensor in state.items()}
        layout = RcnnLayout() if record is None else RcnnLayout.from_json(record, weights)
        if CLASS_KEY not in state:
            raise DetectorError(f"{weights} holds no weights of {self.name}: {CLASS_KEY} is missing")
        numbers = state[CLASS_KEY].shape[0]
        self._names = layout.classes or names_for(numbers)
        if len(self._names) != numbers - 1:
            raise DetectorError(f"{weights} names {len(self._names)} classes, but has weights for {numbers - 1}")
        self.class_names = tuple(name for name in self._names if name != UNUSED)
        self._network = self._build(layout, numbers, state)
        fill(self._network, state, weights)
        self._network.to(device)
        self._device = device

    @torch.inference_mode()
    def detect(
        self, picture: np.ndarray, *, classes: Collection[str] = (), min_score: float = 0.5, limit: int = MOST
    ) -> Detections:
        """See `stcn_core.detectors.Detector`."""
        check_classes(classes, self.class_names, self.name)
        network, size = self._network, tuple(picture.shape[:2])
        found, _, images = look(network, picture, self._device, min_score)
        keep = chosen(found["labels"], found["scores"], self._names, classes, min_score, limit)
        found = {name: values[keep] for name, values in found.items()}
        # Only now pasted into the picture: a hundred masks of a 4K frame would take gigabytes.
        found = network.transform.postprocess([found], images.image_sizes, [size])[0]
        return Detections(
            found["masks"][:, 0].half().cpu().numpy(),
            found["boxes"].cpu().numpy(),
            tuple(self._names[label - 1] for label in found["labels"].tolist()),
            found["scores"].cpu().numpy(),
        )

    @staticmethod
    def _build(layout: RcnnLayout, numbers: int, state: dict[str, Tensor]) -> MaskRCNN:
        # Weights trained with live batch norm carry its counters and its epsilon; COCO_V1 was trained with none.
        counters = [key for key in state if key.endswith("num_batches_tracked")]
        for key in counters:
            del state[key]
        network = build_v1(layout, numbers)
        for module in network.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 1e-5 if counters else 0.0
        return network


class MaskRcnnV2(MaskRcnn):
    """`maskrcnn_resnet50_fpn_v2`: batch norm in pyramid and heads, four convolutions before the boxes."""

    name = "mask-rcnn-v2"

    @staticmethod
    def _build(layout: RcnnLayout, numbers: int, state: dict[str, Tensor]) -> MaskRCNN:
        return build_v2(layout, numbers)


def _today(key: str) -> str:
    """The name of a tensor today; COCO_V1, the published file, still has those of torchvision 0.12 and before."""
    if match := re.fullmatch(r"(rpn\.head\.conv)\.(weight|bias)", key):
        return f"{match[1]}.0.0.{match[2]}"
    if match := re.fullmatch(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)", key):
        return f"{match[1]}.0.{match[2]}"
    if match := re.fullmatch(r"(roi_heads\.mask_head)\.mask_fcn(\d)\.(weight|bias)", key):
        return f"{match[1]}.{int(match[2]) - 1}.0.{match[3]}"
    return key


def build_v1(layout: RcnnLayout, numbers: int) -> MaskRCNN:
    """The network with random weights; `numbers` counts the background."""
    return _assemble(
        layout,
        pyramid(layout, FrozenBatchNorm2d),
        numbers,
        rpn_head=RPNHead(layout.fpn, 3),
        box_head=TwoMLPHead(layout.fpn * 7 * 7, layout.fc),
        mask_head=MaskRCNNHeads(layout.fpn, (layout.conv,) * 4, 1),
    )


def build_v2(layout: RcnnLayout, numbers: int) -> MaskRCNN:
    """As build_v1, in the second layout."""
    norm = nn.BatchNorm2d
    return _assemble(
        layout,
        pyramid(layout, norm, norm),
        numbers,
        rpn_head=RPNHead(layout.fpn, 3, conv_depth=2),
        box_head=FastRCNNConvFCHead((layout.fpn, 7, 7), [layout.conv] * 4, [layout.fc], norm_layer=norm),
        mask_head=MaskRCNNHeads(layout.fpn, [layout.conv] * 4, 1, norm_layer=norm),
    )


def _assemble(layout: RcnnLayout, backbone: nn.Module, numbers: int, **heads: nn.Module) -> MaskRCNN:
    anchors = AnchorGenerator(tuple((size,) for size in (32, 64, 128, 256, 512)), ((0.5, 1.0, 2.0),) * 5)
    return MaskRCNN(
        backbone,
        min_size=layout.min_size,
        max_size=layout.max_size,
        rpn_anchor_generator=anchors,
        box_predictor=FastRCNNPredictor(layout.fc, numbers),
        mask_predictor=MaskRCNNPredictor(layout.conv, layout.conv, numbers),
        **heads,
    )
