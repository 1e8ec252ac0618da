"""PointRend's mask head: a coarse prediction per box, refined at the least certain points (paper, sections 3.1-3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINEST_STRIDE = 4
POOLED = 14  # points per side from which the coarse prediction is made
COARSE = 7  # its size
FIRST = 28  # the first grid that the point head fills, whole
DOUBLINGS = 3
POINTS = FIRST * FIRST  # refined at each doubling


class CoarseHead(nn.Module):
    """[R, C, 14, 14] -> logits [R, classes, 7, 7]."""

    def __init__(self, channels: int, conv: int, fc: int, classes: int) -> None:
        super().__init__()
        if channels > conv:
            self.reduce_channel_dim_conv = nn.Conv2d(channels, conv, 1)
        self.reduce_spatial_dim_conv = nn.Conv2d(conv, conv, 2, 2)
        self.fc1 = nn.Linear(conv * COARSE * COARSE, fc)
        self.fc2 = nn.Linear(fc, fc)
        self.prediction = nn.Linear(fc, classes * COARSE * COARSE)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "reduce_channel_dim_conv"):
            x = F.relu(self.reduce_channel_dim_conv(x))
        x = F.relu(self.reduce_spatial_dim_conv(x)).flatten(1)
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        return self.prediction(x).unflatten(1, (-1, COARSE, COARSE))


class PointHead(nn.Module):
    """A perceptron per point; the coarse prediction is appended before every layer."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv1d(channels + classes, width, 1)
        self.fc2 = nn.Conv1d(width + classes, width, 1)
        self.fc3 = nn.Conv1d(width + classes, width, 1)
        self.predictor = nn.Conv1d(width + classes, classes, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """fine [R, C, P], coarse [R, classes, P] -> logits [R, classes, P]."""
        for layer in (self.fc1, self.fc2, self.fc3):
            fine = F.relu(layer(torch.cat((fine, coarse), 1)))
        return self.predictor(torch.cat((fine, coarse), 1))


class PointMask(nn.Module):
    """The finest map and boxes -> probabilities [R, 224, 224]."""

    def __init__(self, channels: int, conv: int, fc: int, classes: int) -> None:
        super().__init__()
        self.coarse_head = CoarseHead(channels, min(conv, channels), fc, classes)
        self.point_head = PointHead(channels, conv, classes)

    def forward(self, finest: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """finest [1, C, h, w] at stride 4, boxes [R, 4] in pixels of the padded picture, labels [R] from 0."""
        pooled = sample_in_boxes(finest, boxes, _grid(POOLED, boxes))
        coarse = self.coarse_head(pooled.unflatten(2, (POOLED, POOLED)))
        rows = torch.arange(len(boxes), device=boxes.device)

        def predict(points: Tensor) -> Tensor:
            logits = self.point_head(sample_in_boxes(finest, boxes, points), sample(coarse, points))
            return logits[rows, labels]

        logits = predict(_grid(FIRST, boxes)).unflatten(1, (FIRST, FIRST))
        for _ in range(DOUBLINGS):
            logits = F.interpolate(logits[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
            side = logits.shape[-1]
            flat = logits.flatten(1)
            # A stable sort, so that equal uncertainties are refined in the same order everywhere.
            uncertain = flat.abs().sort(dim=1, stable=True).indices[:, :POINTS]
            points = torch.stack((uncertain % side, uncertain // side), 2).float().add(0.5) / side
            logits = flat.scatter(1, uncertain, predict(points)).unflatten(1, (side, side))
        return logits.sigmoid()


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """maps [R, C, h, w] at points [R, P, 2] (x, y; 0 to 1 over the map) -> [R, C, P], bilinear, zero outside."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]


def sample_in_boxes(finest: Tensor, boxes: Tensor, points: Tensor) -> Tensor:
    """finest [1, C, h, w] at points [R, P, 2] (0 to 1 over each box) -> [R, C, P]."""
    corner, size = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    height, width = finest.shape[-2:]
    inside = (corner + points * size) / boxes.new_tensor([width, height]) / FINEST_STRIDE
    return sample(finest, inside.flatten(0, 1)[None])[0].unflatten(1, points.shape[:2]).transpose(0, 1)


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """masks [R, s, s] of 0 to 1 over their boxes [R, 4] (pixels) -> float16 [R, H, W], zero outside the boxes."""
    height, width = size
    pasted = torch.zeros((len(masks), height, width), dtype=torch.float16, device=masks.device)
    for mask, box, target in zip(masks, boxes, pasted, strict=True):
        x0, y0 = (int(value) for value in box[:2].floor().clamp(min=0))
        x1, y1 = min(width, int(box[2].ceil())), min(height, int(box[3].ceil()))
        if x0 >= x1 or y0 >= y1:
            continue
        x = (torch.arange(x0, x1, device=box.device) + 0.5 - box[0]) / (box[2] - box[0])
        y = (torch.arange(y0, y1, device=box.device) + 0.5 - box[1]) / (box[3] - box[1])
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * 2 - 1
        target[y0:y1, x0:x1] = F.grid_sample(mask[None, None], points[None], align_corners=False)[0, 0].half()
    return pasted


def _grid(side: int, boxes: Tensor) -> Tensor:
    """Centres of a side x side grid, row by row, for each box: [R, side * side, 2]."""
    centres = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    points = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).flatten(0, 1)
    return points.expand(len(boxes), -1, -1)
