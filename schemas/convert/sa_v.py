"""SA-V JSON: one file per video, <video>_auto.json, with a list of masks (one per object) for every frame.

Source: sav_dataset/README.md and the class SAVDataset of facebookresearch/sam2. Objects that are not
visible have an empty mask, so that a position always means the same object. Numbers that the data set has as
floats are floats. `masklet_first_appeared_frame` is an index in the source, -1 for an object that never appears. Beyond
the data set's own keys: `annotated_frames`, the `first` of the frames that the lists are of, and their `stride`. Files
without it (the data set has every fourth frame of all) are taken to begin with frame 0 and to have the stride that
their frame count asks for, unless --first-frame and --stride say otherwise.

Does not hold: scores (its stability score is something else), labels, frame rate and times, names of images, which
masks were given.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

from schemas.convert.exchange import ExportSettings, ImportSettings, OutFile
from schemas.convert.folder import Folder, fields_of
from schemas.convert.json_stream import write_json
from schemas.convert.losses import Losses
from schemas.convert.names import safe_name
from schemas.convert.run_lengths import checked_size, empty_counts, found_counts, text_rle
from schemas.convert.video import LARGEST_ID, ConvertError, FoundMask, FoundVideo, OutVideo, stem_of

NAME = "sa-v"
SUFFIX = "_auto.json"
OWN_KEY = "annotated_frames"
SMALL, MEDIUM = 32**2, 96**2


def places(videos: Sequence[OutVideo]) -> list[str]:
    """The files that the export writes."""
    return [_name(video) for video in videos]


def files(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses) -> Iterator[OutFile]:
    """One file per video."""
    for video in videos:
        yield OutFile(_name(video), partial(_write, video, settings, losses))


def _name(video: OutVideo) -> str:
    return f"{safe_name(video.video_id)}{SUFFIX}"


def _write(video: OutVideo, settings: ExportSettings, losses: Losses, file: BinaryIO) -> None:
    tracks = video.tracks
    count = video.source_frames if video.source_frames is not None else video.frames[-1] + 1 if video.frames else 0
    losses.add("labels", sum(track.label is not None for track in tracks))
    losses.add("frame times", len(video.frames) if video.fps is not None else 0)
    losses.add("frame rates", video.fps is not None)
    losses.add("names of images", len(video.frames) if video.names is not None else 0)
    areas = [round(track.area_mean, 6) if track.area_mean else 0.0 for track in tracks]
    changes = {track.object_id: 0 for track in tracks}
    resolution = video.height * video.width
    record = {
        "video_id": video.video_id,
        "video_duration": video.duration_s,
        "video_frame_count": float(count),
        "video_height": float(video.height),
        "video_width": float(video.width),
        "video_resolution": float(resolution),
        "video_environment": [],
        "video_split": settings.split or "train",
        "masklet": _masklets(video, changes, losses),
        "masklet_id": [track.object_id for track in tracks],
        "masklet_size_rel": [round(area / resolution, 9) for area in areas],
        "masklet_size_abs": areas,
        "masklet_size_bucket": ["small" if a < SMALL else "medium" if a < MEDIUM else "large" for a in areas],
        "masklet_visibility_changes": lambda: list(changes.values()),
        "masklet_first_appeared_frame": [-1 if t.first_frame is None else t.first_frame for t in tracks],
        "masklet_frame_count": [len(video.frames)] * len(tracks),
        "masklet_edited_frame_count": [0] * len(tracks),
        "masklet_type": ["auto"] * len(tracks),
        "masklet_num": len(tracks),
        OWN_KEY: _grid(video),
    }
    write_json(file, record)


def _masklets(video: OutVideo, changes: dict[int, int], losses: Losses) -> Iterator[list[dict[str, Any]]]:
    """The masks of each annotated frame; changes is filled: how often each object came or went after it appeared."""
    empty = text_rle(empty_counts(video.height, video.width), video.height, video.width)
    before: dict[int, bool] = {}
    for _, rows in video.every_frame():
        seen = {row.object_id: row for row in rows}
        for object_id in changes:
            visible = object_id in seen
            changes[object_id] += visible != before.get(object_id, visible)
            if visible or object_id in before:
                before[object_id] = visible
        losses.add("scores", sum(not row.is_prompt for row in rows))
        losses.add("marks of given masks", sum(row.is_prompt for row in rows))
        found = (seen.get(track.object_id) for track in video.tracks)
        yield [text_rle(row.counts, row.height, row.width) if row is not None else empty for row in found]


def _grid(video: OutVideo) -> dict[str, int]:
    """Without a second frame there is no stride to speak of."""
    frames = video.frames
    return {"first": frames.start if frames else 0, "stride": frames.step if len(frames) > 1 else 1}


def found(folder: Folder, settings: ImportSettings) -> Iterator[FoundVideo]:
    """One video per file. Frames lie on a grid from --first-frame, with --stride, or else on that which our own export
    has written down, or else on that which the frame count asks for. Object ids are those of masklet_id, all raised by
    one where they begin at 0. Raises ConvertError."""
    for path in folder.files((".json",), settings.files):
        where = folder.url(path)
        record = folder.read_json(path)
        masklets, numbers = fields_of(record, {"masklet": list, "masklet_id": list}, where)
        size = checked_size(record.get("video_height"), record.get("video_width"), where)
        video_id = record.get("video_id")
        if not isinstance(video_id, str) or not video_id:
            video_id = stem_of(path or folder.name).removesuffix("_auto").removesuffix("_manual")
        count, seconds = record.get("video_frame_count"), record.get("video_duration")
        count = int(count) if isinstance(count, int | float) and 0 < count <= LARGEST_ID else None
        frames, assumed = _frames(record, len(masklets), count, settings, where)
        ids = _object_ids(numbers, where)
        yield FoundVideo(
            video_id,
            *size,
            frames,
            None,
            dict.fromkeys(ids),
            where,
            partial(_masks, folder, path, ids, frames, size),
            source_frames=count,
            duration_s=float(seconds) if isinstance(seconds, int | float) else None,
            assumed_stride=assumed,
        )


def _frames(
    record: dict[str, Any], lists: int, count: int | None, settings: ImportSettings, where: str
) -> tuple[range, int | None]:
    """(the frames of the lists, their stride where nothing says it). count: frames of the source, None: not known."""
    own = record.get(OWN_KEY)
    own = fields_of(own, {"first": int, "stride": int}, f"{where}: {OWN_KEY}") if isinstance(own, dict) else (0, None)
    first = own[0] if settings.first_frame is None else settings.first_frame
    stride = settings.stride or own[1]
    assumed = None
    if stride is None:
        stride = max(1, -(-(count or lists) // lists)) if lists else 1
        assumed = stride if lists and count != lists else None
    if first < 0 or stride < 1 or first + lists * stride > LARGEST_ID:
        what = f"{lists} frames from {first}, {stride} apart, cannot be"
        raise ConvertError(f"{where}: {what}: see --first-frame and --stride")
    return range(first, first + lists * stride, stride), assumed


def _object_ids(numbers: Sequence[Any], where: str) -> list[int]:
    if not all(
        isinstance(number, int | float) and 0 <= number <= LARGEST_ID and number == int(number) for number in numbers
    ):
        raise ConvertError(f"{where}: masklet_id holds something else than whole numbers from 0")
    ids = [int(number) for number in numbers]
    if len(set(ids)) < len(ids):
        raise ConvertError(f"{where}: masklet_id names an object twice")
    if 0 not in ids:
        return ids
    if LARGEST_ID in ids:
        raise ConvertError(f"{where}: masklet_id goes from 0 to {LARGEST_ID}; ids from 1 leave no room for as many")
    return [number + 1 for number in ids]


def _masks(
    folder: Folder, path: str, ids: Sequence[int], frames: Sequence[int], size: tuple[int, int]
) -> Iterator[FoundMask]:
    # Read again: the masks of all videos together would not fit in memory.
    masklets = folder.read_json(path)["masklet"]
    for frame, masks in zip(frames, masklets, strict=True):
        if not isinstance(masks, list) or len(masks) != len(ids):
            raise ConvertError(f"{folder.url(path)}: the masks of frame {frame} are not {len(ids)}, one per masklet_id")
        for object_id, mask in zip(ids, masks, strict=True):
            if mask is not None:
                where = f"{folder.url(path)}, frame {frame}, object {object_id}"
                yield FoundMask(frame, object_id, *size, found_counts(mask, *size, where))
