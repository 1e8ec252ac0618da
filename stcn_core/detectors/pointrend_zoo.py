"""Names and orders of detectron2's PointRend weights -> those of `pointrend.build`.

Key layout read from detectron2's source (projects/PointRend and modeling/backbone, both before and after its change of
2021, when `mask_coarse_head` and `mask_point_head` moved into `mask_head`); recorded in full in the tests.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from stcn_core.detectors.detections import DetectorError

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, 0 to 255; no scaling after it
ANCHOR_SIZES = (32, 64, 128, 256, 512)
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
SHOWN = 5

RENAMED = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.body.bn1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(\w+)", r"backbone.body.conv1.\1"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"backbone.body.layer{}.\2.bn\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.(\w+)", r"backbone.body.layer{}.\2.conv\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"backbone.body.layer{}.\2.downsample.1.\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.(\w+)", r"backbone.body.layer{}.\2.downsample.0.\3"),
    (r"backbone\.fpn_lateral(\d)\.(\w+)", r"backbone.fpn.inner_blocks.[].0.\2"),
    (r"backbone\.fpn_output(\d)\.(\w+)", r"backbone.fpn.layer_blocks.[].0.\2"),
    (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"rpn.head.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.head.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.head.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(\w+)", r"roi_heads.box_head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(\w+)", r"roi_heads.box_head.fc7.\1"),
    (r"roi_heads\.box_predictor\.(cls_score|bbox_pred)\.(\w+)", r"roi_heads.box_predictor.\1.\2"),
    (r"roi_heads\.(?:mask_coarse_head|mask_head\.coarse_head)\.coarse_mask_fc(\d)\.(\w+)",
     r"roi_heads.mask.coarse_head.fc\1.\2"),
    (r"roi_heads\.(?:mask_coarse_head|mask_head\.coarse_head)\.(\w+)\.(\w+)", r"roi_heads.mask.coarse_head.\1.\2"),
    (r"roi_heads\.(?:mask_point_head|mask_head\.point_head)\.(\w+)\.(\w+)", r"roi_heads.mask.point_head.\1.\2"),
)  # fmt: skip
FIXED = re.compile(r"pixel_(mean|std)|proposal_generator\.anchor_generator\.cell_anchors\.(\d)")


def is_zoo(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are detectron2's."""
    return any(key.startswith("backbone.bottom_up.") for key in state)


def from_zoo(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state dict for `pointrend.build`. Raises DetectorError for names or constants that are not PointRend's."""
    made, unknown = {}, []
    for key, tensor in state.items():
        if match := FIXED.fullmatch(key):
            _check_fixed(match, tensor, path)
        elif (new := _renamed(key)) is None:
            unknown.append(key)
        else:
            made[new] = tensor
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise DetectorError(
            f"{path} is no R50-FPN PointRend for instances: unexpected {', '.join(unknown[:SHOWN])}{more}"
        )
    _reorder(made)
    return made


def anchor_shapes() -> Iterator[Tensor]:
    """[3, 4] per level: boxes around 0, not rounded."""
    for size in ANCHOR_SIZES:
        widths = torch.tensor([(size * size / ratio) ** 0.5 for ratio in ASPECT_RATIOS])
        heights = torch.tensor(ASPECT_RATIOS) * widths
        yield torch.stack((-widths, -heights, widths, heights), 1) / 2


def _renamed(key: str) -> str | None:
    for pattern, replacement in RENAMED:
        if match := re.fullmatch(pattern, key):
            new = match.expand(replacement)
            if "{}" in new:
                new = new.replace("{}", str(int(match[1]) - 1))  # res2 is layer1
            return new.replace("[]", str(int(match[1]) - 2)) if "[]" in new else new  # fpn_output2 is the finest
    return None


def _reorder(made: dict[str, Tensor]) -> None:
    """BGR -> RGB; the background from the last place to the first; no box for the background -> zeros for it."""
    stem = "backbone.body.conv1.weight"
    if stem in made and made[stem].ndim == 4:
        made[stem] = made[stem].flip(1)
    for kind in ("weight", "bias"):
        scores, boxes = f"roi_heads.box_predictor.cls_score.{kind}", f"roi_heads.box_predictor.bbox_pred.{kind}"
        if scores in made:
            made[scores] = made[scores].roll(1, 0)
        if boxes in made:
            made[boxes] = torch.cat((torch.zeros_like(made[boxes][:4]), made[boxes]))


def _check_fixed(match: re.Match, tensor: Tensor, path: Path) -> None:
    if match[2]:
        expected = list(anchor_shapes())[int(match[2])] if int(match[2]) < len(ANCHOR_SIZES) else torch.zeros(0)
    else:
        expected = torch.tensor(PIXEL_MEAN[::-1] if match[1] == "mean" else (1.0, 1.0, 1.0))
    found = tensor.float().reshape(-1)
    if found.numel() != expected.numel() or (found - expected.reshape(-1)).abs().max() > 0.01:
        raise DetectorError(f"{path}: its {match[0]} is not that of the zoo's R50-FPN: it was trained otherwise")
