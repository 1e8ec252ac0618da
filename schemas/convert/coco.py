"""COCO JSON: one file for all videos, an image per frame, an annotation per mask.

Source: cocodataset.org's format description; checked with pycocotools. Masks are compressed RLE. Labels are
categories; an object without one is of the category "object". What COCO has no keys for is written as the video
data sets in its form do (CocoVID): `videos`, and in images `video_id` and `frame_id` (the frame's index in the source),
in annotations `video_id`, `instance_id` (the object id) and `score`. Every annotated frame is an image.

Does not hold: objects that are nowhere visible, frame times, which masks were given.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
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
    unseen,
)
from schemas.convert.folder import Folder, fields_of, grouped, names_by_id, objects_in, score_of
from schemas.convert.json_stream import write_json
from schemas.convert.losses import Losses
from schemas.convert.names import safe_name, video_id_of
from schemas.convert.run_lengths import checked_size, found_counts, text_rle
from schemas.convert.video import (
    LARGEST_ID,
    ConvertError,
    FoundMask,
    FoundVideo,
    OutVideo,
    default_name,
    placed,
    stem_of,
)

NAME = "coco"
FILE = "coco.json"


def _write(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses, file: BinaryIO) -> None:
    categories = categories_of(videos, settings, visible=True)
    losses.add(MEANS_NONE, sum(map(named_unlabelled, videos)))
    losses.add("objects that are nowhere visible", sum(unseen(video) for video in videos))
    record = {
        "info": {"description": "made by stcn-ray"},
        "licenses": [],
        "videos": (
            {"id": number, "name": video.video_id, "width": video.width, "height": video.height}
            for number, video in enumerate(videos, 1)
        ),
        "categories": category_records(categories),
        "images": _images(videos, losses),
        "annotations": _annotations(videos, categories, losses),
    }
    write_json(file, record)


places, files = one_file(FILE, _write)


def _images(videos: Sequence[OutVideo], losses: Losses) -> Iterator[dict[str, Any]]:
    number = 0
    for video_number, video in enumerate(videos, 1):
        losses.add("frame times", len(video.frames) if video.fps is not None else 0)
        folder = safe_name(video.video_id)
        for frame, name in zip(video.frames, video.image_names(), strict=True):
            number += 1
            yield {
                "id": number,
                "file_name": f"{folder}/{name}",
                "width": video.width,
                "height": video.height,
                "video_id": video_number,
                "frame_id": frame,
            }


def _annotations(videos: Sequence[OutVideo], categories: dict[str, int], losses: Losses) -> Iterator[dict[str, Any]]:
    number = images = 0
    for video_number, video in enumerate(videos, 1):
        category = {t.object_id: categories[t.label or "object"] for t in video.tracks if t.n_visible}
        for position, rows in video.every_frame():
            for row in rows:
                number += 1
                losses.add("marks of given masks", row.is_prompt)
                yield {
                    "id": number,
                    "image_id": images + position + 1,
                    "category_id": category[row.object_id],
                    "segmentation": text_rle(row.counts, row.height, row.width),
                    "area": row.area,
                    "bbox": list(row.box),
                    "iscrowd": 0,
                    "video_id": video_number,
                    "instance_id": row.object_id,
                    "score": row.score,
                }
        images += len(video.frames)


def found(folder: Folder, settings: ImportSettings) -> Iterator[FoundVideo]:
    """The videos of every file: those of `videos`, or else the folders of the images.

    Polygons and plain RLE are read too. Raises ConvertError, also where nothing says which masks are of one object: an
    image has several annotations, and they have no instance_id or track_id.
    """
    for path in folder.files((".json",), settings.files):
        where = folder.url(path)
        record = folder.read_json(path)
        categories = names_by_id(record, "categories", where)
        names = names_by_id(record, "videos", where) if record.get("videos") is not None else {}
        images = defaultdict(list)
        for image in objects_in(record, "images", where):
            name, _ = fields_of(image, {"file_name": str, "id": int}, f"{where}: images")
            given = names.get(fields_of(image, {"video_id": int}, where)[0]) if names else None
            whole = stem_of(path or folder.name)
            images[given or video_id_of(name.rpartition("/")[0].rpartition("/")[2] or whole)].append(image)
        annotations = grouped(record, "annotations", "image_id", where)
        for video_id, own in sorted(images.items()):
            yield _video(video_id, own, annotations, categories, settings, where)


def _video(
    video_id: str,
    images: Sequence[dict[str, Any]],
    annotations: dict[int, list[dict[str, Any]]],
    categories: dict[int, str],
    settings: ImportSettings,
    where: str,
) -> FoundVideo:
    shown = f"{where}: {video_id}"
    sizes = {checked_size(image.get("height"), image.get("width"), shown) for image in images}
    if len(sizes) > 1:
        raise ConvertError(f"{shown} has images of {len(sizes)} sizes: a video has one")
    (size,) = sizes
    names = [image["file_name"].rpartition("/")[2] for image in images]
    sources = settings.images(video_id)
    indices = [image.get("frame_id") for image in images]
    if sources is None and settings.frames is None and all(type(i) is int and 0 <= i <= LARGEST_ID for i in indices):
        order = sorted(range(len(images)), key=indices.__getitem__)
        frames = [indices[place] for place in order]
        if len(set(frames)) < len(frames):
            raise ConvertError(f"{shown} has two images of one frame_id: use --frames order")
        usual = all(names[place] == default_name(indices[place]) for place in order)
        remembered = None if usual else [names[place] for place in order]
    else:
        frames, remembered, order = placed(names, settings.frames, sources, shown)
    rows = [(frame, annotations.get(images[place]["id"], ())) for frame, place in zip(frames, order, strict=True)]
    labels: dict[int, str | None] = {}
    for _, found_here in rows:
        for annotation in found_here:
            object_id = _object_id(annotation, len(found_here), shown)
            (category,) = fields_of(annotation, {"category_id": int}, f"{shown}: annotations")
            labels.setdefault(object_id, label_of(categories.get(category)))

    def masks() -> Iterator[FoundMask]:
        for frame, found_here in rows:
            for annotation in found_here:
                object_id = _object_id(annotation, len(found_here), shown)
                place = f"{shown}, frame {frame}, object {object_id}"
                (value,) = fields_of(annotation, {"segmentation": (dict, list)}, place)
                yield FoundMask(frame, object_id, *size, found_counts(value, *size, place), score_of(annotation))

    count = None if sources is None else len(sources)
    return FoundVideo(video_id, *size, frames, remembered, labels, where, masks, source_frames=count)


def _object_id(annotation: dict[str, Any], together: int, where: str) -> int:
    for key in ("instance_id", "track_id"):
        if type(annotation.get(key)) is int and 1 <= annotation[key] <= LARGEST_ID:
            return annotation[key]
    if together > 1:
        raise ConvertError(
            f"{where} has images with several annotations and no instance_id or track_id from 1: which masks are of "
            "one object cannot be told"
        )
    return 1
