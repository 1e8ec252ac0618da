"""stcnbuf's pickle: one file per video, a list of frames, each a list of masks {"size": [h, w], "counts": bytes}.

Source: the package stcnbuf 0.2.2 (segment_video writes it, temporal_intersect, morph and save_mask_video read it).
Objects are told by their position alone, so that one which is not visible has an empty mask. The pickle is read
without running anything in it.

Does not hold: object ids (positions in order of ids remain), which frames the lists are of (give --first-frame and
--stride to the import), labels, scores, frame rate and times, frames of the source, names of images, which masks were
given.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

from schemas.convert.exchange import ExportSettings, ImportSettings, OutFile
from schemas.convert.folder import Folder
from schemas.convert.losses import Losses
from schemas.convert.names import safe_name, video_id_of
from schemas.convert.plain_pickle import PickleRefused, read_pickle, write_pickle_list
from schemas.convert.run_lengths import checked_size, empty_counts, found_counts
from schemas.convert.video import ConvertError, FoundMask, FoundVideo, OutVideo, stem_of

NAME = "stcnbuf"
SUFFIXES = (".pkl", ".pickle")


def places(videos: Sequence[OutVideo]) -> list[str]:
    """The files that the export writes."""
    return [_name(video) for video in videos]


def files(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses) -> Iterator[OutFile]:
    """One file per video."""
    for video in videos:
        yield OutFile(_name(video), partial(_write, video, losses))


def _name(video: OutVideo) -> str:
    return f"{safe_name(video.video_id)}{SUFFIXES[0]}"


def _write(video: OutVideo, losses: Losses, file: BinaryIO) -> None:
    tracks, frames = video.tracks, len(video.frames)
    losses.add("video ids too long for a name", video_id_of(safe_name(video.video_id)) != video.video_id)
    losses.add("object ids", sum(track.object_id != number for number, track in enumerate(tracks, 1)))
    losses.add("labels", sum(track.label is not None for track in tracks))
    losses.add("frame times", frames if video.fps is not None else 0)
    losses.add("frame rates", video.fps is not None)
    losses.add("names of images", frames if video.names is not None else 0)
    losses.add("positions of frames (first frame or stride)", video.frames[:1] != range(1) or video.frames.step > 1)
    write_pickle_list(file, _frames(video, losses))


def _frames(video: OutVideo, losses: Losses) -> Iterator[list[dict[str, Any]]]:
    size = [video.height, video.width]
    empty = empty_counts(*size)
    for _, rows in video.every_frame():
        losses.add("scores", sum(not row.is_prompt for row in rows))
        losses.add("marks of given masks", sum(row.is_prompt for row in rows))
        seen = {row.object_id: row.counts for row in rows}
        yield [{"size": size, "counts": seen.get(track.object_id, empty)} for track in video.tracks]


def found(folder: Folder, settings: ImportSettings) -> Iterator[FoundVideo]:
    """One video per file, named after it; objects get the ids 1, 2, ... Raises ConvertError, also where frames have
    different numbers of masks: stcnbuf's connected_comps drops empty ones, and then nobody can tell whose are left."""
    for path in folder.files(SUFFIXES, settings.files):
        where = folder.url(path)
        frames = _read(folder, path)
        counts = {len(masks) for masks in frames} or {0}
        if len(counts) > 1 and max(counts) > 1:
            raise ConvertError(
                f"{where} has frames with {min(counts)} and with {max(counts)} masks: which object one is of cannot be "
                "told; import it as it was before connected_comps"
            )
        sizes = {tuple(_size(mask, where)) for masks in frames for mask in masks if mask is not None}
        if len(sizes) != 1:
            raise ConvertError(f"{where} has masks of {len(sizes)} sizes: a video has one")
        (size,) = sizes
        stride = settings.stride or 1
        first = settings.first_frame or 0
        indices = range(first, first + len(frames) * stride, stride)
        objects = range(1, max(counts) + 1)
        video_id = video_id_of(stem_of(path or folder.name))
        masks = partial(_masks, folder, path, indices, size)
        yield FoundVideo(video_id, *size, indices, None, dict.fromkeys(objects), where, masks)


def _read(folder: Folder, path: str) -> list[list[Any]]:
    where = folder.url(path)
    try:
        frames = read_pickle(folder.read(path))
    except PickleRefused as error:
        raise ConvertError(f"{where} is not read: {error}") from error
    if not isinstance(frames, list) or not all(isinstance(masks, list) for masks in frames):
        raise ConvertError(f"{where} is no list of frames, each a list of masks: stcnbuf did not write it")
    return frames


def _size(mask: Any, where: str) -> tuple[int, int]:
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list | tuple) or len(size) != 2 or "counts" not in mask:
        raise ConvertError(f"{where} holds something else than masks with size and counts: stcnbuf did not write it")
    return checked_size(*size, where)


def _masks(folder: Folder, path: str, frames: Sequence[int], size: tuple[int, int]) -> Iterator[FoundMask]:
    # Read again: the masks of all videos together would not fit in memory.
    for frame, masks in zip(frames, _read(folder, path), strict=True):
        for object_id, mask in enumerate(masks, 1):
            if mask is not None:
                where = f"{folder.url(path)}, frame {frame}, object {object_id}"
                yield FoundMask(frame, object_id, *size, found_counts(mask, *size, where))
