"""Masks at the size of a picture."""

import numpy as np
from PIL import Image


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool or uint8 [H, W] -> bool of `size` = (h, w): where at least half of a pixel is covered."""
    if mask.shape == tuple(size):
        return mask.astype(bool)
    image = Image.fromarray((mask != 0).astype(np.uint8) * 255)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX)) >= 128
