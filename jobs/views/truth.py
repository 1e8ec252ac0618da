"""True masks from a folder of PNGs, one per frame (DAVIS, YouTube-VOS)."""

from pathlib import Path

import numpy as np
from PIL import Image

VOID = 255


class TruthFolder:
    """Masks in `folder`, named like the images of a video folder or by frame number (00012.png is frame 12).

    Raises ValueError when the folder has no such PNG.
    """

    def __init__(self, folder: Path, image_names: list[str] | None = None):
        self._folder = Path(folder)
        found = {path.stem: path for path in self._folder.glob("*.png")} if self._folder.is_dir() else {}
        if image_names is not None:
            stems = {index: Path(name).stem for index, name in enumerate(image_names)}
            self._paths = {index: found[stem] for index, stem in stems.items() if stem in found}
        else:
            self._paths = {int(stem): path for stem, path in found.items() if stem.isascii() and stem.isdigit()}
        if not self._paths:
            raise ValueError(f"{folder}: no true masks (PNGs named by frame number or like the images of the video)")

    def __len__(self) -> int:
        return len(self._paths)

    def masks(self, frame_index: int, size: tuple[int, int]) -> dict[int, np.ndarray]:
        """{object id: bool [H, W]} of a frame, empty where there is no PNG. Palette index or grey value is the object
        id; a mask of only 0 and 255 is one object, number 1; else 255 is void. Raises ValueError for another size.
        """
        path = self._paths.get(frame_index)
        if path is None:
            return {}
        with Image.open(path) as image:
            labels = np.asarray(image if image.mode in ("P", "L", "1") else image.convert("L"))
        if labels.shape != tuple(size):
            raise ValueError(f"{path}: the mask is {labels.shape[1]}x{labels.shape[0]}, the video {size[1]}x{size[0]}")
        if labels.dtype == bool:
            return {1: labels} if labels.any() else {}
        ids = [int(value) for value in np.unique(labels) if value]
        if ids == [VOID]:
            return {1: labels == VOID}
        return {value: labels == value for value in ids if value != VOID}
