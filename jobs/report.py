"""One page that shows a run: totals, pace, failures with their remedies, and every video, the most doubtful first.

    python -m jobs.report OUT --to report.html

The page is one file that any browser opens offline. Per video it shows frames with the masks drawn in, and the area,
score and doubt of each object over time. Pictures come from the source videos where they can be reached from here;
otherwise the masks stand alone on grey. From the 201st video on pictures and courses lie in side files beside the page
(report.parts/), drawn after it: stopped meanwhile, the page says of which videos they are missing. Works at any moment
of a run, from any storage.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from cluster.exit_codes import ExitCode
from cluster.inspect.inspection import Output, Unreadable, look, read_rows, side_by_side
from cluster.inspect.video_rows import video_numbers
from cluster.resume import TABLES
from cluster.stores.storage import Storage
from jobs.arguments import options, positive
from jobs.messages import refuse, run_command, say
from jobs.views.place import placed
from jobs.views.report import page
from jobs.views.report.details import Course, course_of, frames_to_show, object_courses
from jobs.views.report.side_files import SideFiles
from jobs.views.report.summary import read_videos, run_summary, video_record
from jobs.views.report.thumbnails import Thumbnails, data_uri, thumbnail_size
from schemas import tracks as tracks_schema
from schemas import videos as videos_schema

PAGE_BYTES = 19_500_000  # what the page may weigh with INLINE videos
PICTURE_BYTES = 14_000  # of one picture; more is not seen
INLINE = 200
PER_PART = 50  # videos per side file
MIB = 1 << 20
LEGEND = (
    "Courses: filled, the object's area; red, its doubt (of a stretch the highest); dashed, its score (the mean "
    "probability inside, of a stretch the lowest); the line below, frames with a mask; blue, given masks. Doubtful: "
    "doubt of 0.5 or more, or no mask where there was one just before."
)


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.report",
        description=__doc__,
        epilog="Exit codes: 0 written, 2 there is no such output or it cannot be read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("output", metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--to", required=True, metavar="HTML", help="the page to write, path or fsspec URL")
    p.add_argument("--frames-per-video", type=positive, default=9, help="pictures of each (default %(default)d)")
    p.add_argument("--videos", type=positive, metavar="N", help="details only of the N videos that most need a look")
    p.add_argument("--only", action="append", metavar="VIDEO_ID", help="just this video (may be repeated)")
    p.add_argument("--no-frames", action="store_true", help="do not read the source videos: masks alone on grey")
    p.add_argument(
        "--most-mib", type=positive, default=512, help="a remote source larger than this is not fetched (default 512)"
    )
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    p.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options of the videos")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, looks, writes. Returns the exit code."""
    args = parser().parse_args(argv)
    try:
        written = report(args)
    except (LookupError, OSError, ValueError) as error:
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    print(f"wrote {args.to}: {written.videos} videos, {written.characters / 1e6:.1f} MB", end="")
    print(f" and {written.parts} side files" if written.parts else "")
    if written.on_grey:
        say(f"{written.on_grey} videos show masks alone on grey: their sources were not read")
    return ExitCode.DONE


@dataclass(frozen=True)
class Written:
    """What became of a report. on_grey: videos without pictures."""

    videos: int
    parts: int
    on_grey: int
    characters: int


def report(args: argparse.Namespace) -> Written:
    """Looks at everything once for the order, then draws video by video. Raises NoOutput, Unreadable, OSError."""
    storage = Storage(args.output, args.output_options)
    storage.keep_out(args.to, TABLES)
    output = look(storage)
    rows, notes = read_videos(output)
    if args.only:
        missing = set(args.only) - {row["video_id"] for row in rows}
        if missing:
            raise LookupError(f"{output.storage.url} holds no finished video {sorted(missing)[0]!r}: check --only")
        rows = [row for row in rows if row["video_id"] in args.only]
    objects = _objects(output, notes)
    needs = _needs(output.storage, rows, objects, notes)
    ordered = sorted(rows, key=lambda row: _order(row, needs))
    shown = [row for row in ordered if row["video_id"] in needs][: args.videos]
    index = {row["video_id"]: n for n, row in enumerate(ordered)}
    records = [_listed(row, needs, objects) for row in ordered]
    side_files = SideFiles(args.to)
    beyond = shown[INLINE:]
    for n, row in enumerate(beyond):
        records[index[row["video_id"]]]["part"] = side_files.source(n // PER_PART + 1)
    head = run_summary(output, rows, notes)
    shares = [(needs[row["video_id"]][1], row["mask_rows"] or 0) for row in rows if row["video_id"] in needs]
    shares = [(share, masks) for share, masks in shares if share is not None]
    masks = sum(masks for _, masks in shares)
    head |= {
        "key": side_files.key,
        "videos": records,
        "legend": LEGEND,
        "doubtful": sum(share * weight for share, weight in shares) / masks if masks else None,
    }
    on_grey = 0
    room = (PAGE_BYTES - len(page.as_json(head)) - 60_000) // max(1, min(INLINE, len(shown)))
    quiet = not sys.stderr.isatty()
    with (
        Thumbnails(
            output.storage,
            frames=not args.no_frames,
            most_bytes=args.most_mib * MIB,
            options=args.input_options,
        ) as thumbnails,
        tqdm(total=len(shown), unit=" videos", desc="drawing", disable=quiet) as bar,
    ):

        def details(chosen: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
            nonlocal on_grey
            for row in chosen:
                found = video_details(output.storage, row, objects, thumbnails, args.frames_per_video, room)
                on_grey += found["masks_only"] is not None
                bar.update()
                yield index[row["video_id"]], found

        with placed(args.to, ".html") as target, target.open("w", encoding="utf-8") as out:
            nonce = page.begin(out, f"Masks report: {output.storage.url}", head)
            for n, found in details(shown[:INLINE]):
                page.add_details(out, n, found)
            page.end(out, nonce)
            characters = out.tell()
        try:
            side_files.remove_others()
        except OSError as error:  # they are of no use, and of no harm
            say(str(error))
        for start in range(0, len(beyond), PER_PART):
            side_files.write(start // PER_PART + 1, details(beyond[start : start + PER_PART]))
    return Written(len(rows), -(-len(beyond) // PER_PART), on_grey, characters)


def video_details(
    storage: Storage,
    row: Mapping[str, Any],
    objects: Mapping[str, Mapping[int, str | None]],
    thumbnails: Thumbnails,
    count: int,
    room: int,
) -> dict[str, Any]:
    """A finished video's strip and courses for page.js, in about `room` bytes. Raises Unreadable, OSError."""
    labels = objects.get(row["video_id"], {})
    course = course_of(video_numbers(storage, row), row, list(labels))
    courses = object_courses(course, labels)
    chosen = frames_to_show(course, count)
    left = (room - len(json.dumps(courses)) - 200 * len(chosen)) * 3 // 4  # base64 takes four for three
    budget = max(2000, min(left, PICTURE_BYTES * len(chosen)))
    strip = thumbnails.strip(row, [frame for frame, _, _ in chosen], budget)
    pictures = [
        {
            "f": frame,
            "k": kind,
            "src": data_uri(strip.pictures[frame]),
            **({"d": round(one.doubt, 3), "o": _doubts(one.objects)} if one is not None else {}),
        }
        for frame, kind, one in chosen
    ]
    size = thumbnail_size(row["height"], row["width"])
    return {"strip": pictures, "size": size, "masks_only": strip.masks_only, "course": courses}


def _doubts(objects: Mapping[int, tuple[float, bool]]) -> list[list]:
    worst = sorted(objects.items(), key=lambda item: -item[1][0])[:8]
    return [[object_id, round(doubt, 3), int(present)] for object_id, (doubt, present) in worst]


def _objects(output: Output, notes: list[str]) -> dict[str, dict[int, str | None]]:
    """video_id -> its objects and their labels, from the `tracks` table."""
    found: dict[str, dict[int, str | None]] = {}
    columns = ["video_id", "object_id", "label"]
    for name, rows in read_rows(output.storage, output.names("tracks"), tracks_schema, columns):
        if isinstance(rows, Exception):
            notes.append(f"{name}: {rows}")
            continue
        for row in rows:
            found.setdefault(row["video_id"], {})[row["object_id"]] = row["label"]
    return found


def _needs(
    storage: Storage, rows: Sequence[Mapping[str, Any]], objects: Mapping[str, Mapping], notes: list[str]
) -> dict[str, tuple[float, float | None]]:
    """video_id of each finished video -> (how much it needs a look, share of doubtful masks; None: not known)."""

    def one(row: Mapping[str, Any]) -> tuple[str, Course | Exception]:
        try:
            return row["video_id"], course_of(video_numbers(storage, row), row, list(objects.get(row["video_id"], ())))
        except (OSError, Unreadable) as error:
            return row["video_id"], error

    found = {}
    done = [row for row in rows if row["status"] != videos_schema.FAILED]
    bar = tqdm(
        side_by_side(one, done), total=len(done), unit=" videos", desc="looking", disable=not sys.stderr.isatty()
    )
    for video_id, course in bar:
        if isinstance(course, Exception):
            notes.append(f"{video_id}: {course}")
        else:
            found[video_id] = (course.need, course.share if course.known else None)
    return found


def _order(row: Mapping[str, Any], needs: Mapping[str, tuple]) -> tuple:
    """Failed first, then what cannot be read, then truncated, then by need."""
    rank = {videos_schema.FAILED: 0, videos_schema.TRUNCATED: 2}.get(row["status"], 3)
    if rank and row["video_id"] not in needs:
        rank = 1
    return rank, -needs.get(row["video_id"], (0.0,))[0], row["video_id"]


def _listed(row: Mapping[str, Any], needs: Mapping[str, tuple], objects: Mapping[str, Mapping]) -> dict[str, Any]:
    record = video_record(row)
    share = needs.get(row["video_id"], (0.0, None))[1]
    labels = [label for label in objects.get(row["video_id"], {}).values() if label]
    words = [record["id"], record["message"] or "", record["status"], *labels[:50]]
    return record | {"share": None if share is None else round(share, 4), "text": " ".join(words).lower(), "part": None}


if __name__ == "__main__":
    sys.exit(run_command(main))
