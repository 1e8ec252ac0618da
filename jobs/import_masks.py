"""Import masks that other tools wrote: the output can be rendered, evaluated, exported and queried like a run's.

    python -m jobs.import_masks --from DIR --format davis --to OUT
    python -m jobs.import_masks --from masks.json --format youtube-vis --to OUT --videos clips

OUT gets masks, tracks and videos. What only a run knows is null there (working size, codec, hashes, timings, device,
actor), times too unless --videos gives the sources; a mask without a score gets 1; the hashes of checkpoint and
settings read "imported". jobs.verify checks it like any output; jobs.annotate refuses to go on in it. Stopped or
killed, the same command continues; with another --only it adds these videos. Other options than those that OUT was
begun with are refused where they decide what the rows are. An empty mask becomes no row: not visible.

Files are data: a pickle is read without running anything in it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cluster.config_lock import SettingsRefused
from cluster.exit_codes import ExitCode
from cluster.frames.video import VideoError, frame_times, probe_video
from cluster.imported import Import, Source
from cluster.source_images import list_image_names
from cluster.stores.remote import connect
from cluster.stores.source import fetch_source
from cluster.stores.storage import Storage
from cluster.stores.storage_errors import explained
from cluster.stores.video_folder import list_videos
from jobs.arguments import misplaced, options, positive
from jobs.messages import refuse, run_command, say
from schemas.convert.exchange import ImportSettings
from schemas.convert.folder import Folder
from schemas.convert.formats import FORMATS, described
from schemas.convert.video import ConvertError, FoundVideo
from schemas.urls import public_url
from stcn_core.prompts import PromptError, fit_labels, read_label_png

# Which formats an option is for.
BELONGS = {
    "first_frame": ("sa-v", "stcnbuf"),
    "stride": ("sa-v", "stcnbuf"),
    "frames": ("burst", "coco", "davis", "youtube-vis"),
    "files": ("burst", "coco", "sa-v", "stcnbuf", "youtube-vis"),
}
EPILOG = f"""
The formats:

{described()}

Exit codes: 0 done, 2 bad arguments, files that are not of the format or are damaged, or OUT is in the way,
5 OUT was begun from other files or with other options (--first-frame, --stride, --frames, --files, --videos).
"""


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.import_masks",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--from", required=True, dest="source", metavar="DIR", help="folder or file, on any fsspec URL")
    p.add_argument("--format", required=True, choices=list(FORMATS), help="see below")
    p.add_argument("--to", required=True, metavar="OUT", help="a new, empty place, on any fsspec URL")
    p.add_argument("--only", action="append", metavar="VIDEO_ID", help="just this video (may be repeated)")
    p.add_argument(
        "--videos",
        metavar="DIR",
        help="folder or glob with the sources, named like the videos: files (for times and frame rates) or folders of "
        "images (an image's place in its folder is its frame)",
    )
    p.add_argument(
        "--frames",
        choices=("number", "order"),
        help="burst, coco, davis, youtube-vis: which frame an image is: the number in its name, or its place in the "
        "order of names (default: number where all names hold one)",
    )
    p.add_argument(
        "--first-frame",
        type=_frame,
        metavar="N",
        help="sa-v, stcnbuf: of the first list (default: what the file says, or 0)",
    )
    p.add_argument(
        "--stride",
        type=positive,
        metavar="N",
        help="sa-v, stcnbuf: frames from one list to the next (default: what the file says; else sa-v: as its frame "
        "count asks for, stcnbuf: 1)",
    )
    p.add_argument("--files", metavar="PATTERN", help="all but davis: only files named so, such as '*_manual.json'")
    p.add_argument("--scratch", metavar="DIR", help="local folder for temporary files (default: the system's)")
    p.add_argument("--json", action="store_true", help="what was done as one JSON object")
    p.add_argument("--from-options", type=options, default={}, metavar="JSON", help="fsspec options of --from")
    p.add_argument("--to-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    p.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options of --videos")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, imports, prints. Returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    if wrong := misplaced(args, "format", BELONGS):
        p.error(wrong)
    try:
        with tempfile.TemporaryDirectory(prefix="stcn-import-", dir=args.scratch) as scratch:
            report = import_masks(args, Path(scratch))
    except SettingsRefused as error:
        return refuse(error, ExitCode.SETTINGS_REFUSED)
    except (OSError, ValueError, VideoError) as error:
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    print(json.dumps(report, indent=2) if args.json else _summary(report))
    return ExitCode.DONE


def import_masks(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Writes the output; returns what `--json` prints. Raises ConvertError, VideoError and what storage raises."""
    fs, root = connect(args.source, args.from_options)
    sources = Sources(args.videos, args.input_options, scratch)
    settings = ImportSettings(
        read_labels=read_labels,
        frames=args.frames,
        images=sources.images,
        first_frame=args.first_frame,
        stride=args.stride,
        files=args.files,
    )
    shown = public_url(args.source).rstrip("/")
    folder = Folder(fs, root, shown)
    storage = Storage(args.to, args.to_options)
    with explained(args.source, "read"):
        videos = _chosen(list(FORMATS[args.format].found(folder, settings)), args.only, shown)
        made = Import(storage, args.format, shown, sources.source, deciding(args))
        made.begin(videos)
        with tqdm(unit=" masks", desc="import", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:
            for video in videos:
                made.add(video, scratch, bar.update)
    return {
        "format": args.format,
        "to": storage.url,
        "videos": made.videos,
        "masks": made.masks,
        "there_already": made.skipped,
        "without_score": made.scoreless,
        "frames_without_word": made.unnamed,
        "assumed_strides": {v.video_id: v.assumed_stride for v in videos if v.assumed_stride is not None},
        "without_source": [v.video_id for v in videos if args.videos and sources.source(v.video_id) is None],
    }


def deciding(args: argparse.Namespace) -> dict[str, Any]:
    """The options that decide which rows come of the files: an output is begun and gone on with under the same ones."""
    videos = None if args.videos is None else public_url(args.videos).rstrip("/")
    return {name: getattr(args, name) for name in ("first_frame", "stride", "frames", "files")} | {"videos": videos}


def read_labels(data: bytes, name: str, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 [H, W] of a PNG; of `size` where it is given (a mask may be one pixel off). Raises ConvertError."""
    try:
        labels = read_label_png(data, name)
    except PromptError as error:
        raise ConvertError(str(error)) from error
    try:
        return labels if size is None else fit_labels(labels, size, name)
    except PromptError as error:
        shown = f"{labels.shape[1]}x{labels.shape[0]}, the first one {size[1]}x{size[0]}"
        raise ConvertError(f"{name} is {shown}: all masks of a video must have one size") from error


class Sources:
    """The videos that the masks are of, where --videos gives them."""

    def __init__(self, url: str | None, storage_options: dict[str, Any], scratch: Path):
        self._options, self._scratch = storage_options, scratch
        self._urls = dict(list_videos(url, storage_options)) if url else {}
        self.images, self.source = cache(self._images), cache(self._source)

    def _images(self, video_id: str) -> list[str] | None:
        """Names of the images of a source that is a folder of images, in order; None for another one, or none."""
        url = self._urls.get(video_id)
        return None if url is None else list_image_names(url, self._options)

    def _source(self, video_id: str) -> Source | None:
        url = self._urls.get(video_id)
        if url is None:
            return None
        images = self.images(video_id)
        if images is not None:
            return Source(public_url(url), len(images), codec=images[0].rpartition(".")[2].lower())
        with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
            path = fetch_source(url, Path(scratch), self._options)
            info, times = probe_video(path), frame_times(path)
        frames = info.frames_declared if times is None else len(times)
        return Source(public_url(url), frames, info.fps, info.duration_s, info.codec, times)


def _chosen(videos: Sequence[FoundVideo], only: Sequence[str] | None, shown: str) -> list[FoundVideo]:
    unknown = sorted(set(only or ()) - {video.video_id for video in videos})
    if unknown:
        raise ConvertError(f"{shown} holds no video {unknown[0]!r}: check --only")
    chosen = [video for video in videos if not only or video.video_id in only]
    if not chosen:
        raise ConvertError(f"{shown} holds no video: check --from and --format")
    return chosen


def _frame(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return int(text)


def _assumed(strides: dict[str, int]) -> str:
    """strides: video id -> the one that was taken for want of another."""
    if not strides:
        return ""
    taken = ", ".join(map(str, sorted(set(strides.values()))))
    return (
        f"{len(strides)} videos, such as {next(iter(strides))}, do not say which frames their masks are of: by their "
        f"frame counts these were taken to be {taken} apart (--first-frame and --stride say otherwise)"
    )


def _summary(report: dict[str, Any]) -> str:
    if report["without_source"]:
        say(f"without a source in --videos: {', '.join(report['without_source'][:10])}")
    notes = [
        f"{report['there_already']} videos were there already" if report["there_already"] else "",
        f"{report['without_score']} masks have no score and got 1" if report["without_score"] else "",
        f"{report['frames_without_word']} frames have no mask file and count as empty"
        if report["frames_without_word"]
        else "",
        _assumed(report["assumed_strides"]),
    ]
    text = f"{report['to']}: {report['videos']} videos with {report['masks']} masks from {report['format']}"
    return "; ".join([text, *filter(None, notes)])


if __name__ == "__main__":
    sys.exit(run_command(main))
