"""How much a picture changed: the image part of EamStcn's rule (see admission.py). Needs no torch."""

import numpy as np

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, as every network here is fed
STD = (0.229, 0.224, 0.225)
COLOUR_CHANGED = 4.0  # of normalised values, summed over three channels: about 0.3 of the full range each


def image_change(picture: np.ndarray, before: np.ndarray) -> float:
    """I_t of two pictures uint8 [h, w, 3]: the share of pixels, in percent, whose normalised colours changed by more
    than COLOUR_CHANGED. Padding to multiples of 16, which never changes, counts as area."""
    scale = 1 / (255 * np.asarray(STD, np.float32))
    difference = np.abs(picture.astype(np.int16) - before).astype(np.float32) @ scale  # [h, w]
    height, width = (-(-side // 16) * 16 for side in picture.shape[:2])
    return 100 * float(np.count_nonzero(difference > COLOUR_CHANGED)) / (height * width)
