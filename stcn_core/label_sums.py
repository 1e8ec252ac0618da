"""Sums over the pixels of each label that are the same in any order, and wait for nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

SUM_STEPS = 1 << 24  # numbers in 0..1 are rounded to so many steps: whole numbers, whose sums are exact in float64
ONE_HOT_BYTES = 32 << 20  # that live at a time on a device


def label_sums(labels: Tensor, values: Sequence[Tensor], count: int) -> list[Tensor]:
    """labels int64 [H, W], all below `count`; each of the values in 0..1 [H, W] -> its sum per label, float64 [count].

    On a device as a product with one-hot labels: torch.bincount makes the host wait there for what it has to allocate.
    """
    flat, steps = labels.flatten(), [in_steps(each).flatten() for each in values]
    if flat.device.type == "cpu":
        return [torch.bincount(flat, weights=each, minlength=count) / SUM_STEPS for each in steps]
    columns = torch.stack(steps, 1)  # [P, n]
    some = max(1, ONE_HOT_BYTES // (columns.itemsize * len(flat)))
    each_label = torch.arange(count, device=labels.device)
    sums = [(flat == part[:, None]).double() @ columns for part in each_label.split(some)]  # [some, n]
    return list(torch.cat(sums).t() / SUM_STEPS)


def label_areas(labels: Tensor, count: int) -> Tensor:
    """Pixels per label, float64 [count]; labels as `label_sums` has them."""
    if labels.device.type == "cpu":
        return torch.bincount(labels.flatten(), minlength=count).double()
    return label_sums(labels, (torch.ones_like(labels, dtype=torch.float32),), count)[0]


def label_overlaps(labels: Tensor, other: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pixels per label in both of two label maps of one shape, and in either: float64 [count]; as `label_sums`. What
    differs counts as label 0 in both: the figures of label 0 mean nothing."""
    both = label_areas(labels.where(labels == other, 0), count)
    return both, label_areas(labels, count) + label_areas(other, count) - both


def cell_areas(labels: Tensor, count: int, side: int) -> Tensor:
    """labels int64 [H, W], multiples of `side` -> how many pixels of each label but the first lie in each cell of
    side x side pixels: float64 [count - 1, H / side * W / side]."""
    rows, columns = labels.shape[0] // side, labels.shape[1] // side
    if labels.device.type == "cpu":
        y, x = torch.arange(labels.shape[0]) // side, torch.arange(labels.shape[1]) // side
        cells = labels * (rows * columns) + (y[:, None] * columns + x)
        return torch.bincount(cells.flatten(), minlength=count * rows * columns).view(count, -1)[1:].double()
    each = torch.arange(1, count, device=labels.device)[:, None, None]
    shown = (labels == each).view(count - 1, rows, side, columns, side)
    return shown.sum((2, 4)).flatten(1).double()


def small_labels(labels: Tensor, count: int) -> Tensor:
    """The same labels in one byte each, where that holds them: cheaper to compare and to copy."""
    return labels.to(torch.uint8 if count <= 256 else torch.int32)


def in_steps(values: Tensor) -> Tensor:
    """Numbers in 0..1 as whole numbers of steps, float64."""
    return (values.double() * SUM_STEPS).round()
