"""How much a mask is to be trusted, from what its frame's probabilities and its match with the memory say.

Computed at the working size on the device, a few numbers per object; masks are not touched. All sums over pixels are
sums of whole numbers, whose order cannot change a score.
"""

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from stcn_core.frames import Padding
from stcn_core.host_copy import HostCopy
from stcn_core.label_sums import SUM_STEPS, cell_areas, in_steps, label_areas, label_overlaps, label_sums, small_labels
from stcn_core.masks import MaskScores
from stcn_core.match import MatchMaps

# The band at an object's edge, as a share of the padded frame's shorter side: 3 pixels at 240, 6 at 480.
EDGE_SHARE = 80
STRIDE = 16
COUNT = len(fields(MaskScores))


class FrameScores:
    """The scores of a group's frames, on their way to the host."""

    def __init__(self, numbers: Tensor, finite: Tensor) -> None:
        """numbers [B, K, COUNT] float32, in the order of MaskScores, NaN: not known. finite: a bool."""
        self._copy = HostCopy(numbers, finite)

    def __getitem__(self, index: int) -> list[MaskScores]:
        """One frame's objects. Raises FloatingPointError where the probabilities are no numbers: their labels would be
        an empty frame like any."""
        numbers, finite = self._copy.arrays()
        if not finite:
            raise FloatingPointError(
                "the network's probabilities are no numbers (NaN): some weights overflow in --precision fp16, use bf16 "
                "or fp32; in fp32 the checkpoint is damaged"
            )
        return [MaskScores(*(None if np.isnan(value) else float(value) for value in row)) for row in numbers[index]]


@torch.inference_mode()
def score_frames(
    probabilities: Tensor, padding: Padding, match: MatchMaps | None = None, second: Tensor | None = None
) -> FrameScores:
    """Scores of K objects on each of B frames, from aggregated probabilities [B, 1 + K, H, W], padded.

    match: maps [B, K, T] of the memory read that they come from; second: the probabilities that another part of the
    memory gives. A score is None where it is not known, and where an object has no pixel at the working size.
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
    return FrameScores(torch.stack(frames).float(), probabilities.sum().isfinite())


def _frame(p: Tensor, padding: Padding, match: tuple[Tensor, Tensor] | None, second: Tensor | None) -> Tensor:
    """[1 + K, H, W] -> [K, COUNT] float64, in the order of MaskScores; NaN: not known."""
    count, height, width = p.shape
    labels, best = _labels(p, padding)
    runner_up = p.amin(0) if count == 2 else p.scatter(0, labels[None], -1.0).amax(0)
    edge = near_edge(small_labels(labels, count), padding, max(1, min(height, width) // EDGE_SHARE))
    margin = best - runner_up
    sums = label_sums(labels, (margin, margin * edge, edge, best), count)
    sure, sure_near, near, inside = (each[1:] for each in sums)
    area = label_areas(labels, count)[1:]
    everywhere = in_steps(padding.remove(p[1:])).sum((1, 2)) / SUM_STEPS
    unknown = torch.full_like(area, float("nan"))
    columns = [sure / area, sure_near / near, inside / (everywhere + area - inside)]
    if match is None:
        columns += [unknown, unknown]
    else:
        cells = cell_areas(labels, count, STRIDE)  # [K, T]
        columns += [(cells * part.double()).nansum(1) / (cells * ~part.isnan()).sum(1) for part in match]
    columns.append(unknown if second is None else _overlap(labels, _labels(second, padding)[0], count))
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


def _overlap(labels: Tensor, other: Tensor, count: int) -> Tensor:
    """Intersection over union per object of two label maps: [K] float64."""
    both, either = label_overlaps(labels, other, count)
    return (both / either)[1:]
