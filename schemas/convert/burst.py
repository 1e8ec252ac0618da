"""BURST JSON (masks on TAO's videos): one file for all videos, with the masks of every frame by track.

Source: ANNOTATION_FORMAT.md of Ali2500/BURST-benchmark, and the readers in its burstapi and in TrackEval. A mask has
its `score`, and `is_gt` says that it was given. Labels are categories, numbered from 1 unless --categories gives
LVIS's ids, which the benchmark's tools go by; an object without a label is of the category "object". all_image_paths
are the source's images (after their index, where the source is no image folder at hand), annotated_image_paths those
that were annotated.

Does not hold: frame times; a video's place in the data set (`dataset` and `split` are what you give).
"""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from schemas.convert.exchange import (
    MEANS_NONE,
    ExportSettings,
    ImportSettings,
    categories_of,
    label_of,
    named_unlabelled,
    one_file,
)
from schemas.convert.folder import Folder, fields_of, names_by_id, objects_in, score_of, texts
from schemas.convert.json_stream import write_json
from schemas.convert.losses import Losses
from schemas.convert.names import safe_name, video_id_of
from schemas.convert.run_lengths import checked_size, found_counts
from schemas.convert.video import LARGEST_ID, ConvertError, FoundMask, FoundVideo, OutVideo, default_name, placed

NAME = "burst"
FILE = "burst.json"
DATASET = "stcn-ray"
SPLIT = "val"


def _write(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses, file: BinaryIO) -> None:
    categories = categories_of(videos, settings)
    losses.add(MEANS_NONE, sum(map(named_unlabelled, videos)))
    record = {
        "split": settings.split or SPLIT,
        "categories": [
            {"id": number, "name": label, "synset": "unknown", "def": "", "synonyms": [label]}
            for label, number in categories.items()
        ],
        "sequences": (_sequence(number, video, categories, settings, losses) for number, video in enumerate(videos, 1)),
    }
    write_json(file, record)


places, files = one_file(FILE, _write)


def _sequence(
    number: int, video: OutVideo, categories: dict[str, int], settings: ExportSettings, losses: Losses
) -> dict[str, Any]:
    losses.add("frame times", len(video.frames) if video.fps is not None else 0)
    name = safe_name(video.video_id)
    losses.add("video ids too long for a name", video_id_of(name) != video.video_id)
    return {
        "id": number,
        "seq_name": name,
        "dataset": settings.dataset or DATASET,
        "width": video.width,
        "height": video.height,
        "fps": _whole(video.fps),
        "all_image_paths": _source_names(video),
        "annotated_image_paths": video.image_names(),
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "track_category_ids": {track.object_id: categories[track.label or "object"] for track in video.tracks},
        "segmentations": (
            {
                row.object_id: {"rle": row.counts.decode("ascii"), "is_gt": row.is_prompt, "score": row.score}
                for row in rows
            }
            for _, rows in video.every_frame()
        ),
    }


def _source_names(video: OutVideo) -> Iterator[str]:
    if video.source_names is not None:
        yield from video.source_names
        return
    count = max(video.source_frames or 0, video.frames[-1] + 1 if video.frames else 0)
    named = {} if video.names is None else dict(zip(video.frames, video.names, strict=True))
    yield from (named.get(frame, default_name(frame)) for frame in range(count))


def _whole(number: float | None) -> float | int | None:
    """Frame rates are whole in the data set; another one stays as it is."""
    return int(number) if number is not None and number == int(number) else number


def found(folder: Folder, settings: ImportSettings) -> Iterator[FoundVideo]:
    """The sequences of every file. A frame's index is its place in all_image_paths. Raises ConvertError."""
    for path in folder.files((".json",), settings.files):
        where = folder.url(path)
        record = folder.read_json(path)
        categories = names_by_id(record, "categories", where)
        for sequence in objects_in(record, "sequences", where):
            yield _video(sequence, categories, settings, where)


def _video(sequence: dict[str, Any], categories: dict[int, str], settings: ImportSettings, where: str) -> FoundVideo:
    name, height, width, annotated, segmentations, tracks = fields_of(
        sequence,
        {
            "seq_name": str,
            "height": (int, float),
            "width": (int, float),
            "annotated_image_paths": list,
            "segmentations": list,
            "track_category_ids": dict,
        },
        where,
    )
    video_id = video_id_of(name)
    shown = f"{where}: {video_id}"
    texts(annotated, f"{shown}: annotated_image_paths")
    images = sequence.get("all_image_paths") or None
    if images is not None:
        fields_of(sequence, {"all_image_paths": list}, shown)
        texts(images, f"{shown}: all_image_paths")
    if len(annotated) != len(segmentations):
        raise ConvertError(f"{shown} has {len(segmentations)} segmentations for {len(annotated)} annotated images")
    frames, _, order = placed(annotated, settings.frames, settings.images(video_id) or images, shown)
    usual = all(annotated[place] == default_name(frame) for frame, place in zip(frames, order, strict=True))
    size = checked_size(height, width, shown)
    if not all(type(value) is int for value in tracks.values()):
        raise ConvertError(f"{shown}: track_category_ids are not all whole numbers")
    labels = {_track_id(key, shown): label_of(categories.get(value)) for key, value in tracks.items()}

    def masks() -> Iterator[FoundMask]:
        for frame, place in zip(frames, order, strict=True):
            if not isinstance(segmentations[place], dict):
                raise ConvertError(f"{shown}: segmentations[{place}] is no object")
            for key, mask in segmentations[place].items():
                object_id = _track_id(key, shown)
                at = f"{shown}, frame {frame}, object {object_id}"
                (rle,) = fields_of(mask, {"rle": str}, at)
                counts = found_counts(rle, *size, at)
                yield FoundMask(frame, object_id, *size, counts, score_of(mask), mask.get("is_gt") is True)

    fps = sequence.get("fps")
    return FoundVideo(
        video_id,
        *size,
        frames,
        None if usual else [annotated[place] for place in order],
        labels,
        where,
        masks,
        source_frames=None if images is None else len(images),
        fps=float(fps) if isinstance(fps, int | float) and fps > 0 else None,
        source_names=None if images is None or _usual(images) else images,
    )


def _usual(images: Sequence[str]) -> bool:
    return all(name == default_name(index) for index, name in enumerate(images))


def _track_id(key: str, where: str) -> int:
    if not key.isascii() or not key.isdecimal() or len(key) > 10 or not 1 <= int(key) <= LARGEST_ID:
        raise ConvertError(f"{where} has the track {key!r}: whole numbers from 1 can be read")
    return int(key)
