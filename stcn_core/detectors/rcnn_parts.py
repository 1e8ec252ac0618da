"""What Mask R-CNN and PointRend share: the layout, the ResNet with its feature pyramid, the choice of detections."""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from stcn_core.detectors.detections import DetectorError

BLOCKS = {"bottleneck": Bottleneck, "basic": BasicBlock}
USUAL_FLOOR = 0.05  # torchvision's own: lower scores are not even compared with each other
STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class RcnnLayout:
    """Sizes of the network; the defaults are the published R50-FPN. Files of this project carry theirs.

    classes: names without the background; None: by the number of classes in the file. fpn: channels of the pyramid;
    fc: width of fully connected layers; conv: channels of the heads' convolutions; min_size and max_size: what the
    picture's shorter and longer side are scaled to.
    """

    block: str = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    fpn: int = 256
    fc: int = 1024
    conv: int = 256
    min_size: int = 800
    max_size: int = 1333
    classes: tuple[str, ...] | None = None

    def to_json(self) -> dict:
        """Plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(record: object, path: Path) -> "RcnnLayout":
        """What `to_json` gave. Raises DetectorError."""
        try:
            values = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
            layout = RcnnLayout(**values)
            sizes = (*layout.depths, layout.fpn, layout.fc, layout.conv, layout.min_size, layout.max_size)
            if layout.block not in BLOCKS or len(layout.depths) != 4 or min(sizes) < 1:
                raise ValueError(f"{layout}")
            return layout
        except (AttributeError, TypeError, ValueError) as error:
            raise DetectorError(f"{path}: its layout is not understood: {error}") from error


def pyramid(layout: RcnnLayout, norm: type[nn.Module], pyramid_norm: type[nn.Module] | None = None) -> BackboneWithFPN:
    """Picture -> maps "0" to "3" at strides 4 to 32 and "pool" at 64, each with `layout.fpn` channels."""
    body = ResNet(BLOCKS[layout.block], list(layout.depths), norm_layer=norm)
    width = 64 * BLOCKS[layout.block].expansion
    return BackboneWithFPN(
        body,
        {stage: str(number) for number, stage in enumerate(STAGES)},
        [width << number for number in range(4)],
        layout.fpn,
        norm_layer=pyramid_norm,
    )


def as_tensor(picture: np.ndarray, device: str) -> Tensor:
    """uint8 RGB [H, W, 3] -> float [3, H, W], 0 to 1."""
    return torch.from_numpy(np.array(picture, order="C")).to(device).permute(2, 0, 1).float() / 255


def look(
    network: GeneralizedRCNN, picture: np.ndarray, device: str, min_score: float
) -> tuple[dict[str, Tensor], dict[str, Tensor], ImageList]:
    """(what is found in a uint8 RGB picture [H, W, 3], best first: boxes, labels and scores at the network's scale, and
    masks where it has a head for them; the pyramid's maps; the picture as the network sees it)."""
    network.roi_heads.score_thresh = min(USUAL_FLOOR, min_score)
    images, _ = network.transform([as_tensor(picture, device)])
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    return network.roi_heads(features, proposals, images.image_sizes)[0][0], features, images


def chosen(
    labels: Tensor, scores: Tensor, names: Sequence[str], classes: Collection[str], min_score: float, limit: int
) -> list[int]:
    """Which of the found ones (best first) are wanted. labels count from 1: the first of `names`."""
    wanted = [
        number
        for number, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True))
        if score >= min_score and (not classes or names[label - 1] in classes)
    ]
    return wanted[:limit]
