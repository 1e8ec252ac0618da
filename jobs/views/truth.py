"""True masks for drawing, found and read as `jobs.evaluate` does."""

from collections.abc import Sequence

import numpy as np

from cluster.stores.remote import connect, full_url
from cluster.truth import place_truth, read_labels, truth_files
from schemas.urls import public_url


class TruthFolder:
    """True masks of one video, in folder `url` itself or where `jobs.evaluate` looks for `video_id` in it.

    `frames` is the number of frames of the video, None where it is not known; `images` are the names of a folder's
    images in order, None of a video file: see `place_truth`. doubt: as there. Raises ValueError when there are none or
    they do not fit, OSError when the folder cannot be reached.
    """

    def __init__(self, url: str, video_id: str, frames: int | None, images: Sequence[str] | None = None):
        self._fs, root = connect(url)
        parent, _, name = root.rstrip("/").rpartition("/")
        names = truth_files(self._fs, root, video_id) or truth_files(self._fs, parent or "/", name)
        if not names:
            raise ValueError(f"{public_url(url)}: no true masks (PNGs) here or in {video_id}/")
        video = {"video_id": video_id, "frames_decoded": frames, "frames_declared": frames}
        placed = place_truth(names, video, None, public_url(full_url(self._fs, names[0])), images)
        self._paths, self.doubt = dict(placed.files), placed.doubt

    def __len__(self) -> int:
        return len(self._paths)

    def masks(self, frame_index: int, size: tuple[int, int]) -> dict[int, np.ndarray]:
        """{object id: bool [H, W]} of a frame of `size`, empty where there is no PNG. Void counts as background.

        Raises ValueError for a PNG that is no mask or of another size.
        """
        if frame_index not in self._paths:
            return {}
        labels = read_labels(self._fs, self._paths[frame_index], size)
        return {int(value): labels == value for value in np.unique(labels) if value}
