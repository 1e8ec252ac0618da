"""Small pictures of a video's frames with its masks drawn in, as WebP."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from cluster.frames.decoder import Decoder
from cluster.frames.video import VideoError
from cluster.inspect.video_rows import video_masks
from cluster.stores.source import fetch_source, stat_source
from cluster.stores.storage import Storage
from jobs.views.overlay import draw_masks
from jobs.views.resize import resized_mask
from schemas.urls import is_local
from stcn_core.masks import decode_counts

HEIGHT, WIDTH = 160, 288  # a thumbnail fits into these
QUALITIES = (70, 55, 42, 30, 20, 10)
GREY = 72
READ_THROUGH = 1500  # frames up to which decoding all is faster than seeking each
MASKS_ONLY = {
    "asked": "frames were not asked for",
    "large": "the source is remote and large (--most-mib)",
    "gone": "the source is not reachable from here",
}


@dataclass(frozen=True)
class Strip:
    """WebP bytes by frame; masks_only: why the masks stand on grey, None where the frames are shown."""

    pictures: dict[int, bytes]
    masks_only: str | None


class Thumbnails:
    """Makes strips; a context, because videos are decoded in a child process that may crash or hang and is replaced.

    most_bytes: a remote source larger than this is not fetched. frames False: masks on grey only.
    """

    def __init__(self, storage: Storage, *, frames: bool, most_bytes: int, options: Mapping[str, Any] | None = None):
        self._storage, self._frames, self._most_bytes, self._options = storage, frames, most_bytes, dict(options or {})
        self._decoder = Decoder(stall_seconds=60)

    def __enter__(self) -> "Thumbnails":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def strip(self, video: Mapping[str, Any], frames: Sequence[int], budget: int) -> Strip:
        """Pictures of these frames, together about `budget` bytes. Raises Unreadable, OSError for the masks."""
        size = thumbnail_size(video["height"], video["width"])
        masks: dict[int, dict[int, np.ndarray]] = {}
        for row in video_masks(self._storage, video, frames):
            mask = decode_counts(row["height"], row["width"], row["rle_counts"])
            masks.setdefault(row["frame_index"], {})[row["object_id"]] = resized_mask(mask, size)
        found, why = self._pictures(video, frames, size)
        share = budget // max(1, len(frames))
        grey = np.full((*size, 3), GREY, np.uint8)
        drawn = {
            frame: webp(draw_masks(found.get(frame, grey), masks.get(frame, {}), labels=False), share)
            for frame in frames
        }
        return Strip(drawn, why)

    def _pictures(
        self, video: Mapping[str, Any], frames: Sequence[int], size: tuple[int, int]
    ) -> tuple[dict[int, np.ndarray], str | None]:
        if not self._frames:
            return {}, MASKS_ONLY["asked"]
        try:
            source = stat_source(video["video"], self._options)
            if not source.exists:
                return {}, MASKS_ONLY["gone"]
            if not is_local(video["video"]) and (source.size or 0) > self._most_bytes:
                return {}, MASKS_ONLY["large"]
            with TemporaryDirectory(prefix="stcn-report-") as scratch:
                path = fetch_source(video["video"], Path(scratch), self._options)
                return self._decoded(path, video, frames, size)
        except (OSError, ValueError):
            return {}, MASKS_ONLY["gone"]
        except (VideoError, RuntimeError) as error:
            return {}, f"the source does not decode here ({type(error).__name__})"

    def _decoded(
        self, path: Path, video: Mapping[str, Any], frames: Sequence[int], size: tuple[int, int]
    ) -> tuple[dict[int, np.ndarray], str | None]:
        info = self._decoder.probe(path)
        if (info.height, info.width) != (video["height"], video["width"]):
            return {}, f"the source is now {info.width}x{info.height}: another video than the one that was annotated"
        found: dict[int, np.ndarray] = {}
        times = self._decoder.frame_times(path)
        for start, end in spans(frames, apart=info.kind == "images"):
            for frame, picture in self._decoder.frames(path, info, size, start, end, 1, times=times):
                if frame in frames:
                    found[frame] = np.array(picture)
        return found, None


def spans(frames: Iterable[int], apart: bool) -> Iterator[tuple[int, int]]:
    """(start, end) of the stretches to be decoded: one through all early frames, one for each later one; each alone
    where that costs nothing (images)."""
    ordered = sorted(set(frames))
    early = [] if apart else [frame for frame in ordered if frame < READ_THROUGH]
    if early:
        yield early[0], early[-1] + 1
    yield from ((frame, frame + 1) for frame in ordered if frame not in early)


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """(h, w) that fits into HEIGHT x WIDTH, not enlarged."""
    factor = min(1.0, HEIGHT / height, WIDTH / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def webp(picture: np.ndarray, budget: int) -> bytes:
    """The best of QUALITIES that is at most `budget` bytes, otherwise the worst of them."""
    image = Image.fromarray(picture)
    for quality in QUALITIES:
        sink = io.BytesIO()
        image.save(sink, "WEBP", quality=quality, method=4)
        if sink.tell() <= budget:
            break
    return sink.getvalue()


def data_uri(data: bytes) -> str:
    """For an <img>."""
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
