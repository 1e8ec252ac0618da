"""J, F and J&F of annotated videos against true masks (DAVIS protocol), as a table and as JSON.

True masks are PNGs (palette, or grey 0/255; palette 255 is void and counts as background) in one of

    DIR/<video_id>/*.png         DIR/Annotations/480p/<video_id>/*.png
    DIR/<video_id>/masks/*.png   DIR/Annotations/<video_id>/*.png

Which frame a PNG belongs to (--truth-frames): `order` takes them in the order of their names, one per frame; `number`
takes the number in the name as the frame's index. Without it: `order` where there are as many PNGs as frames;
the image of that name where the video is a folder of images that is at hand; otherwise `number`.

With --protocol the benchmark's own rules count, and our row stands under the published ones:

    python -m jobs.evaluate --masks OUT --truth DAVIS --protocol davis2017
"""

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.stores.remote import connect
from cluster.stores.storage import Storage
from cluster.stores.storage_errors import explained
from cluster.truth import TRUTH_FRAMES, TruthError, doubtful
from jobs.arguments import misplaced
from jobs.messages import run_command, say
from jobs.protocols import PROTOCOLS
from jobs.protocols.protocol import Protocol, TruthPlace, VideoTruth, published_table
from jobs.views.place import placed
from schemas import read_masks, videos
from schemas.parquet import read_table
from schemas.urls import public_url
from stcn_core.metrics import VideoMetrics

NAME = "stcn-evaluation"
VERSION = "1.2.0"
# Without --protocol: DAVIS's measures, over every object that a true mask shows.
PLAIN = Protocol("", "", "")
MEASURES = ("J&F", "J", "F", "J_recall", "J_decay", "F_recall", "F_decay")


class EvaluationError(ValueError):
    """Nothing to compare, or what was asked for is not there. The message says what to do."""


class NothingToScore(EvaluationError):
    """A video whose true masks show no object, or none on a frame that counts."""


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    wants = [textwrap.fill(f"  {one.name}: {one.wants}", 118, subsequent_indent=" " * 4) for one in PROTOCOLS.values()]
    p = argparse.ArgumentParser(
        prog="python -m jobs.evaluate",
        description=__doc__,
        epilog="protocols and what they want:\n" + "\n".join(wants),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--masks", required=True, metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--truth", required=True, metavar="DIR", help="folder with true masks, on any fsspec URL")
    p.add_argument("--protocol", choices=PROTOCOLS, metavar="NAME", help=f"one of {', '.join(PROTOCOLS)} (see below)")
    p.add_argument("--meta", metavar="FILE", help="youtube-vos: its meta.json")
    p.add_argument("--seen", metavar="FILE", help="youtube-vos: the training set's meta.json, for its categories")
    p.add_argument("--json", metavar="FILE", help="also write the scores to this file, path or fsspec URL")
    p.add_argument("--video-id", action="append", help="just this video (may be repeated; default: all with truth)")
    p.add_argument("--all-frames", action="store_true", help="count the first and last frame too (DAVIS drops them)")
    p.add_argument("--truth-frames", choices=TRUTH_FRAMES, help="how a PNG's frame is told (see above)")
    p.add_argument("--masks-options", type=json.loads, default={}, metavar="JSON", help="fsspec options of --masks")
    p.add_argument("--truth-options", type=json.loads, default={}, metavar="JSON", help="fsspec options of --truth")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, evaluates, prints. 0: done, 2: something cannot be compared."""
    p = parser()
    args = p.parse_args(argv)
    if wrong := misplaced(args, "protocol", {"meta": ("youtube-vos",), "seen": ("youtube-vos",)}):
        p.error(wrong)
    protocol = PROTOCOLS.get(args.protocol, PLAIN)
    try:
        report = evaluate(
            args.masks,
            args.truth,
            protocol=protocol,
            meta=args.meta,
            seen=args.seen,
            video_ids=args.video_id,
            all_frames=args.all_frames,
            truth_frames=args.truth_frames,
            masks_options=args.masks_options,
            truth_options=args.truth_options,
        )
        if args.json:
            write_json(report, args.json)
    except (LookupError, OSError, ValueError) as error:
        # A LookupError shows its text in quotes.
        print(f"error: {error.args[0] if isinstance(error, LookupError) else error}", file=sys.stderr)
        return 2
    print(table(report))
    doubts = {video["video_id"]: video["frames_doubt"] for video in report["videos"] if video["frames_doubt"]}
    if doubts:
        say(doubtful(doubts))
    if args.protocol:
        print("\n" + "\n".join(published_table(protocol, report["row"])))
    return 0


def evaluate(
    masks: str,
    truth: str,
    *,
    protocol: Protocol = PLAIN,
    video_ids: Sequence[str] | None = None,
    all_frames: bool = False,
    truth_frames: str | None = None,
    meta: str | None = None,
    seen: str | None = None,
    masks_options: Mapping[str, Any] | None = None,
    truth_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report that `--json` writes. Masks are streamed, frame by frame.

    A video whose true masks cannot be used is left out. Raises EvaluationError, or what reading raises (OSError,
    LookupError, ValueError).
    """
    known = read_videos(Storage(masks, masks_options))
    place = TruthPlace(truth, *connect(truth, truth_options), truth_frames, meta, seen, truth_options)
    unknown = set(video_ids or ()) - set(known)
    if unknown:
        raise EvaluationError(f"{public_url(masks)} holds no finished video {sorted(unknown)[0]!r}: check --video-id")
    evaluated, left_out = [], []
    for video_id in sorted(set(video_ids or known)):
        reason = None
        if known[video_id]["status"] == videos.FAILED:
            reason = f"failed: {known[video_id]['message']}"
        else:
            try:
                with explained(truth, "listed"):
                    found = protocol.find(place, known[video_id])
                if found is not None:
                    frames = read_masks(masks, video_id, masks_options, row=known[video_id])
                    evaluated.append(_video(known[video_id], found, frames, protocol, all_frames))
                else:
                    reason = f"no PNGs in {public_url(truth)}/{video_id}, nor in its masks, nor under Annotations"
            except (NothingToScore, TruthError) as error:
                reason = str(error)
        if reason is not None:
            if video_ids:
                raise EvaluationError(f"{video_id} cannot be evaluated: {reason}")
            left_out.append({"video_id": video_id, "reason": reason})
    if not evaluated:
        # Of a video that has truth the reason says more.
        told = sorted(left_out, key=lambda one: one["reason"].startswith("no PNGs in"))[:1]
        why = "".join(f" ({one['video_id']}: {one['reason']})" for one in told)
        raise EvaluationError(f"{public_url(masks)} has no finished video with truth in {public_url(truth)}{why}")
    return {
        "schema": NAME,
        "version": VERSION,
        "masks": public_url(masks),
        "truth": public_url(truth),
        "first_and_last_frame": all_frames or protocol.all_frames,
        "protocol": protocol.name or None,
        "row": protocol.row(evaluated),
        "overall": _overall([row for video in evaluated for row in video["objects"]]),
        "videos": evaluated,
        "left_out": left_out,
    }


def read_videos(storage: Storage) -> dict[str, dict[str, Any]]:
    """The `videos` table by video_id. Raises EvaluationError where there is none."""
    found = {}
    for name in storage.list("videos"):
        if name.endswith(".parquet"):
            with storage.open_input(name) as file:
                for row in read_table(file).to_pylist():
                    found[row["video_id"]] = row
    if not found:
        raise EvaluationError(f"{storage.url} holds no finished video: give the --output of an annotate run")
    return found


def _video(
    video: Mapping[str, Any],
    truth: VideoTruth,
    predicted: Iterator[tuple[int, dict[int, np.ndarray]]],
    protocol: Protocol,
    all_frames: bool,
) -> dict[str, Any]:
    metrics, skipped, first_ids = VideoMetrics(), 0, None
    frame, masks = next(predicted, (math.inf, {}))
    for index, source in truth.frames:
        if not _annotated(index, video):
            skipped += 1
            continue
        while frame < index:
            frame, masks = next(predicted, (math.inf, {}))
        true, ours = truth.read(source), masks if frame == index else {}
        if protocol.merged:
            true, ours = _merged(true), _merged(ours)
        if first_ids is None:
            first_ids = range(1, max(true, default=0) + 1)
        metrics.add(ours, true)
    scored = metrics.scores(
        all_frames or protocol.all_frames, protocol.counted, first_ids if protocol.first_objects else None
    )
    if protocol.counted != "every":
        scored = [scores for scores in scored if scores.frames]
    objects = [
        {
            "object_id": scores.object_id,
            "frames": scores.frames,
            "J": scores.j.mean,
            "F": scores.f.mean,
            "J&F": scores.jf,
            "J_recall": scores.j.recall,
            "J_decay": scores.j.decay,
            "F_recall": scores.f.recall,
            "F_decay": scores.f.decay,
            **({"group": truth.groups[scores.object_id]} if scores.object_id in truth.groups else {}),
        }
        for scores in scored
    ]
    if not objects or not objects[0]["frames"]:
        what = "show no object" if not objects else "leave no frame when the first and last are dropped: --all-frames"
        raise NothingToScore(f"{truth.example}: the true masks of {video['video_id']} {what}")
    return {
        "video_id": video["video_id"],
        "status": video["status"],
        "true_masks": len(truth.frames),
        "true_masks_of_other_frames": skipped,
        "frames_annotated": video["frames_annotated"],
        "seconds_final": video["seconds_final"],
        "frames_told_by": truth.by,
        "frames_doubt": truth.doubt,
        **_overall(objects),
        "objects": objects,
    }


def _merged(masks: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """All objects as object 1."""
    return {1: np.logical_or.reduce([mask != 0 for mask in masks.values()])} if masks else {}


def _annotated(index: int, video: Mapping[str, Any]) -> bool:
    """Whether the frame was to be annotated (range and stride)."""
    first, stride = video["first_frame"] or 0, video["stride"] or 1
    return (index - first) % stride == 0 and 0 <= (index - first) // stride < video["frames_annotated"]


def _overall(objects: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over objects, as the benchmark takes them."""
    return {"n_objects": len(objects)} | {key: float(np.mean([row[key] for row in objects])) for key in MEASURES}


def table(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    head = ("video", "object", "frames", *(key.replace("_", " ") for key in MEASURES))
    lines: list[tuple[str, ...]] = [head]
    for video in report["videos"]:
        for row in video["objects"]:
            numbers = [f"{row[key]:.3f}" for key in MEASURES]
            lines.append((video["video_id"], str(row["object_id"]), str(row["frames"]), *numbers))
    overall = report["overall"]
    lines.append(("mean over objects", str(overall["n_objects"]), "", *(f"{overall[key]:.3f}" for key in MEASURES)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    text[-1:-1] = ["-" * len(text[0])]
    for video in report["left_out"]:
        text.append(f"left out: {video['video_id']} ({video['reason']})")
    for video in report["videos"]:
        if video["true_masks_of_other_frames"]:
            count = video["true_masks_of_other_frames"]
            text.append(f"{video['video_id']}: {count} true masks are of frames that were not annotated")
    return "\n".join(text)


def write_json(report: Mapping[str, Any], url: str) -> None:
    """Writes the report in one step; numbers that are not defined become null. Raises OSError."""
    with placed(url, ".json") as target:
        target.write_text(json.dumps(_defined(report), indent=2, allow_nan=False) + "\n")


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(run_command(main))
