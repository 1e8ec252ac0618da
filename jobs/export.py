"""Export masks into the formats of other tools. jobs.import_masks is the way back.

    python -m jobs.export --masks OUT --format davis --to DIR
    python -m jobs.export --masks s3://bucket/masks --format youtube-vis --to s3://bucket/vis --only dog --only cat

All finished videos, or those of --only. Videos are streamed: the masks of a long one are never in memory together. The
last line says what the format could not hold, and how often. Names of videos become names of files with every
character that a file system might take amiss written as %XX.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cluster.exit_codes import ExitCode
from cluster.inspect.inspection import Unreadable, read_plan, side_by_side
from cluster.source_images import source_images
from cluster.stores.remote import connect
from cluster.stores.storage import Storage
from cluster.stores.storage_errors import disk_explained, explained
from jobs.arguments import misplaced, options, positive, usual_processes
from jobs.messages import refuse, run_command, say
from schemas.convert.exchange import ExportSettings, OutFile
from schemas.convert.formats import FORMATS, described
from schemas.convert.losses import Losses
from schemas.convert.output import FinishedVideo, MasksOutput
from schemas.convert.video import ConvertError, stem_of
from schemas.urls import public_url

FEW = 16
WHOLE = ("burst", "coco", "youtube-vis")  # formats that keep all videos in one file
# Which formats an option is for.
BELONGS = {
    "meta": ("davis",),
    "split": ("burst", "sa-v"),
    "categories": WHOLE,
    "dataset": ("burst",),
    "frame_names": ("davis", *WHOLE),  # the others have no place for the names of images
}
EPILOG = f"""
What is where, and what a format does not hold:

{described()}

Exit codes: 0 done, 2 bad arguments, something is in the way (see --overwrite), or OUT cannot be read.
"""


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.export",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--masks", required=True, metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--format", required=True, choices=list(FORMATS), help="see below")
    p.add_argument("--to", required=True, metavar="DIR", help="where the files go, on any fsspec URL")
    p.add_argument("--only", action="append", metavar="VIDEO_ID", help="just this video (may be repeated)")
    how = p.add_mutually_exclusive_group()
    how.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what these videos have in DIR (default: refuse if anything); burst, coco, youtube-vis: the one "
        "file, not together with --only",
    )
    how.add_argument(
        "--skip-existing",
        action="store_true",
        help="keep files that are there: goes on with an export that was stopped (davis, sa-v, stcnbuf)",
    )
    p.add_argument(
        "--meta", metavar="JSON", help="davis: only the frames that this meta.json of YouTube-VOS lists, of its videos"
    )
    p.add_argument("--split", help="burst, sa-v: name of the split (default val, train)")
    p.add_argument("--dataset", help="burst: name of the data set (default stcn-ray)")
    p.add_argument(
        "--categories",
        metavar="JSON",
        help="burst, coco, youtube-vis: ids of categories from this file of the data set (its `categories`, by name; "
        "default: numbered from 1)",
    )
    p.add_argument(
        "--frame-names",
        choices=("source", "index"),
        help="davis, burst, coco, youtube-vis: as the images of the source are named, where it is a folder of images "
        "that can be listed, or after the frame's index (default source)",
    )
    p.add_argument("--scratch", metavar="DIR", help="local folder for temporary files (default: the system's)")
    p.add_argument(
        "--threads", type=positive, metavar="N", help="davis, sa-v, stcnbuf: default one per core, 8 at most"
    )
    p.add_argument("--json", action="store_true", help="what was done as one JSON object")
    p.add_argument("--masks-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    p.add_argument("--to-options", type=options, default={}, metavar="JSON", help="fsspec options of DIR")
    p.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options of the sources")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, exports, prints. Returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    if wrong := misplaced(args, "format", BELONGS):
        p.error(wrong)
    try:
        report = export(args)
    except (OSError, LookupError, ValueError) as error:
        # A LookupError shows its text in quotes.
        shown = ConvertError(error.args[0]) if isinstance(error, LookupError) else error
        return refuse(shown, ExitCode.BAD_ARGUMENTS)
    _say_named_by_index(report["named_by_index"])
    print(json.dumps(report, indent=2) if args.json else _summary(report))
    return ExitCode.DONE


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the files; returns what `--json` prints. Raises ConvertError and what storage raises."""
    form, losses = FORMATS[args.format], Losses()
    with explained(args.masks, "read"):
        output = MasksOutput(args.masks, args.masks_options)
        finished = output.finished()
        objects = output.tracks()
    meta = read_meta(args.meta) if args.meta else None
    refusal = getattr(form, "refusal", None)
    refused = {video_id: refusal(own) for video_id, own in objects.items()} if refusal is not None else {}
    chosen, left_out = choose(finished, args.only, meta, output.shown, refused)
    left_out |= _unfinished(args, {video.video_id for video in finished})
    target, out = Storage(args.to, args.to_options), Storage(args.masks, args.masks_options)
    if out.holds(args.to):
        raise ConvertError(f"{target.url} lies in {out.url}, which holds masks and nothing else: give another --to")
    categories = read_categories(args.categories) if args.categories else None
    settings = ExportSettings(meta, args.split, args.dataset, categories)
    bar = tqdm(total=sum(video.masks for video in chosen), unit=" masks", desc="export", file=sys.stderr,
               disable=not sys.stderr.isatty())  # fmt: skip
    with bar, explained(args.masks, "read"):
        videos = []
        for video in chosen:
            images, unlisted = _images(video, args)
            videos.append(output.video(video, objects.get(video.video_id, ()), images, bar.update, unlisted))
        places = form.places(videos)
        there = _there(target, places)
        if there:
            require_leave(args, target.url, there)
        kept = there if args.skip_existing else frozenset()
        written, size = set(), 0

        def publish(file: OutFile) -> tuple[str, int]:
            return file.name, _publish(target, file, args.scratch)

        wanted = _not_kept(form.files(videos, settings, losses), kept)
        # One file is made in this thread, which Ctrl-C stops.
        threads = args.threads or usual_processes()
        for name, length in map(publish, wanted) if args.format in WHOLE else side_by_side(publish, wanted, threads):
            written.add(name)
            size += length
        for name in there - written - kept:
            target.delete(name)
    _tidy(target)
    return {
        "format": args.format,
        "to": target.url,
        "videos": len(videos),
        "files": len(written),
        "bytes": size,
        "kept": len(kept),
        "left_out": left_out,
        "named_by_index": {video.video_id: video.unlisted for video in videos if video.unlisted is not None},
        "not_held": losses.line(),
    }


def require_leave(args: argparse.Namespace, to: str, there: Collection[str]) -> None:
    """Raises ConvertError where the options do not say what becomes of the files that are there, or would lose some."""
    if args.format not in WHOLE:
        if not (args.overwrite or args.skip_existing):
            raise ConvertError(
                f"{to} has {len(there)} of the files already (such as {min(there)}): --overwrite replaces them, "
                "--skip-existing keeps them, or give another --to"
            )
        return
    name = f"{to}/{min(there)}"
    if args.only:
        raise ConvertError(
            f"{name} may hold other videos, and all videos of this format are in one file: leave out --only, remove "
            "the file, or give another --to"
        )
    if not args.overwrite:
        raise ConvertError(
            f"{name} is there already, and the videos of this export may be others: --overwrite replaces it, or give "
            "another --to"
        )


def choose(
    finished: Sequence[FinishedVideo],
    only: Sequence[str] | None,
    meta: dict[str, set[str]] | None,
    shown: str,
    refused: Mapping[str, str | None],
) -> tuple[list[FinishedVideo], dict[str, str]]:
    """(videos to export, video id -> why not, of the others). refused: video id -> why the format has no place for it.

    Raises ConvertError where --only names one of the others, or there is nothing to export.
    """
    unknown = sorted(set(only or ()) - {video.video_id for video in finished})
    if unknown:
        raise ConvertError(f"{shown} holds no finished video {unknown[0]!r}: check --only, or see jobs.status")
    chosen, left_out = [], {}
    for video in finished:
        if only and video.video_id not in only:
            continue
        if video.failed:
            left_out[video.video_id] = f"failed: {video.message}"
        elif meta is not None and video.video_id not in meta:
            left_out[video.video_id] = "not in --meta"
        elif refused.get(video.video_id):
            left_out[video.video_id] = refused[video.video_id]
        else:
            chosen.append(video)
    if only and left_out:
        video_id, reason = next(iter(left_out.items()))
        raise ConvertError(f"{video_id!r} of {shown} cannot be exported: {reason}")
    if not chosen:
        raise ConvertError(
            f"{shown} holds no video to export" + "".join(f"; {k}: {v}" for k, v in left_out.items())[:300]
        )
    return chosen, left_out


def read_meta(url: str) -> dict[str, set[str]]:
    """Video id -> stems of the frames that a YouTube-VOS meta.json lists for any object. Raises ConvertError."""
    fs, path = connect(url)
    with explained(url, "read"):
        data = fs.cat_file(path)
    try:
        videos = json.loads(data)["videos"]
        return {
            video_id: {str(frame) for one in video["objects"].values() for frame in one["frames"]}
            for video_id, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConvertError(
            f"{public_url(url)} is no meta.json of YouTube-VOS ({type(error).__name__}: {error}): it has videos, these "
            "objects, these frames"
        ) from error


def read_categories(url: str) -> dict[str, int]:
    """Name -> id of the `categories` in a JSON file. Raises ConvertError."""
    fs, path = connect(url)
    with explained(url, "read"):
        data = fs.cat_file(path)
    try:
        return {str(one["name"]): int(one["id"]) for one in json.loads(data)["categories"]}
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConvertError(f"{public_url(url)} has no categories with id and name ({what})") from error


def _images(video: FinishedVideo, args: argparse.Namespace) -> tuple[list[str] | None, str | None]:
    """As `source_images`; (None, None) also where nobody asks for names."""
    if args.frame_names == "index" or args.format not in BELONGS["frame_names"]:
        return None, None
    images, unlisted = source_images(video.row, args.input_options)
    if args.format == "davis" and images is not None:
        stems = Counter(map(stem_of, images))
        stem, count = stems.most_common(1)[0] if stems else ("", 0)
        if count > 1:  # 1.jpg and 1.png: one of them would take the other's mask
            return None, f"{count} of its images are called {stem}: rename one"
    return images, unlisted


def _unfinished(args: argparse.Namespace, finished: set[str]) -> dict[str, str]:
    """Videos of the plan without a row of `videos` yet."""
    if args.only:
        return {}
    try:
        plan = read_plan(Storage(args.masks, args.masks_options)) or ()
    except Unreadable:
        return {}
    return {unit.video_id: "not finished yet" for unit in plan if unit.video_id not in finished}


def _there(target: Storage, places: Sequence[str]) -> set[str]:
    """The files that lie at `places` (files, or folders that end in a slash) now."""
    wanted = set(places)
    tops = {place.partition("/")[0] for place in wanted if place.endswith("/")}
    found = {name for top in tops for name in target.list(top) if f"{name.rpartition('/')[0]}/" in wanted}
    alone = [place for place in wanted if not place.endswith("/")]
    # Many are looked up in one listing: a question for each takes long where storage is far.
    there = target.list() if len(alone) > FEW else filter(target.exists, alone)
    return found | wanted.intersection(there)


def _not_kept(files: Iterator[OutFile], kept: set[str] | frozenset[str]) -> Iterator[OutFile]:
    return (file for file in files if file.name not in kept)


def _publish(target: Storage, file: OutFile, scratch: str | None) -> int:
    """Writes one file, whole or not at all; its size in bytes."""
    if file.small:
        data = BytesIO()
        file.write(data)
        return target.publish(file.name, data.getvalue()).size
    with explained(f"{scratch or tempfile.gettempdir()} (see --scratch)", "written"):
        made = tempfile.TemporaryDirectory(prefix="stcn-export-", dir=scratch)
    with made as folder:
        path = Path(folder) / "file"
        with disk_explained(f"{folder} (see --scratch)", "written"), open(path, "wb") as out:
            file.write(out)
        return target.publish(file.name, path).size


def _tidy(target: Storage) -> None:
    """Removes the folders in which files waited for their names."""
    if target.local:
        for name in ("_run/tmp", "_run"):
            with suppress(OSError):  # somebody else's, or not there
                (Path(target.url) / name).rmdir()


def _say_named_by_index(why: Mapping[str, str]) -> None:
    """why: video id -> why the names of its images are not to be had."""
    if why:
        video_id, reason = next(iter(why.items()))
        say(
            f"the frames of {len(why)} videos are named after their indices and not after their images, such as those "
            f"of {video_id}: {reason}; or see --input-options, or give --frame-names index if that is meant"
        )


def _summary(report: dict[str, Any]) -> str:
    for video_id, reason in report["left_out"].items():
        say(f"left out: {video_id} ({reason})")
    kept = f", {report['kept']} were there already" if report["kept"] else ""
    lines = [f"{report['to']}: {report['videos']} videos in {report['files']} files of {report['bytes']} bytes{kept}"]
    if report["not_held"]:
        lines.append(f"{report['format']} does not hold: {report['not_held']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
