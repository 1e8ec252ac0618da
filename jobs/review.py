"""Which frames to correct: per video those that are doubtful and unlike each other, as the manifest of a second run.

    python -m jobs.review OUT --to review.jsonl --per-video 3

Every line is a row of the manifest that OUT was made from, with its prompts and, for each suggested frame, one empty
prompt per object: {"frame": 812, "object_id": 1, "mask": null, "suggested": {"doubt": 0.83, ...}}. Put a mask (a PNG's
path, or "rle") in place of null where you have one: the object's true mask, an empty one where it is not there. What
stays null is left out. Then

    python -m jobs.annotate --manifest review.jsonl --output OUT2 --reuse OUT

does the videos again whose prompts changed, and copies the others. With --truth the suggested frames are filled in with
true masks, to measure what corrections bring; with --random frames are chosen by lot, to compare.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from cluster.exit_codes import ExitCode
from cluster.inspect.inspection import Unreadable, look, read_rows, side_by_side
from cluster.inspect.video_rows import video_numbers
from cluster.kept_manifest import MANIFEST_NAME, kept_rows
from cluster.resume import TABLES
from cluster.stores.source import read_source
from cluster.stores.storage import Storage
from cluster.truth import TRUTH_FRAMES, doubtful
from jobs.arguments import options, positive, share
from jobs.messages import refuse, run_command, say
from jobs.views.fill import TrueMasks
from jobs.views.found_numbers import with_numbers
from jobs.views.place import keep_existing, placed
from jobs.views.suggest import Suggestion, at_random, suggest, video_doubts
from schemas import tracks as tracks_schema
from schemas import videos as videos_schema
from schemas.manifest import VideoRow, parse_manifest
from schemas.manifest_record import row_record
from schemas.prompt_record import SUGGESTED
from schemas.urls import parent


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.review",
        description=__doc__,
        epilog="Exit codes: 0 written, 2 JSONL is there (see --overwrite), or OUT is not there or cannot be read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("output", metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--to", required=True, metavar="JSONL", help="the manifest to write, path or fsspec URL")
    p.add_argument("--overwrite", action="store_true", help="replace that file (default: refuse if it is there)")
    p.add_argument("--per-video", type=positive, default=3, help="frames suggested per video (default %(default)d)")
    p.add_argument("--videos", type=positive, metavar="N", help="suggest frames only in the N most doubtful videos")
    p.add_argument(
        "--least-doubt",
        type=share,
        default=0.0,
        metavar="D",
        help="suggest no frame with less doubt (0 to 1, default 0)",
    )
    p.add_argument(
        "--manifest",
        help="what OUT was made from, where it does not say so itself (it keeps no URLs that hold credentials)",
    )
    p.add_argument("--truth", metavar="DIR", help="fill suggested frames with true masks, as jobs.evaluate finds them")
    p.add_argument("--truth-frames", choices=TRUTH_FRAMES, help="as in jobs.evaluate")
    p.add_argument("--random", type=int, metavar="SEED", help="frames by lot instead of the most doubtful ones")
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    p.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options of --manifest")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, looks, writes. Returns the exit code."""
    args = parser().parse_args(argv)
    try:
        storage = Storage(args.output, args.output_options)
        storage.keep_out(args.to, TABLES)
        if not args.overwrite:
            keep_existing(args.to)
        rows = manifest_rows(storage, args.manifest, args.input_options)
        truth = TrueMasks(args.truth, args.input_options, args.truth_frames) if args.truth else None
        reviewed = review(storage, rows, args.per_video, args.least_doubt, args.random, truth)
        reviewed = most_doubtful(reviewed, args.videos)
        with placed(args.to, ".jsonl") as target, target.open("w", encoding="utf-8") as file:
            for video in reviewed:
                file.write(json.dumps(video.record(), ensure_ascii=False) + "\n")
    except (LookupError, OSError, ValueError) as error:
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    if truth is not None and truth.doubts:
        say(doubtful(dict(sorted(truth.doubts.items()))))
    frames = [one for video in reviewed for one in video.suggestions]
    asked = sum(bool(video.suggestions) for video in reviewed)
    print(f"wrote {args.to}: {len(frames)} frames suggested in {asked} of {len(reviewed)} videos")
    return ExitCode.DONE


@dataclass(frozen=True)
class Reviewed:
    """A manifest row and the frames of its video that are worth a correction, the most worthy first."""

    row: VideoRow
    suggestions: Sequence[Suggestion]
    masks: Mapping[int, Mapping[int, Any]] = field(default_factory=dict)  # frame -> object id -> RLE, where filled in

    @property
    def doubt(self) -> float:
        """The most doubtful of its suggested frames."""
        return max((one.doubt for one in self.suggestions), default=0.0)

    def record(self) -> dict[str, Any]:
        """The row with an empty prompt per suggested frame and object, objects in the order of their doubt."""
        record = row_record(self.row)
        for rank, one in enumerate(self.suggestions, 1):
            for object_id, (doubt, present) in sorted(one.objects.items(), key=lambda item: (-item[1][0], item[0])):
                note = {"rank": rank, "doubt": round(doubt, 3)} | ({} if present else {"no_mask": True})
                rle = self.masks.get(one.frame, {}).get(object_id)
                what = {"mask": None} if rle is None else {"rle": rle}
                record["prompts"].append({"frame": one.frame, "object_id": object_id, **what, SUGGESTED: note})
        return record


def manifest_rows(storage: Storage, manifest: str | None, input_options: Mapping[str, Any]) -> list[VideoRow]:
    """The rows that the output was made from. Raises ManifestError, FileNotFoundError, OSError."""
    if manifest is not None:
        return list(parse_manifest(manifest, read_source(manifest, input_options), parent(manifest)))
    try:
        return kept_rows(storage)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{storage.url} has no {MANIFEST_NAME}: give --manifest, the manifest that it was made from"
        ) from error


def review(
    storage: Storage,
    rows: Sequence[VideoRow],
    per_video: int,
    least: float = 0.0,
    seed: int | None = None,
    truth: TrueMasks | None = None,
) -> list[Reviewed]:
    """All rows in their order; those whose video is not finished, or failed, without suggestions.

    seed: frames by lot. truth: fills them in; frames without a true mask are not suggested then.
    Raises NoOutput, Unreadable, OSError; ValueError where rows of the output's videos are missing.
    """
    output = look(storage)
    finished: dict[str, dict] = {}
    for name, found in read_rows(storage, output.names("videos"), videos_schema, None):
        if isinstance(found, Exception):
            raise Unreadable(f"{name}: {found}")
        finished |= {row["video_id"]: row for row in found if row["status"] != videos_schema.FAILED}
    missing = sorted(set(finished) - {row.video_id for row in rows})
    if missing:
        raise ValueError(
            f"{len(missing)} video(s) of {storage.url} are not in the manifest ({missing[0]}, ...): give --manifest, "
            "the one that it was made from. An output keeps no rows whose URLs hold credentials"
        )

    found_in = found_objects(storage, output.names("tracks"), rows)

    def one(row: VideoRow) -> Reviewed:
        video = finished.get(row.video_id)
        if video is None:
            return Reviewed(row, ())
        row, unnamed = with_numbers(row, found_in.get(row.video_id, ()))
        objects = [prompt.object_id for prompt in row.prompts if prompt.object_id is not None]
        doubts = video_doubts(video_numbers(storage, video), video, objects)
        paths = truth.of(video) if truth is not None else None
        given = [prompt.frame for prompt in row.prompts if prompt.frame is not None]
        if paths is not None:
            given += sorted(set(doubts.frames.tolist()) - set(paths))
        found = suggest(doubts, per_video, given) if seed is None else at_random(doubts, per_video, given, seed)
        found = [suggestion.without(unnamed) for suggestion in found if suggestion.doubt >= least]
        if not paths:
            return Reviewed(row, found if truth is None else ())
        size = (video["height"], video["width"])
        masks = {one.frame: truth.rles(paths[one.frame], size, list(one.objects)) for one in found}
        return Reviewed(row, found, masks)

    quiet = not sys.stderr.isatty()
    return list(tqdm(side_by_side(one, rows), total=len(rows), unit=" videos", desc="looking", disable=quiet))


def found_objects(storage: Storage, names: Sequence[str], rows: Sequence[VideoRow]) -> dict[str, set[int]]:
    """Video id -> its objects that start from detections; looked up only where the rows do not number them.

    Raises Unreadable.
    """
    found: dict[str, set[int]] = {}
    if any(prompt.finds and prompt.object_id is None for row in rows for prompt in row.prompts):
        for name, tracks in read_rows(storage, names, tracks_schema, ("video_id", "object_id", "found_by")):
            if isinstance(tracks, Exception):
                raise Unreadable(f"{name}: {tracks}")
            for track in tracks:
                if track["found_by"] is not None:
                    found.setdefault(track["video_id"], set()).add(track["object_id"])
    return found


def most_doubtful(reviewed: Sequence[Reviewed], count: int | None) -> list[Reviewed]:
    """The same, in their order, with suggestions only in the `count` most doubtful videos."""
    if count is None:
        return list(reviewed)
    kept = set(sorted(range(len(reviewed)), key=lambda n: -reviewed[n].doubt)[:count])
    return [video if n in kept else Reviewed(video.row, ()) for n, video in enumerate(reviewed)]


if __name__ == "__main__":
    sys.exit(run_command(main))
