"""How much a mask is to be trusted, from what its frame's probabilities and its match with the memory say.

Computed at the working size on the device, a few numbers per object; masks are not touched. All sums over pixels are
sums of whole numbers, so that a device's atomic additions cannot change a score.
"""

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from stcn_core.frames import Padding
from stcn_core.labels import SCORE_STEPS
from stcn_core.masks import MaskScores
from stcn_core.match import MatchMaps

# The band at an object's edge, as a share of the padded frame's shorter side: 3 pixels at 240, 6 at 480.
EDGE_SHARE = 80
STRIDE = 16
COUNT = len(fields(MaskScores))


@torch.inference_mode()
def score_frames(
    probabilities: Tensor, padding: Padding, match: MatchMaps | None = None, second: Tensor | None = None
) -> list[list[MaskScores]]:
    """Scores of K objects on each of B frames, from aggregated probabilities [B, 1 + K, H, W], padded.

    match: maps [B, K, T] of the memory read that they come from; second: the probabilities that another part of the
    memory gives. A score is None where it is not known, and where an object has no pixel at the working size.
    Raises FloatingPointError where the probabilities are no numbers: their labels would be an empty frame like any.
    """
    frames = [
        _frame(
            each,
            padding,
            None if match is None else (match.entropy[b], match.distance[b]),
            None if second is None else second[b],
        )
        for b, each in enumerate(probabilities)
    ]
    numbers = torch.stack(frames).float().cpu().numpy()  # one transfer
    if not probabilities.sum().isfinite():
        raise FloatingPointError(
            "the network's probabilities are no numbers (NaN): some weights overflow in --precision fp16, use bf16 or "
            "fp32; in fp32 the checkpoint is damaged"
        )
    return [[_scores(row) for row in frame] for frame in numbers]


def _scores(numbers: np.ndarray) -> MaskScores:
    return MaskScores(*(None if np.isnan(value) else float(value) for value in numbers))


def _frame(p: Tensor, padding: Padding, match: tuple[Tensor, Tensor] | None, second: Tensor | None) -> Tensor:
    """[1 + K, H, W] -> [K, COUNT] float64, in the order of MaskScores; NaN: not known."""
    count, height, width = p.shape
    labels, best = _labels(p, padding)
    runner_up = p.amin(0) if count == 2 else p.scatter(0, labels[None], -1.0).amax(0)
    flat = labels.flatten()

    def total(values: Tensor) -> Tensor:
        steps = (values.flatten().double() * SCORE_STEPS).round()
        return torch.bincount(flat, weights=steps, minlength=count)[1:] / SCORE_STEPS

    area = torch.bincount(flat, minlength=count)[1:].double()
    margin, edge = best - runner_up, near_edge(labels, padding, max(1, min(height, width) // EDGE_SHARE))
    inside = total(best)
    everywhere = (padding.remove(p[1:]).double() * SCORE_STEPS).round().sum((1, 2)) / SCORE_STEPS
    unknown = torch.full_like(area, float("nan"))
    columns = [total(margin) / area, total(margin * edge) / total(edge), inside / (everywhere + area - inside)]
    if match is None:
        columns += [unknown, unknown]
    else:
        cells = _cells(flat, count, height, width)  # [K, T]
        columns += [(cells * part.double()).nansum(1) / (cells * ~part.isnan()).sum(1) for part in match]
    columns.append(unknown if second is None else _overlap(flat, _labels(second, padding)[0].flatten(), count))
    return torch.where(area[:, None] > 0, torch.stack(columns, 1), float("nan"))


def _labels(p: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
    """Labels and largest probabilities [H, W]; the padding is background."""
    best, labels = p.max(0)
    frame = torch.zeros_like(labels, dtype=torch.bool)
    padding.remove(frame).fill_(True)
    return labels.where(frame, 0), best


def near_edge(labels: Tensor, padding: Padding, radius: int) -> Tensor:
    """labels [H, W] -> bool [H, W]: another label lies within `radius` pixels up, down, left or right in the frame."""
    inner = padding.remove(labels)
    near = torch.zeros_like(inner, dtype=torch.bool)
    for axis in (0, 1):
        for step in range(1, min(radius, inner.shape[axis] - 1) + 1):
            length = inner.shape[axis] - step
            differs = inner.narrow(axis, 0, length) != inner.narrow(axis, step, length)
            near.narrow(axis, 0, length).logical_or_(differs)
            near.narrow(axis, step, length).logical_or_(differs)
    return padding.add(near)


def _cells(flat: Tensor, count: int, height: int, width: int) -> Tensor:
    """How many pixels of each object lie in each cell of the grid at stride 16: [K, T] float64."""
    rows, columns = height // STRIDE, width // STRIDE
    y = torch.arange(height, device=flat.device) // STRIDE
    x = torch.arange(width, device=flat.device) // STRIDE
    cell = (y[:, None] * columns + x).flatten()
    pixels = torch.bincount(flat * (rows * columns) + cell, minlength=count * rows * columns)
    return pixels.view(count, -1)[1:].double()


def _overlap(flat: Tensor, other: Tensor, count: int) -> Tensor:
    """Intersection over union per object of two flat label maps: [K] float64."""
    both = torch.bincount(flat[flat == other], minlength=count)[1:].double()
    areas = torch.bincount(flat, minlength=count)[1:] + torch.bincount(other, minlength=count)[1:]
    return both / (areas - both)
