"""Palette PNGs, one per frame, as DAVIS, MOSE and YouTube-VOS have them: Annotations/<video>/<frame>.png.

Source: the data sets themselves; their palette is that of PASCAL VOC. The pixel's value is the object id, 0 is the
background. Names are those of the source's images where it is an image folder at hand, else the frame's index
(00012.png). Every annotated frame has its file, also where nothing is visible.

Does not hold: pixels that two objects share (the smaller mask lies on top), objects that are nowhere visible, scores,
labels, frame times, which masks were given, the positions of frames where images are not named after their index (then
give the images to the import: --videos). Videos with an object id above 254 (255 means void to its readers) are left
out.
"""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image
from rlemasklib import RLEMask

from schemas.convert.exchange import ExportSettings, ImportSettings, OutFile, unseen
from schemas.convert.folder import Folder
from schemas.convert.losses import Losses
from schemas.convert.names import safe_name, video_id_of
from schemas.convert.run_lengths import checked_size
from schemas.convert.video import (
    POSITIONS,
    ConvertError,
    FoundMask,
    FoundVideo,
    OutVideo,
    Track,
    placed,
    positions_lost,
    stem_of,
)
from schemas.reader import MaskRow

NAME = "davis"
LARGEST_ID = 254
FOLDER = "Annotations"
# Where masks are looked for, from the most to the least particular.
PLACES = (f"{FOLDER}/480p", f"{FOLDER}/Full-Resolution", FOLDER, "")


def palette() -> bytes:
    """256 colours, RGB: bits of the index, three by three, become the high bits of red, green and blue."""
    colours = np.zeros((256, 3), np.uint8)
    index = np.arange(256)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * place + channel)) & 1) << (7 - place)).astype(np.uint8)
    return colours.tobytes()


PALETTE = palette()


def refusal(tracks: Sequence[Track]) -> str | None:
    """Why a video with these objects cannot be exported; None where it can."""
    beyond = [track.object_id for track in tracks if not 1 <= track.object_id <= LARGEST_ID]
    if not beyond:
        return None
    return f"it has an object {beyond[0]}: palette PNGs hold 1 to {LARGEST_ID}; use another format"


def places(videos: Sequence[OutVideo]) -> list[str]:
    """Folders that the export writes into."""
    return [f"{FOLDER}/{safe_name(video.video_id)}/" for video in videos]


def files(videos: Sequence[OutVideo], settings: ExportSettings, losses: Losses) -> Iterator[OutFile]:
    """One file per frame."""
    for video in videos:
        wanted = _wanted(video, settings)
        losses.add(POSITIONS, _positions_lost(video, wanted))
        losses.add("video ids too long for a name", video_id_of(safe_name(video.video_id)) != video.video_id)
        losses.add("labels", sum(track.label is not None for track in video.tracks))
        losses.add("objects that are nowhere visible", unseen(video))
        folder, size = f"{FOLDER}/{safe_name(video.video_id)}", (video.height, video.width)
        for position, rows in video.every_frame():
            stem = stem_of(video.image_name(position))
            if wanted is not None and stem not in wanted:
                continue
            losses.add("scores", sum(not row.is_prompt for row in rows))
            losses.add("marks of given masks", sum(row.is_prompt for row in rows))
            losses.add("frame times", video.fps is not None)
            yield OutFile(f"{folder}/{safe_name(stem)}.png", partial(_write, rows, size, losses), small=True)


def _wanted(video: OutVideo, settings: ExportSettings) -> set[str] | None:
    """Stems of the frames to write; None for all. Raises ConvertError where the video has no such frame, or its frames
    go by their indices because the names of their images cannot be had."""
    if settings.only_frames is None:
        return None
    if video.unlisted is not None:
        raise ConvertError(
            f"--meta names frames after their images, and those of {video.video_id} are not known: {video.unlisted}; "
            "or make them readable (see --input-options), or give --frame-names index if they are numbered from 0"
        )
    wanted = set(settings.only_frames.get(video.video_id, ()))
    missing = sorted(wanted.difference(stem_of(name) for name in video.image_names()))
    if missing:
        have = f"its first of {len(video.frames)} is {stem_of(video.image_name(0))}" if video.frames else "it has none"
        raise ConvertError(f"{video.video_id} has no frame {missing[0]!r}, which --meta asks for: {have}")
    return wanted


def _positions_lost(video: OutVideo, wanted: set[str] | None) -> int:
    """How many of the frames to write an import does not find again without the source's images."""
    if video.names is None:
        return 0
    # As the import reads them back.
    stems = [(frame, stem_of(name)) for frame, name in zip(video.frames, video.names, strict=True)]
    kept = [(frame, stem) for frame, stem in stems if wanted is None or stem in wanted]
    return positions_lost([f"{video_id_of(safe_name(stem))}.jpg" for _, stem in kept], [frame for frame, _ in kept])


def label_map(rows: Sequence[MaskRow], size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] of object ids; where masks overlap the smaller one lies on top, of equal ones the higher id."""
    labels = np.zeros(size, np.uint8)
    for row in sorted(rows, key=lambda row: (-row.area, row.object_id)):
        labels[row.decode().view(bool)] = row.object_id
    return labels


def png(labels: np.ndarray) -> bytes:
    """labels uint8 [H, W] as a palette PNG."""
    image = Image.fromarray(labels)
    image.putpalette(PALETTE)
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


def _write(rows: Sequence[MaskRow], size: tuple[int, int], losses: Losses, file: BinaryIO) -> None:
    labels = label_map(rows, size)
    losses.add("pixels that objects share", sum(row.area for row in rows) - int(np.count_nonzero(labels)))
    file.write(png(labels))


def found(folder: Folder, settings: ImportSettings) -> Iterator[FoundVideo]:
    """Videos in DIR/Annotations/480p, DIR/Annotations or DIR itself, a folder <video> or <video>/masks each.

    Raises ConvertError.
    """
    if folder.is_file():
        raise ConvertError(f"{folder.shown} is a file: give the folder with the videos' folders of PNGs")
    for place in PLACES:
        videos = []
        for name in folder.entries(place)[1]:
            path = f"{place}/{name}".lstrip("/")
            path, names = next(((p, names) for p in (path, f"{path}/masks") if (names := _pngs(folder, p))), ("", []))
            if names:
                videos.append((video_id_of(name), path, names))
        if videos:
            for video_id, path, names in videos:
                yield _video(folder, path, video_id, names, settings)
            return
    names = _pngs(folder, "")
    if not names:
        raise ConvertError(f"{folder.shown} holds no <video>/<frame>.png, nor do its Annotations: check --from")
    yield _video(folder, "", video_id_of(folder.name), names, settings)


def _pngs(folder: Folder, path: str) -> list[str]:
    return [name for name in folder.entries(path)[0] if name.lower().endswith(".png")]


def _video(folder: Folder, path: str, video_id: str, names: list[str], settings: ImportSettings) -> FoundVideo:
    where = folder.url(path)
    # Which suffix the images had is not known.
    images = {name: f"{video_id_of(stem_of(name))}.jpg" for name in names}
    frames, remembered, order = placed(list(images.values()), settings.frames, settings.images(video_id), where)
    by_frame = {frame: f"{path}/{names[place]}".lstrip("/") for frame, place in zip(frames, order, strict=True)}
    first = next(iter(by_frame.values()))
    size = checked_size(*settings.read_labels(folder.read(first), folder.url(first), None).shape, folder.url(first))

    def masks() -> Iterator[FoundMask]:
        files = folder.read_ahead(by_frame.values())
        for (frame, file), data in zip(by_frame.items(), files, strict=True):
            labels = settings.read_labels(data, folder.url(file), size)
            for object_id in np.flatnonzero(np.bincount(labels.ravel())).tolist():
                if object_id:
                    mask = RLEMask.from_array((labels == object_id).astype(np.uint8))
                    yield FoundMask(frame, object_id, *size, mask.to_dict()["counts"])

    sources = settings.images(video_id)
    count = None if sources is None else len(sources)
    return FoundVideo(video_id, *size, frames, remembered, {}, where, masks, source_frames=count)
