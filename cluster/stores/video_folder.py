"""A folder or glob of videos as a manifest, with prompts from a folder of masks."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cluster.frames.image_folder import SUFFIXES as IMAGE_SUFFIXES
from cluster.frames.image_folder import natural_key
from cluster.stores.remote import connect, entry_name, full_url, is_file, list_folder, tidy
from cluster.stores.storage_errors import explained
from schemas.manifest import ManifestError, Problem, VideoRow
from schemas.manifest_values import Wrong, as_id, as_text
from schemas.prompt import Prompt
from schemas.urls import public_url, stem

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"),
    *(".flv", ".wmv", ".3gp", ".ogv", ".vob", ".mxf", ".gif", ".y4m"),
)
# Of a video file the number of frames is not known here: so many masks in a row are taken for one per frame.
DENSE_MASKS = 8
LISTERS = 16
LabelledMask = tuple[int, str, list[int]]  # frame, URL, labels


@dataclass(frozen=True)
class FoundVideo:
    """A video in a folder. images: the stems of its images in frame order; None: a video file."""

    video_id: str
    url: str
    images: tuple[str, ...] | None


def list_manifest_rows(
    url: str,
    options: Mapping[str, Any] | None = None,
    prompt_masks: str | None = None,
    *,
    only: Collection[str] | None = None,
    first_masks: bool = False,
    every_mask: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[VideoRow, ...]:
    """One row per video in a folder, or per match of a glob, sorted by video_id. Any fsspec URL.

    Videos are files with a video's suffix and sub-folders of numbered images (DAVIS `JPEGImages/480p`, YouTube-VOS);
    a folder that itself holds the images is one video. video_id is the file's stem or the folder's name.

    prompt_masks is a folder with `<video_id>/<frame>.png` (for a video file the number in the name is the frame's
    index; for image folders the name is the image's) or `<video_id>.png` (frame 0). Every PNG is a prompt of the
    labels in it, an empty one says that no object is visible. Where there is one PNG per frame, which is ground truth
    and not prompts, only those labels of a PNG count that appear in it for the first time: the first PNG that is not
    empty, and new objects (DAVIS and YouTube-VOS protocol). One per frame means: every image has one, or, for a
    video file, more than 8 in a row without a gap.

    only: these video ids, all of which must be there. first_masks: of every PNG only labels that no earlier one has,
    however many there are; every_mask: all labels of every PNG, also where there is one per frame. say: gets a line
    where PNGs were taken for ground truth and prompts are left out for it.

    Raises ManifestError with all problems, OSError where the folder cannot be read.
    """
    with explained(url, "listed"):
        found = find_videos(url, options)
    shown = public_url(url)
    if not found:
        reason = "it holds no videos and no folders of numbered images"
        raise ManifestError(shown, [Problem(0, "", reason, f"Known suffixes are {', '.join(VIDEO_SUFFIXES)}")])
    if prompt_masks is None:
        reason = "a folder says nothing about the objects"
        remedy = "Give --prompt-masks FOLDER with <video_id>/<frame>.png, or write a manifest with prompts"
        raise ManifestError(shown, [Problem(0, "prompts", reason, remedy)])
    found, missing = chosen_videos(found, only)
    found, misnamed = usable_videos(found)
    problems = missing + misnamed + _doubles(found)
    with ThreadPoolExecutor(LISTERS) as pool:
        read = list(pool.map(lambda item: _given(item[0], item[1], prompt_masks, options), enumerate(found, 1)))
    rows, truths = [], []
    for number, (video, (labelled, wrong)) in enumerate(zip(found, read, strict=True), 1):
        problems += wrong
        dense = not every_mask and _one_per_frame([frame for frame, _, _ in labelled], video.images)
        prompts = _prompts(labelled, first_masks or dense)
        if dense and not first_masks and len(prompts) < len(_prompts(labelled, False)):
            truths.append((video, len(labelled)))
        rows.append(VideoRow(number, video.url, video.video_id, tuple(prompts)))
    if problems:
        raise ManifestError(shown, problems)
    if truths:
        say(_taken_as_truth(*truths[0], len(truths) - 1))
    return tuple(rows)


def chosen_videos(found: list[FoundVideo], only: Collection[str] | None) -> tuple[list[FoundVideo], list[Problem]]:
    """The videos named in `only` (None: all of them), and a problem for each that is not there."""
    if only is None:
        return found, []
    there = {video.video_id for video in found}
    remedy = "Take it out of the split, or complete the data set"
    missing = [Problem(0, "video_id", f"{name!r} is in the split, but there is no such video", remedy)
               for name in sorted(set(only) - there)]  # fmt: skip
    return [video for video in found if video.video_id in set(only)], missing


def usable_videos(found: list[FoundVideo]) -> tuple[list[FoundVideo], list[Problem]]:
    """The videos whose names can be written down, and a problem for each of the others: a disk takes any bytes."""
    usable, problems = [], []
    for number, video in enumerate(found, 1):
        remedy = "Rename it"
        try:
            as_text(video.url)
            remedy = "Rename it, or write a manifest with video_ids"
            as_id(video.video_id)
        except Wrong as wrong:
            reason = f"the name of {_printable(public_url(video.url))} makes no video_id: {wrong.reason}"
            problems.append(Problem(number, "video_id", reason, remedy))
        else:
            usable.append(video)
    return usable, problems


def _printable(text: str) -> str:
    """The text with bytes that are no UTF-8, and control characters, as a shell's $'...' has them."""

    def escaped(char: str) -> str:
        code = ord(char)
        byte = code < 0x100 or 0xDC80 <= code < 0xDD00  # the latter: how Python reads bytes that are no UTF-8
        return f"\\x{code & 0xFF:02x}" if byte else f"\\U{code:08x}"

    return "".join(char if char.isprintable() else escaped(char) for char in text)


def list_videos(url: str, options: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """(video_id, url) of every video in a folder, or per match of a glob, as `list_manifest_rows` finds them; no
    prompts are needed. Raises ManifestError where two have one video_id or a name makes none, OSError where the folder
    cannot be read."""
    with explained(url, "listed"):
        found = find_videos(url, options)
    found, misnamed = usable_videos(found)
    if problems := misnamed + _doubles(found):
        raise ManifestError(public_url(url), problems)
    return [(video.video_id, video.url) for video in found]


def find_videos(url: str, options: Mapping[str, Any] | None = None) -> list[FoundVideo]:
    """All videos in a folder or of a glob, by id, then URL; a video's own URL is that one. Raises OSError."""
    fs, root = connect(url, options)
    if root.lower().endswith(VIDEO_SUFFIXES) and is_file(fs, root):
        return [FoundVideo(stem(root.rpartition("/")[2]), full_url(fs, root), None)]
    magic = any(char in root for char in "*?[")
    if magic and not fs.exists(root):
        entries = tidy(fs, fs.glob(root, detail=True).values())
    else:
        entries = list_folder(fs, root)
        magic = False
    files = [e for e in entries if e["type"] != "directory" and entry_name(e).lower().endswith(VIDEO_SUFFIXES)]
    found = [FoundVideo(stem(entry_name(e)), full_url(fs, e["name"]), None) for e in files]
    folders = [e["name"].rstrip("/") for e in entries if e["type"] == "directory"]
    with ThreadPoolExecutor(LISTERS) as pool:
        listed = list(pool.map(lambda folder: _images(list_folder(fs, folder)), folders))
    for folder, images in zip(folders, listed, strict=True):
        if images:
            found.append(FoundVideo(folder.rpartition("/")[2], full_url(fs, folder), images))
    images = () if magic or found else _images(entries)
    if images:
        found.append(FoundVideo(root.rstrip("/").rpartition("/")[2], full_url(fs, root.rstrip("/")), images))
    return sorted(found, key=lambda video: (video.video_id, video.url))


def _images(entries: list[dict[str, Any]]) -> tuple[str, ...]:
    """Stems of the images in frame order; empty where they are not numbered."""
    names = [entry_name(e) for e in entries if e["type"] != "directory"]
    names = sorted((name for name in names if name.lower().endswith(IMAGE_SUFFIXES)), key=natural_key)
    stems = [PurePosixPath(name).stem for name in names]
    return tuple(stems) if all(any(char.isdigit() for char in one) for one in stems) else ()


def _doubles(found: list[FoundVideo]) -> list[Problem]:
    problems = []
    for number, (earlier, video) in enumerate(zip(found, found[1:], strict=False), 2):
        if earlier.video_id == video.video_id:
            reason = f"{public_url(earlier.url)} and {public_url(video.url)} have one video_id, {video.video_id!r}"
            problems.append(Problem(number, "video_id", reason, "Rename one, or write a manifest with video_ids"))
    return problems


def _given(
    number: int, video: FoundVideo, prompt_masks: str, options: Mapping[str, Any] | None
) -> tuple[list[LabelledMask], list[Problem]]:
    """The masks of a video in frame order."""
    fs, root = connect(prompt_masks, options)
    root = root.rstrip("/")
    problems: list[Problem] = []

    def wrong(reason: str, remedy: str) -> None:
        problems.append(Problem(number, f"prompts of {video.video_id}", reason, remedy))

    with explained(prompt_masks, "listed"):
        pngs = _mask_files(fs, f"{root}/{video.video_id}")
        if not pngs and is_file(fs, f"{root}/{video.video_id}.png"):
            masks = [(0, f"{root}/{video.video_id}.png")]
        else:
            masks, unplaced = _frames_of(pngs, video.images)
            if unplaced:
                what = "there is no image of that name" if video.images is not None else "it holds no single number"
                first = f"{public_url(full_url(fs, unplaced[0]))} belongs to no frame: {what}"
                more = f" (and {len(unplaced) - 1} more like it)" if len(unplaced) > 1 else ""
                wrong(first + more, "Name masks like their frames")
    if not masks and not problems:
        place = public_url(full_url(fs, f"{root}/{video.video_id}"))
        wrong(f"there is no mask {place}/<frame>.png or {place}.png", "Add one, or leave the video out")
    labelled: list[LabelledMask] = []
    for frame, path in masks:
        labels = _labels(fs, path)
        if isinstance(labels, str):
            wrong(labels, "Save it as palette or grey PNG")
        else:
            labelled.append((frame, full_url(fs, path), labels))
    if labelled and not any(labels for _, _, labels in labelled) and not problems:
        wrong(f"all {len(labelled)} masks are empty", "At least one must show an object")
    return labelled, problems


def _prompts(labelled: Sequence[LabelledMask], first_only: bool) -> list[Prompt]:
    """One prompt per label; an empty mask is one of every label. first_only: per label that no earlier mask has."""
    everyone = sorted({label for _, _, labels in labelled for label in labels})
    prompts, seen = [], set()
    for frame, url, labels in labelled:
        counting = [label for label in labels if label not in seen] if first_only else labels or everyone
        prompts += [Prompt(frame=frame, object_id=label, mask=url) for label in counting]
        seen.update(labels)
    return prompts


def _taken_as_truth(video: FoundVideo, masks: int, more: int) -> str:
    where = "lie on consecutive frames" if video.images is None else "are one for each of its images"
    return (
        f"{masks} masks of {video.video_id!r} {where}: taken as its true masks, of which only each object's first "
        f"appearance is a prompt{f' (the same for {more} more videos)' if more else ''}. To have all of them as "
        "prompts, give jobs.annotate --every-prompt-mask, or name them in a manifest"
    )


def _mask_files(fs: Any, folder: str) -> list[str]:
    try:
        entries = list_folder(fs, folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [e["name"] for e in entries if e["type"] != "directory" and entry_name(e).lower().endswith(".png")]


def _frames_of(pngs: list[str], images: tuple[str, ...] | None) -> tuple[list[tuple[int, str]], list[str]]:
    """([(frame, path), ...] in frame order, paths that belong to no frame)."""
    index = None if images is None else {name: position for position, name in enumerate(images)}
    placed, unplaced = [], []
    for path in pngs:
        name = PurePosixPath(path).stem
        frame = number_in(name) if index is None else index.get(name)
        if frame is None:
            unplaced.append(path)
        else:
            placed.append((frame, path))
    return sorted(placed), unplaced


def number_in(stem_of_name: str) -> int | None:
    """The number in `00012` or `frame_00012`; None where there is no number or more than one."""
    numbers = re.findall(r"[0-9]+", stem_of_name)
    return int(numbers[0]) if len(numbers) == 1 else None


def _one_per_frame(frames: list[int], images: tuple[str, ...] | None) -> bool:
    if images is not None:
        return len(frames) == len(images)
    return len(frames) > DENSE_MASKS and frames == list(range(frames[0], frames[0] + len(frames)))


def _labels(fs: Any, path: str) -> list[int] | str:
    """Labels in a mask, or why it cannot be read."""
    # Late: the science brings torch, which listing alone does not need.
    from stcn_core.prompts import PromptError, read_label_png

    url = full_url(fs, path)
    with explained(url, "read"):
        data = fs.cat_file(path)
    try:
        labels = read_label_png(data, public_url(url))
    except PromptError as error:
        return str(error)
    return [int(label) for label in np.flatnonzero(np.bincount(labels.ravel())) if label]
