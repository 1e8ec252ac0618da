"""Which scores find bad masks? AUROC of every score column for masks with J < 0.5, against true masks.

    python -m jobs.trust --masks OUT --truth DIR

AUROC: the chance that a bad mask has more doubt than a good one; 0.5 is a coin. Given masks are left out. `pooled`:
over all masks together; `within`: the mean over objects that have bad and good masks, which says whether a score finds
the bad frames of one video; `rho`: the mean over objects of the rank correlation of doubt with 1 - J. area_jump and
position_jump are computed from neighbouring rows. True masks lie as for jobs.evaluate.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.exit_codes import ExitCode
from cluster.inspect.video_rows import video_masks, video_numbers
from cluster.stores.remote import connect
from cluster.stores.storage import Storage
from cluster.truth import TRUTH_FRAMES, TruthError, doubtful, find_truth, read_labels
from jobs.arguments import options
from jobs.evaluate import EvaluationError, read_videos, write_json
from jobs.messages import refuse, run_command, say
from jobs.views.timeline import jumps
from schemas import videos
from schemas.urls import public_url
from stcn_core.masks import decode_counts
from stcn_core.metrics import jaccard

NAME, VERSION = "stcn-trust", "1.1.0"
BAD_J = 0.5
# Which way each column points: +1 where more of it means more doubt.
SIGNS = {
    "score": -1, "margin": -1, "edge_margin": -1, "soft_iou": -1, "match_entropy": -1, "match_distance": 1,
    "second_opinion": -1, "doubt": 1, "area_jump": 1, "position_jump": 1,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.trust",
        description=__doc__,
        epilog="Exit codes: 0 measured, 2 bad arguments, or there is nothing to compare.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--masks", required=True, metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--truth", required=True, metavar="DIR", help="folder with true masks, on any fsspec URL")
    p.add_argument("--json", metavar="FILE", help="also write the table to this file, path or fsspec URL")
    p.add_argument("--video-id", action="append", help="just this video (may be repeated; default: all with truth)")
    p.add_argument("--halves", action="store_true", help="also apart for every other video in the order of their ids")
    p.add_argument("--truth-frames", choices=TRUTH_FRAMES, help="as in jobs.evaluate")
    p.add_argument("--masks-options", type=options, default={}, metavar="JSON", help="fsspec options of --masks")
    p.add_argument("--truth-options", type=options, default={}, metavar="JSON", help="fsspec options of --truth")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, measures, prints. 0: done, 2: nothing can be compared."""
    args = parser().parse_args(argv)
    try:
        report = trust(args)
        if args.json:
            write_json(report, args.json)
    except (LookupError, OSError, ValueError) as error:
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    for part in report["parts"]:
        print(table(part))
    return ExitCode.DONE


def trust(args: argparse.Namespace) -> dict[str, Any]:
    """What `--json` writes. Raises EvaluationError, TruthError, OSError, ValueError."""
    storage = Storage(args.masks, args.masks_options)
    known = read_videos(storage)
    fs, root = connect(args.truth, args.truth_options)
    found: dict[str, list[dict]] = {}
    doubts: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for video_id in sorted(set(args.video_id or known)):
        row = known.get(video_id)
        if row is None or row["status"] == videos.FAILED:
            if args.video_id:
                raise EvaluationError(f"{storage.url} holds no finished video {video_id!r}: check --video-id")
            continue
        try:
            truth = find_truth(fs, root, row, args.truth_frames, args.truth_options)
            if truth is not None:
                found[video_id] = list(judged(storage, row, fs, truth.files))
                doubts |= {video_id: truth.doubt} if truth.doubt else {}
        except TruthError as error:
            if args.video_id:
                raise
            left_out[video_id] = str(error)
    if not any(found.values()):
        why = "".join(f" ({video_id}: {reason})" for video_id, reason in list(left_out.items())[:1])
        raise EvaluationError(f"{storage.url} has no finished video with truth in {public_url(args.truth)}{why}")
    for video_id, reason in left_out.items():
        say(f"left out: {video_id} ({reason})")
    if doubts:
        say(doubtful(doubts))
    names = sorted(found)
    parts = {"all videos": names}
    if args.halves:
        parts |= {"every other video, from the first": names[::2], "every other video, from the second": names[1::2]}
    return {
        "schema": NAME,
        "version": VERSION,
        "masks": storage.url,
        "truth": public_url(args.truth),
        "left_out": [{"video_id": video_id, "reason": reason} for video_id, reason in left_out.items()],
        "parts": [
            {"name": name, "videos": chosen, **measured([row for video in chosen for row in found[video]])}
            for name, chosen in parts.items()
        ],
    }


def judged(
    storage: Storage, video: Mapping[str, Any], fs: Any, truth: Sequence[tuple[int, str]]
) -> Iterator[dict[str, Any]]:
    """J and the scores of each object on each frame with truth, given masks left out; `present`: it has a mask."""
    numbers = video_numbers(storage, video)
    numbers |= dict(zip(("area_jump", "position_jump"), jumps(numbers, video["stride"] or 1), strict=True))
    rows = {
        key: n for n, key in enumerate(zip(numbers["object_id"].tolist(), numbers["frame_index"].tolist(), strict=True))
    }
    objects = np.unique(numbers["object_id"]).tolist()
    masks: dict[int, dict[int, np.ndarray]] = {}
    paths = dict(truth)
    for mask in video_masks(storage, video, list(paths)):
        counts = (mask["height"], mask["width"], mask["rle_counts"])
        masks.setdefault(mask["frame_index"], {})[mask["object_id"]] = counts
    for frame in sorted(paths):
        if not _annotated(frame, video):
            continue
        labels = read_labels(fs, paths[frame], (video["height"], video["width"]))
        for object_id in objects:
            n, true = rows.get((object_id, frame)), labels == object_id
            if n is None:
                yield {"video_id": video["video_id"], "object_id": object_id, "frame": frame, "present": False,
                       "J": jaccard(np.zeros_like(true), true)}  # fmt: skip
            elif not numbers["is_prompt"][n]:
                scores = {name: float(numbers[name][n]) for name in SIGNS}
                yield {"video_id": video["video_id"], "object_id": object_id, "frame": frame, "present": True,
                       "J": jaccard(decode_counts(*masks[frame][object_id]), true), **scores}  # fmt: skip


def _annotated(frame: int, video: Mapping[str, Any]) -> bool:
    position, off = divmod(frame - (video["first_frame"] or 0), video["stride"] or 1)
    return off == 0 and 0 <= position < video["frames_annotated"]


def measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """AUROC of every score over these rows."""
    present = [row for row in rows if row["present"]]
    absent = [row for row in rows if not row["present"]]
    objects: dict[tuple, list] = {}
    for row in present:
        objects.setdefault((row["video_id"], row["object_id"]), []).append(row)
    scores = []
    for name, sign in SIGNS.items():
        if not any(np.isfinite(row[name]) for row in present):
            continue
        within = [auroc(*_pair(mine, name, sign)) for mine in objects.values()]
        rho = [rank_correlation(*_doubt(mine, name, sign)) for mine in objects.values()]
        scores.append({"column": name, "pooled": auroc(*_pair(present, name, sign)),
                       "within": _mean(within), "rho": _mean(rho)})  # fmt: skip
    return {
        "masks": len(present),
        "bad": sum(row["J"] < BAD_J for row in present),
        "objects": len(objects),
        "objects_with_both": sum(0 < sum(r["J"] < BAD_J for r in mine) < len(mine) for mine in objects.values()),
        "absent": len(absent),
        "absent_but_visible": sum(row["J"] < BAD_J for row in absent),
        "scores": scores,
    }


def auroc(bad: Sequence[bool], doubt: Sequence[float]) -> float:
    """The chance that a bad one has more doubt than a good one, ties counting half; NaN without both kinds."""
    bad, doubt = np.asarray(bad, bool), np.asarray(doubt, float)
    known = np.isfinite(doubt)
    bad, ranks = bad[known], _ranks(doubt[known])
    positive, negative = int(bad.sum()), int((~bad).sum())
    if not positive or not negative:
        return float("nan")
    return float((ranks[bad].sum() - positive * (positive - 1) / 2) / (positive * negative))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rho; NaN where one of them is constant or nothing is known."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    known = np.isfinite(one) & np.isfinite(other)
    ranks = [_ranks(values[known]) for values in (one, other)]
    if len(ranks[0]) < 2 or min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return (first + (counts - 1) / 2)[inverse]


def _pair(rows: Sequence[Mapping], name: str, sign: int) -> tuple[list[bool], list[float]]:
    return [row["J"] < BAD_J for row in rows], [sign * row[name] for row in rows]


def _doubt(rows: Sequence[Mapping], name: str, sign: int) -> tuple[list[float], list[float]]:
    return [sign * row[name] for row in rows], [1 - row["J"] for row in rows]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def table(part: Mapping[str, Any]) -> str:
    """One part for a person."""
    share = 100 * part["bad"] / max(1, part["masks"])
    lines = [
        f"{part['name']}: {len(part['videos'])} videos, {part['objects']} objects "
        f"({part['objects_with_both']} with good and bad masks), {part['masks']} masks, {part['bad']} of them bad "
        f"({share:.1f} %); of {part['absent']} times that an object had no mask it was visible "
        f"{part['absent_but_visible']} times",
        f"{'score':16}{'pooled':>8}{'within':>8}{'rho':>8}",
    ]
    for row in part["scores"]:
        cells = ("-" if np.isnan(row[key]) else f"{row[key]:.3f}" for key in ("pooled", "within", "rho"))
        lines.append(f"{row['column']:16}" + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join((*lines, ""))


if __name__ == "__main__":
    sys.exit(run_command(main))
