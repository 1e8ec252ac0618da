"""Three-frame training samples cut from rendered clips: one memory frame with its true mask, two to segment."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.training.clips import Clip

COARSE_SHARE = 0.1  # first masks that are only a filled box
LOG_SHARE = (math.log(0.2), math.log(0.95))  # an object's length in the cut picture, where the clip allows it
LEAST_AREA = 0.003  # of the cut picture: a smaller first mask teaches nothing
TRIES = 6


@dataclass(frozen=True)
class Gaps:
    """Shares of samples by the distance of their frames: `still` cuts the same instant three times, `near` takes
    instants that follow each other (forwards or backwards), the others come from anywhere, in any order."""

    still: float = 0.1
    near: float = 0.3

    def eased(self, ease: float) -> "Gaps":
        """ease 1 is the start of training, mostly still and near; 0 is this mixture."""
        return Gaps(self.still + (0.5 - self.still) * ease, self.near + (0.4 - self.near) * ease)


@dataclass(frozen=True)
class Batch:
    """frames float32 RGB 0..255 [B, 3, 3, S, S] (sample, frame, channel), masks float32 0/1 [B, 3, K, S, S];
    prompts [B, K, S, S] is the first frame's mask as given (true or a filled box); present bool [B, K]."""

    frames: Tensor
    masks: Tensor
    prompts: Tensor
    present: Tensor

    def split(self, parts: int) -> list["Batch"]:
        """Up to `parts` batches of nearly equal size, none empty."""
        planes = (self.frames, self.masks, self.prompts, self.present)
        pieces = zip(*(torch.tensor_split(plane, min(parts, len(self.frames))) for plane in planes), strict=True)
        return [Batch(*piece) for piece in pieces]


def make_batch(rng: np.random.Generator, clips: list[Clip], count: int, size: int, objects: int, gaps: Gaps) -> Batch:
    """`count` samples of `size` pixels with up to `objects` objects each, drawn from the clips."""
    samples = [_sample(rng, clips, size, objects, gaps) for _ in range(count)]
    frames = torch.stack([frames for frames, _, _ in samples])
    masks = torch.stack([masks for _, masks, _ in samples])
    prompts = torch.stack([prompt for _, _, prompt in samples])
    return Batch(frames, masks, prompts, masks[:, 0].flatten(2).any(2))


def _sample(
    rng: np.random.Generator, clips: list[Clip], size: int, objects: int, gaps: Gaps
) -> tuple[Tensor, Tensor, Tensor]:
    """Retries until every object is visible in the memory frame; after that takes the best that was found."""
    best: tuple[float, Tensor, Tensor] | None = None
    for _ in range(TRIES):
        clip = clips[int(rng.integers(len(clips)))]
        cut = _cut(rng, clip, size, objects, gaps)
        if cut is None:
            continue
        areas = cut[1][0].mean((1, 2))  # [K]
        seen = float((areas > LEAST_AREA).sum()) + min(float(areas.max()), 0.5)
        if best is None or seen > best[0]:
            best = (seen, *cut)
        if (areas > LEAST_AREA).all():
            break
    if best is None:
        return _sample(rng, clips, size, objects, gaps)
    _, frames, masks = best
    masks = masks * (masks[0].mean((1, 2)) > LEAST_AREA)[None, :, None, None]  # unprompted objects are background
    prompt = masks[0]
    if rng.random() < COARSE_SHARE:
        prompt = filled_boxes(prompt)
    return frames, masks, prompt


def filled_boxes(masks: Tensor) -> Tensor:
    """Each object's bounding box, filled; later objects lie on top. [K, H, W] -> [K, H, W]."""
    out = torch.zeros_like(masks)
    for index, mask in enumerate(masks):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        if len(rows):
            box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
            out[:, *box] = 0
            out[index, *box] = 1
    return out


def _cut(rng: np.random.Generator, clip: Clip, size: int, objects: int, gaps: Gaps) -> tuple[Tensor, Tensor] | None:
    """One crop of three frames of a clip: frames [3, 3, S, S] 0..255, masks [3, K, S, S]; None: nothing there."""
    total = len(clip.frames)
    kind = rng.random()
    if kind < gaps.still:
        order = [int(rng.integers(total))] * 3
    elif kind < gaps.still + gaps.near:
        start = int(rng.integers(total - 2))
        order = [start, start + 1, start + 2]
        order = order[::-1] if rng.random() < 0.5 else order
    else:
        order = rng.permutation(total)[:3].tolist()
    visible = [int(label) for label in np.unique(clip.labels[order[0]]) if label]
    if not visible:
        return None
    chosen = [visible[i] for i in rng.permutation(len(visible))[:objects]]
    frames = torch.from_numpy(clip.frames[order]).permute(0, 3, 1, 2).float()  # [3, 3, H, W]
    labels = torch.from_numpy(clip.labels[order])
    masks = torch.stack([(labels == label).float() for label in chosen], 1)  # [3, K, H, W]
    if len(chosen) < objects:
        masks = F.pad(masks, (0, 0, 0, 0, 0, objects - len(chosen)))
    planes = torch.cat((frames, masks), 1)
    rows, columns = (labels[0] == chosen[0]).nonzero(as_tuple=True)
    extent = int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1
    shorter = min(planes.shape[-2:])
    side = extent / math.exp(rng.uniform(*LOG_SHARE))
    side = min(max(side, 0.4 * shorter), 1.2 * shorter)
    grids = torch.stack(_crops(rng, labels[0] == chosen[0], side, size, order[0] == order[1]))
    if side / size > 1.6:
        planes = F.avg_pool2d(planes, 2)
    planes = F.grid_sample(planes, grids, padding_mode="reflection", align_corners=False)
    return _recoloured(rng, planes[:, :3]), (planes[:, 3:] > 0.5).float()


def _crops(rng: np.random.Generator, mask: Tensor, side: float, size: int, still: bool) -> list[Tensor]:
    """Sampling grids [S, S, 2] of the three frames: a common crop around the first object, moved a little in each."""
    height, width = mask.shape
    rows, columns = mask.nonzero(as_tuple=True)
    pick = int(rng.integers(len(rows)))
    slack = side * 0.35
    low, high = min(side / 2, height / 2), max(height - side / 2, height / 2)
    y = min(max(float(rows[pick]) + rng.uniform(-slack, slack), low), high)
    low, high = min(side / 2, width / 2), max(width - side / 2, width / 2)
    x = min(max(float(columns[pick]) + rng.uniform(-slack, slack), low), high)
    mirror, stretch = rng.random() < 0.5, math.exp(rng.normal(0, 0.12))
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    strong = still or rng.random() < 0.3
    grids = []
    for _ in range(3):
        wide = math.exp(rng.normal(0, 0.2 if strong else 0.05)) * side / 2
        turn = rng.normal(0, 0.2 if strong else 0.04)
        dy, dx = rng.normal(0, 0.12 if strong else 0.03, 2) * side
        flip = mirror != (rng.random() < 0.05)
        c, s = math.cos(turn), math.sin(turn)
        u = axis[None, :] * (-1 if flip else 1) * stretch
        v = axis[:, None] / stretch
        grids.append(
            torch.stack(
                (
                    (x + dx + wide * (c * u - s * v)) * (2 / width) - 1,
                    (y + dy + wide * (s * u + c * v)) * (2 / height) - 1,
                ),
                -1,
            )
        )
    return grids


def _recoloured(rng: np.random.Generator, frames: Tensor) -> Tensor:
    """Common colour change of the sample, and a small or (at times) a large one of each frame. [3, 3, S, S]."""
    strength = 0.2 if rng.random() < 0.2 else 0.05
    gain = np.exp(rng.normal(0, 0.1) + rng.normal(0, strength, (3, 1)) + rng.normal(0, strength / 4, (3, 3)))
    lift = rng.normal(0, 40 * strength, (3, 1)) * np.ones((1, 3))
    frames = frames * torch.tensor(gain, dtype=torch.float32)[:, :, None, None]
    frames = frames + torch.tensor(lift, dtype=torch.float32)[:, :, None, None]
    if rng.random() < 0.1:
        frames = frames.mean(1, keepdim=True).expand(3, 3, *frames.shape[2:])
    return frames.clamp(0, 255)
