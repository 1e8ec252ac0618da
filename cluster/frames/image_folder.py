"""A folder of numbered images as a video (DAVIS, YouTube-VOS)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from cluster.frames.orientation import Orientation, orientation_from_exif
from cluster.frames.video_error import VideoError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
EXIF_ORIENTATION = 274


@dataclass(frozen=True)
class ImageFrame:
    """One decoded image: `frame` uint8 [H, W, 3] RGB, upright."""

    frame: np.ndarray
    orientation: Orientation
    mode: str


def list_images(folder: Path) -> list[str]:
    """Names of the images in `folder` in natural order (2 before 10); hidden files and subfolders do not count.

    Raises VideoError: missing, zero-frames.
    """
    try:
        names = [
            entry.name
            for entry in folder.iterdir()
            if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        ]
    except OSError as error:
        raise VideoError(folder, "missing", f"cannot be read ({error.strerror or error})") from None
    if not names:
        raise VideoError(folder, "zero-frames", f"is a folder without images ({', '.join(SUFFIXES)})")
    return sorted(names, key=natural_key)


def natural_key(name: str) -> tuple:
    """Sort key under which runs of digits compare as numbers, and equal numbers ("1", "01") by their text."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def image_size(path: Path | str, file: BinaryIO | None = None) -> tuple[int, int, Orientation, str]:
    """(height, width, orientation, mode) of the image, upright, from its header; read from `file` where it is given.
    Raises VideoError."""
    with _opened(path, file) as image:
        orientation = _orientation(image)
        return (*orientation.stored_size(image.height, image.width), orientation, image.mode)


def load_image(path: Path, size: tuple[int, int] | None = None, expected: tuple[int, int] | None = None) -> ImageFrame:
    """The image as uint8 [h, w, 3] RGB, upright, resized to `size` = (h, w) (bicubic with antialiasing, as framepump
    does for video); alpha is dropped, 16-bit grey is scaled to 8. Raises VideoError when it does not decode or its
    upright size is not `expected`.
    """
    with _opened(path) as image:
        orientation, mode = _orientation(image), image.mode
        height, width = orientation.stored_size(image.height, image.width)
        if expected is not None and (height, width) != tuple(expected):
            raise VideoError(
                path, "decode", f"is {width}x{height}, but the folder's first image is {expected[1]}x{expected[0]}"
            )
        try:
            rgb = _to_rgb(image)
            if size is not None:
                stored = orientation.stored_size(*size)
                if rgb.size != (stored[1], stored[0]):
                    rgb = rgb.resize((stored[1], stored[0]), Image.Resampling.BICUBIC)
            frame = orientation.upright(np.asarray(rgb))
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            raise VideoError(path, "decode", f"does not decode ({error})") from None
    return ImageFrame(np.array(frame) if not frame.flags.writeable else frame, orientation, mode)


def _opened(path: Path | str, file: BinaryIO | None = None) -> Image.Image:
    try:
        return Image.open(path if file is None else file)
    except FileNotFoundError:
        raise VideoError(path, "missing", "does not exist") from None
    except Exception as error:  # UnidentifiedImageError, DecompressionBombError, OSError, struct.error, ...
        reason = "is not an image" if isinstance(error, Image.UnidentifiedImageError) else f"does not open ({error})"
        raise VideoError(path, "decode", reason) from None


def _orientation(image: Image.Image) -> Orientation:
    try:
        return orientation_from_exif(image.getexif().get(EXIF_ORIENTATION))
    except Exception:  # damaged EXIF must not cost the picture
        return Orientation()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow's own conversion clips at 255 instead of scaling.
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(wide, 0, 65535) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
