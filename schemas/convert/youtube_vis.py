"""YouTube-VIS JSON: one file for all videos, with one annotation per object and in it one mask or null per frame.

Source: the data set's annotation files and the YTVOS class that reads them (pycocotools' sister, by youtubevos).
Masks are uncompressed RLE, as in the data set: some readers take nothing else there. Labels are categories; an
object without one is of the category "object". Beyond the data set's own keys: videos have a `name`, annotations an
`object_id` and a `score` (the mean over the object's masks, six digits). file_names are <video>/<image>, after the
frame's index where the source is no image folder at hand.

Does not hold: scores of single masks, frame times, which masks were given, the positions of frames where images are
not named after their index (then give the images to the import: --videos).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

from schemas.convert.exchange import (
    MEANS_NONE,
    ExportSettings,
    ImportSettings,
    categories_of,
    category_records,
    label_of,
    named_unlabelled,
    one_file,
)
from schemas.convert.folder import Folder, fields_of, grouped, names_by_id, objects_in, score_of, texts
from schemas.convert.json_stream import write_json
from schemas.convert.losses import Losses
from schemas.convert.names import safe_name, video_id_of
from schemas.convert.run_lengths import checked_size, found_counts, plain_rle
from schemas.convert.video import (
    LARGEST_ID,
    POSITIONS,
    ConvertError,
    FoundMask,
    FoundVideo,
    OutVideo,
    Track,
    placed,
    positions_lost,
)

NAME = "youtube-vis"
FILE = "youtube-vis.json"


def _write(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses, file: BinaryIO) -> None:
    categories = categories_of(videos, settings)
    losses.add(MEANS_NONE, sum(map(named_unlabelled, videos)))
    record = {
        "info": {"description": "made by stcn-ray"},
        "licenses": [],
        "videos": (_video_record(number, video, losses) for number, video in enumerate(videos, 1)),
        "categories": category_records(categories),
        "annotations": _annotations(videos, categories, losses),
    }
    write_json(file, record)


places, files = one_file(FILE, _write)


def _video_record(number: int, video: OutVideo, losses: Losses) -> dict[str, Any]:
    losses.add("frame times", len(video.frames) if video.fps is not None else 0)
    if video.names is not None:
        losses.add(POSITIONS, positions_lost(video.names, video.frames))
    folder = safe_name(video.video_id)
    return {
        "id": number,
        "name": video.video_id,
        "width": video.width,
        "height": video.height,
        "length": len(video.frames),
        "file_names": (f"{folder}/{name}" for name in video.image_names()),
        "license": None,
        "date_captured": "",
        "flickr_url": "",
        "coco_url": "",
    }


def _annotations(videos: Sequence[OutVideo], categories: dict[str, int], losses: Losses) -> Iterator[dict[str, Any]]:
    number = 0
    for video_number, video in enumerate(videos, 1):
        for track in video.tracks:
            number += 1
            areas: list[int | None] = []
            boxes: list[list[int] | None] = []
            yield {
                "id": number,
                "video_id": video_number,
                "category_id": categories[track.label or "object"],
                "object_id": track.object_id,
                "iscrowd": 0,
                "width": video.width,
                "height": video.height,
                "length": len(video.frames),
                "score": None if track.score_mean is None else round(track.score_mean, 6),
                "segmentations": _masks(video, track, areas, boxes, losses),
                "areas": lambda areas=areas: areas,
                "bboxes": lambda boxes=boxes: boxes,
            }


def _masks(video: OutVideo, track: Track, areas: list, boxes: list, losses: Losses) -> Iterator[dict | None]:
    """One entry per annotated frame; areas and boxes are filled on the way."""
    rows = video.track(track.object_id)
    row = next(rows, None)
    for frame in video.frames:
        if row is not None and row.frame == frame:
            areas.append(row.area)
            boxes.append(list(row.box))
            losses.add("marks of given masks", row.is_prompt)
            losses.add("scores of single masks", not row.is_prompt)
            yield plain_rle(row.counts, row.height, row.width)
            row = next(rows, None)
        else:
            areas.append(None)
            boxes.append(None)
            yield None
    if row is not None:
        where = f"{video.video_id} has a mask of frame {row.frame}"
        raise ConvertError(f"{where}, which was not annotated: see jobs.verify")


def found(folder: Folder, settings: ImportSettings) -> Iterator[FoundVideo]:
    """The videos of every file. Compressed RLE and polygons are read too. Raises ConvertError."""
    for path in folder.files((".json",), settings.files):
        where = folder.url(path)
        record = folder.read_json(path)
        categories = names_by_id(record, "categories", where)
        annotations = grouped(record, "annotations", "video_id", where)
        for video in objects_in(record, "videos", where):
            number, names, height, width = fields_of(
                video, {"id": int, "file_names": list, "height": (int, float), "width": (int, float)}, where
            )
            shown = f"{where}: video {number}"
            texts(names, f"{shown}: file_names")
            given = video.get("name")
            folders = {name.rpartition("/")[0] for name in names}
            video_id = given if isinstance(given, str) and given else video_id_of(min(folders, default=str(number)))
            images = settings.images(video_id)
            stems = [name.rpartition("/")[2] for name in names]
            frames, remembered, order = placed(stems, settings.frames, images, shown)
            objects = _objects(annotations.get(number, ()), shown)
            size = checked_size(height, width, shown)
            yield FoundVideo(
                video_id,
                *size,
                frames,
                remembered,
                {key: label_of(_category(one, categories, shown)) for key, one in objects.items()},
                where,
                partial(_found_masks, objects, frames, order, size, shown),
                source_frames=None if images is None else len(images),
            )


def _category(annotation: dict[str, Any], categories: dict[int, str], where: str) -> str | None:
    (number,) = fields_of(annotation, {"category_id": int}, where)
    return categories.get(number)


def _objects(annotations: Sequence[dict[str, Any]], where: str) -> dict[int, dict[str, Any]]:
    """Annotations by object id: their own, or else their number from 1."""
    own = [annotation.get("object_id") for annotation in annotations]
    if not all(type(number) is int and 1 <= number <= LARGEST_ID for number in own):
        own = list(range(1, len(annotations) + 1))
    if len(set(own)) < len(own):
        raise ConvertError(f"{where} has two annotations of one object_id")
    return dict(sorted(zip(own, annotations, strict=True)))


def _found_masks(
    objects: dict[int, dict[str, Any]], frames: Sequence[int], order: Sequence[int], size: tuple[int, int], where: str
) -> Iterator[FoundMask]:
    for object_id, annotation in objects.items():
        (masks,) = fields_of(annotation, {"segmentations": list}, f"{where}, object {object_id}")
        if len(masks) != len(frames):
            raise ConvertError(f"{where}, object {object_id} has {len(masks)} segmentations for {len(frames)} images")
        score = score_of(annotation)
        for frame, place in zip(frames, order, strict=True):
            if masks[place]:
                counts = found_counts(masks[place], *size, f"{where}, object {object_id}, image {place}")
                yield FoundMask(frame, object_id, *size, counts, score)
