"""Draws a scene at an instant, and whole clips: frames uint8 [H, W, 3] with label maps uint8 [H, W]."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.training.compression import compressed
from stcn_core.training.figure import Layer
from stcn_core.training.motion import affine
from stcn_core.training.scene import WORLD, Scene, SceneOptions, random_scene

VISIBLE = 0.5  # an object owns a pixel that it covers by more than this


def render_instant(scene: Scene, t: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture at t seconds: RGB uint8 [H, W, 3] and labels uint8 [H, W] (0 is background)."""
    height, width = scene.height, scene.width
    screen = affine(0, height / 2, height / 2, width / 2, height / 2) @ scene.camera.to_screen(t)
    frame, light = _background(scene, t)
    labels = torch.zeros(height, width, dtype=torch.uint8)
    focus = scene.camera.focus(t)
    for figure in scene.figures:
        matrix = screen @ figure.matrix(t, focus)
        layer = figure.draw(t, matrix, height, width)
        if layer is None:
            continue
        if scene.optics.shutter > 0:
            before = t - scene.optics.shutter
            earlier = affine(0, height / 2, height / 2, width / 2, height / 2) @ scene.camera.to_screen(before)
            earlier = earlier @ figure.matrix(before, scene.camera.focus(before))
            layer = _smeared(layer, matrix[:2, 2] - earlier[:2, 2], height, width)
        if figure.shadow > 0:
            _cast_shadow(frame, layer, figure.shadow)
        rows = slice(layer.top, layer.top + layer.alpha.shape[0])
        columns = slice(layer.left, layer.left + layer.alpha.shape[1])
        frame[:, rows, columns] = frame[:, rows, columns] * (1 - layer.alpha) + layer.rgb
        labels[rows, columns][layer.alpha > VISIBLE] = figure.label
    pixels = _expose(scene, frame * light, t)
    return pixels.permute(1, 2, 0).contiguous().numpy(), labels.numpy()


def render_times(scene: Scene, times: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """frames uint8 [T, H, W, 3] and labels uint8 [T, H, W] at the given seconds, in their order."""
    drawn = [render_instant(scene, t) for t in times]
    return np.stack([frame for frame, _ in drawn]), np.stack([labels for _, labels in drawn])


def render_clip(
    seed: int,
    frames: int,
    size: tuple[int, int],
    objects: int = 1,
    fps: float = 15.0,
    absent: tuple[float, float] | None = None,
    calm: bool = True,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Streams a clip: (RGB uint8 [H, W, 3], labels uint8 [H, W]) per frame; memory stays flat.

    size is (height, width). absent = (start, end) in seconds: the second object (the only one, if there is one)
    leaves the picture and comes back. The same arguments always give the same clip.
    """
    options = SceneOptions(objects=objects, size=size, absent=absent, smallest=0.2, largest=0.6, calm=calm)
    scene = random_scene((seed,), options)
    for index in range(frames):
        yield render_instant(scene, index / fps)


def _background(scene: Scene, t: float) -> tuple[Tensor, Tensor]:
    """RGB [3, H, W] and light [H, W] as the camera sees them, smeared when it moves during the exposure."""
    canvas = scene.backgrounds[0 if t < scene.cut else 1]
    height, width = scene.height, scene.width
    moments = [t]
    if scene.optics.shutter > 0:
        now, before = scene.camera.to_screen(t), scene.camera.to_screen(t - scene.optics.shutter)
        moved = float(np.abs(now - before)[:2].max()) * height / 2
        count = int(min(max(moved / 1.5, 1), 4))
        moments = [t - scene.optics.shutter * i / count for i in range(count)]
    total = torch.zeros(4, height, width)
    aspect = width / height
    y = ((torch.arange(height) + 0.5) / (height / 2) - 1)[:, None]
    x = (torch.arange(width) + 0.5) / (height / 2) - aspect
    for moment in moments:
        inverse = np.linalg.inv(scene.camera.to_screen(moment))
        u = (float(inverse[0, 0]) * x + (float(inverse[0, 1]) * y + float(inverse[0, 2]))) / (WORLD * aspect)
        v = (float(inverse[1, 0]) * x + (float(inverse[1, 1]) * y + float(inverse[1, 2]))) / WORLD
        grid = torch.stack((u, v), -1)[None]  # [1, H, W, 2]
        total += F.grid_sample(canvas[None], grid, padding_mode="reflection", align_corners=False)[0]
    total /= len(moments)
    return total[:3], total[3]


def _smeared(layer: Layer, motion: np.ndarray, height: int, width: int) -> Layer:
    """Averages the layer along its motion in pixels during the exposure; the layer grows to hold the trail."""
    length = float(np.hypot(*motion))
    if length < 1.5:
        return layer
    copies = int(min(max(length / 1.5, 2), 7))
    shifts = [
        (round(-motion[1] * (i / (copies - 1) - 0.5)), round(-motion[0] * (i / (copies - 1) - 0.5)))
        for i in range(copies)
    ]
    rows, columns = layer.alpha.shape
    top = max(0, layer.top + min(s[0] for s in shifts))
    left = max(0, layer.left + min(s[1] for s in shifts))
    bottom = min(height, layer.top + rows + max(s[0] for s in shifts))
    right = min(width, layer.left + columns + max(s[1] for s in shifts))
    rgba = torch.zeros(4, bottom - top, right - left)
    source = torch.cat((layer.rgb, layer.alpha[None]))
    for down, across in shifts:
        y, x = layer.top + down - top, layer.left + across - left
        y0, y1, x0, x1 = max(y, 0), min(y + rows, bottom - top), max(x, 0), min(x + columns, right - left)
        if y0 < y1 and x0 < x1:
            rgba[:, y0:y1, x0:x1] += source[:, y0 - y : y1 - y, x0 - x : x1 - x]
    rgba /= copies
    return Layer(top, left, rgba[:3], rgba[3])


def _cast_shadow(frame: Tensor, layer: Layer, strength: float) -> None:
    """Darkens the ground below and beside the figure, softly. In place; frame is [3, H, W]."""
    _, height, width = frame.shape
    rows, columns = layer.alpha.shape
    if rows < 8 or columns < 8:
        return
    small = F.avg_pool2d(layer.alpha[None, None], 4)
    small = F.avg_pool2d(small, 3, 1, 1)
    flat = max(4, rows // 4)  # lies on the ground, so it is a quarter as tall
    soft = F.interpolate(small, (flat, columns), mode="bilinear", align_corners=False)[0, 0]
    top = min(layer.top + rows - flat * 3 // 4, height - 1)
    bottom, left = min(top + flat, height), layer.left
    right = min(left + columns, width)
    frame[:, top:bottom, left:right] *= 1 - strength * soft[: bottom - top, : right - left]


def _expose(scene: Scene, frame: Tensor, t: float) -> Tensor:
    """Lens, sensor and codec: light float [3, H, W] to uint8 [3, H, W]."""
    optics = scene.optics
    gain = torch.tensor([np.exp(optics.gain.at(t) + tint.at(t)) for tint in optics.tint], dtype=torch.float32)
    frame = frame * gain[:, None, None]
    if optics.gamma != 1:
        frame = frame.clamp_(0, 1) ** optics.gamma
    if optics.haze > 0:
        frame = torch.lerp(frame, torch.full_like(frame, 0.75), optics.haze)
    sigma = optics.blur.at(t)
    if sigma > 0.35:
        reach = max(1, round(2 * sigma))
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        taps = (taps / taps.sum())[None, None]
        frame = F.pad(frame[:, None], (reach, reach, reach, reach), mode="replicate")  # [3, 1, H + 2r, W + 2r]
        frame = F.conv2d(F.conv2d(frame, taps[:, :, None]), taps[:, :, :, None])[:, 0]
    if optics.noise > 0:
        generator = torch.Generator().manual_seed(hash((*scene.seed, round(t * 1000))) & 0x7FFFFFFF)
        frame = frame + optics.noise * torch.randn(frame.shape[1:], generator=generator)
    pixels = (frame.clamp_(0, 1) * 255 + 0.5).to(torch.uint8)
    if optics.quality is not None:
        pixels = compressed(pixels, optics.quality)
    return pixels
