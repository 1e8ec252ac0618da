"""Decoding only where an object can be.

Every value in the memory carries one channel more: how far its object covers that cell of 16 x 16 pixels. Read with the
same weights as the values, it tells for each cell of a new frame whether what it resembles was the object: its
presence. The decoder then runs in the box around the cells where the object may be, and far outside of it is nothing.
No state is carried from frame to frame, so that no object can be lost for good and no segment depends on another.

Inside a box the logits are those of the whole frame, up to rounding: every stage computes as much more around the box
as the stages after it reach (80 pixels in all), and no more than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.inference import PreparedNetwork, SharedPart
from stcn_core.network import KeyFeatures

CELL = 16  # pixels
PRESENT = 0.2  # a cell whose presence is higher belongs to the box; with 0.5 real objects were cut, with 0.2 none
MARGIN = 1  # cells around them
WHOLE = 0.7  # a box whose windows cover more of the frame than this is not worth it
ABSENT = -20.0  # the logit outside the box: a probability below what the aggregation clamps to
RES_BLOCK_REACH = 2  # two 3x3 convolutions after one another; the shortcut reaches less far
CONV_REACH = 1


@dataclass(frozen=True)
class Box:
    """Rows [top, bottom) and columns [left, right) of some grid."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, by: int, size: tuple[int, int]) -> "Box":
        """So many rows and columns more on each side, inside a grid of that size."""
        return Box(
            max(0, self.top - by),
            min(size[0], self.bottom + by),
            max(0, self.left - by),
            min(size[1], self.right + by),
        )

    def scaled(self, factor: int) -> "Box":
        """The same place on a grid so many times finer."""
        return Box(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)

    def beneath(self, factor: int, size: tuple[int, int]) -> "Box":
        """What a bilinear upsampling by that factor reads, on the coarser grid of that size."""
        # Pixel p lies at (p + 0.5) / factor - 0.5 of the coarser grid, between two of its pixels.
        first = [(2 * p + 1 - factor) // (2 * factor) for p in (self.top, self.left)]
        last = [(2 * p - 1 - factor) // (2 * factor) + 2 for p in (self.bottom, self.right)]
        return Box(first[0], last[0], first[1], last[1]).grown(0, size)

    def of(self, x: Tensor, whole: "Box | None" = None) -> Tensor:
        """This box of x [..., H, W], which shows the box `whole` of the grid, or all of it."""
        top, left = (0, 0) if whole is None else (whole.top, whole.left)
        return x[..., self.top - top : self.bottom - top, self.left - left : self.right - left]


@dataclass(frozen=True)
class Windows:
    """What each stage of the decoder must be given and must give, for exact logits inside a box.

    box in pixels; logit at stride 4; the inputs and outputs of the ResBlocks at strides 4, 8 and 16 (at 4 the output is
    `logit` and the prediction's reach).
    """

    box: Box
    logit: Box
    fourth: Box
    eighth_out: Box
    eighth: Box
    sixteenth_out: Box
    sixteenth: Box

    @staticmethod
    def around(cells: Box, grid: tuple[int, int]) -> "Windows":
        """cells: the box on the grid [h, w] at stride 16."""
        at16, at8, at4 = grid, (grid[0] * 2, grid[1] * 2), (grid[0] * 4, grid[1] * 4)
        box = cells.scaled(CELL)
        logit = box.beneath(4, at4)
        fourth = logit.grown(CONV_REACH + RES_BLOCK_REACH, at4)
        eighth_out = fourth.beneath(2, at8)
        eighth = eighth_out.grown(RES_BLOCK_REACH, at8)
        sixteenth_out = eighth.beneath(2, at16)
        sixteenth = sixteenth_out.grown(RES_BLOCK_REACH, at16)
        return Windows(box, logit, fourth, eighth_out, eighth, sixteenth_out, sixteenth)

    def touched(self, logit: Tensor, size: tuple[int, int]) -> Tensor:
        """Is the object on the box's border, other than at the frame's? logit [h, w] of the box; a bool on its
        device."""
        edges = (
            (logit[0], self.box.top > 0),
            (logit[-1], self.box.bottom < size[0]),
            (logit[:, 0], self.box.left > 0),
            (logit[:, -1], self.box.right < size[1]),
        )
        inner = [edge.amax() for edge, counts in edges if counts]
        return torch.stack(inner).amax() > 0 if inner else logit.new_zeros((), dtype=torch.bool)


def coverage(masks: Tensor) -> Tensor:
    """Soft masks [K, H, W] -> the largest probability in each cell [K, H / 16, W / 16]."""
    return F.max_pool2d(masks[None], CELL)[0]


def boxes_of(presence: Tensor) -> list[list[Box | None]]:
    """presence [B, K, h, w] -> per frame and object the box of cells where the object may be, None where nowhere."""
    size = tuple(presence.shape[2:])
    likely = ~(presence <= PRESENT)  # NaN too: what is decoded of it is NaN, and found
    rows, columns = likely.any(3).tolist(), likely.any(2).tolist()  # [B][K][h], [B][K][w]
    return [
        [_span_box(row, column, size) for row, column in zip(frame_rows, frame_columns, strict=True)]
        for frame_rows, frame_columns in zip(rows, columns, strict=True)
    ]


@torch.inference_mode()
def decode_regions(
    network: PreparedNetwork, readout: Tensor, features: KeyFeatures, boxes: Sequence[Sequence[Box | None]]
) -> Tensor:
    """readout [B, K, Cv, h, w] -> logits [B, K, H, W] float32, decoded inside the boxes.

    An object on its box's border is decoded again in the whole frame; so is one whose box nearly is the frame.
    """
    batch, objects = readout.shape[:2]
    height, width = features.f4.shape[2:]
    size = (height * 4, width * 4)
    logits = torch.full((batch, objects, *size), ABSENT, device=readout.device)
    whole, flags = [], []
    for b in range(batch):
        windows = {k: Windows.around(box, readout.shape[3:]) for k, box in enumerate(boxes[b]) if box is not None}
        large = [k for k, window in windows.items() if window.fourth.area > WHOLE * height * width]
        whole += [(b, k) for k in large]
        windows = {k: window for k, window in windows.items() if k not in large}
        with network.autocast():
            frame = _FrameRegions(network, features[b : b + 1], list(windows.values()))
        for k, window in windows.items():
            with network.autocast():
                logit = frame.decode(readout[b : b + 1, k], window)
            window.box.of(logits[b, k]).copy_(logit)
            flags.append((b, k, window.touched(logit, size)))
    touched = torch.stack([flag for _, _, flag in flags]).tolist() if flags else []
    whole += [(b, k) for (b, k, _), again in zip(flags, touched, strict=True) if again]
    for b in sorted({b for b, _ in whole}):
        members = [k for frame, k in whole if frame == b]
        logits[b, members] = network.decode(readout[b : b + 1, members], features[b : b + 1])[0]
    return logits


class _FrameRegions:
    """One frame decoded in its objects' boxes."""

    def __init__(self, network: PreparedNetwork, features: KeyFeatures, windows: Sequence[Windows]) -> None:
        self._network, self._features = network, features
        self._sizes = [tuple(x.shape[2:]) for x in (features.thin, features.f8, features.f4)]
        self._whole = None
        if sum(window.fourth.area for window in windows) > features.f4[0, 0].numel():
            # The boxes add up to more than the frame, whose part is the same for all of them.
            self._whole = network.frame_part(features.thin, features.f8, features.f4)

    def decode(self, readout: Tensor, windows: Windows) -> Tensor:
        """readout [1, Cv, h, w] of one object -> logits [H', W'] float32 of its box."""
        decoder, w = self._network.decoder, windows
        compress, skip8, skip4 = self._frame_part(w)
        x = decoder.compress(self._network.laid_out(w.sixteenth.of(readout)), compress, 1)
        x = _upsampled(w.sixteenth_out.of(x, w.sixteenth))
        x = decoder.up_16_8.out_conv(w.eighth.of(x, w.sixteenth_out.scaled(2)) + skip8)
        x = _upsampled(w.eighth_out.of(x, w.eighth))
        x = decoder.up_8_4.out_conv(w.fourth.of(x, w.eighth_out.scaled(2)) + skip4)
        logit = w.logit.of(decoder.pred(F.relu(x)).float(), w.fourth)
        logit = F.interpolate(logit, scale_factor=4, mode="bilinear", align_corners=False)
        return w.box.of(logit, w.logit.scaled(4))[0, 0]

    def _frame_part(self, windows: Windows) -> tuple[SharedPart, Tensor, Tensor]:
        """The frame's part of each stage's input window."""
        places = (windows.sixteenth, windows.eighth, windows.fourth)
        if self._whole is not None:
            (inner, shortcut), skip8, skip4 = self._whole
            parts = [place.of(x) for place, x in zip(places, (shortcut, skip8, skip4), strict=True)]
            return (places[0].of(inner), parts[0]), parts[1], parts[2]
        outer = [place.grown(CONV_REACH, size) for place, size in zip(places, self._sizes, strict=True)]
        maps = (self._features.thin, self._features.f8, self._features.f4)
        cut = [self._network.laid_out(place.of(x)) for place, x in zip(outer, maps, strict=True)]
        (inner, shortcut), skip8, skip4 = self._network.frame_part(*cut)
        around = zip(places, outer, (shortcut, skip8, skip4), strict=True)
        parts = [place.of(x, whole) for place, whole, x in around]
        return (places[0].of(inner, outer[0]), parts[0]), parts[1], parts[2]


def _upsampled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _span_box(rows: Sequence[bool], columns: Sequence[bool], size: tuple[int, int]) -> Box | None:
    """The box around the rows and columns that are true, with its margin."""
    if not any(rows):
        return None
    (top, bottom), (left, right) = (
        (line.index(True), len(line) - list(reversed(line)).index(True)) for line in (list(rows), list(columns))
    )
    return Box(top, bottom, left, right).grown(MARGIN, size)
