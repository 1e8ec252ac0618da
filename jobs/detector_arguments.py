"""Options of jobs.annotate and jobs.plan for prompts by detector, and what they make of a manifest's rows."""

import argparse
from collections.abc import Sequence

from cluster.detector_weights import DetectorWeights, weights_of
from jobs.arguments import positive, share
from schemas.detector_defaults import DetectorDefaults, needed_detectors, with_weights
from schemas.detector_values import as_frames
from schemas.manifest_values import Wrong
from schemas.prompt import DETECTORS, MATCHINGS, Prompt
from schemas.video_row import VideoRow

EVEN = "even:"


def add_detectors(parser: argparse.ArgumentParser) -> None:
    """Adds the options, in a group of their own."""
    group = parser.add_argument_group(
        "prompts by detector (for videos without prompts, and for what prompts with points or a detector leave open)"
    )
    group.add_argument(
        "--detector",
        choices=DETECTORS,
        help="finds the objects of videos without prompts; with --prompt-masks, --prompt-boxes or --detector-matching "
        "given masks and boxes say which of its detections are meant (default: none; for points mask-rcnn)",
    )
    group.add_argument(
        "--detector-weights",
        action="append",
        default=[],
        metavar="[NAME=]PATH_OR_URL",
        help="of --detector or of the detector NAME: torchvision's .pth, detectron2's .pkl (read without running it), "
        "DINO's .pth, or .safetensors; may be repeated. Nothing is downloaded by itself",
    )
    group.add_argument(
        "--detector-classes", type=class_names, metavar="A,B", help="only these, such as person,dog (default: all)"
    )
    group.add_argument(
        "--detector-score", type=share, metavar="S", help="least score (default 0.5; for points and boxes 0.01)"
    )
    group.add_argument(
        "--max-objects", type=positive, metavar="N", help="at most N per video, best first (default and most: 50)"
    )
    group.add_argument(
        "--detector-frames",
        type=_frames,
        default={},
        metavar="WHERE",
        help="middle (default); 0,50,100: the best of these; even:5: the best of five spread over the video. The best "
        "shows most objects, then has the highest sum of scores",
    )
    group.add_argument(
        "--detector-matching",
        choices=MATCHINGS,
        help="how given boxes choose: no detection twice (one-to-one, default), or each the nearest (STCN_evaluation)",
    )


def with_detectors(
    rows: Sequence[VideoRow], args: argparse.Namespace, check: bool = True
) -> tuple[list[VideoRow], dict[str, DetectorWeights]]:
    """The rows with everything about detectors filled in, and the weights that they need (check: loaded once).

    Raises ValueError that names the option, OSError.
    """
    defaults = DetectorDefaults(
        detector=args.detector,
        classes=args.detector_classes,
        min_score=args.detector_score,
        max_objects=args.max_objects,
        matching=args.detector_matching,
        match_given=args.detector is not None
        and bool(args.prompt_masks or args.prompt_boxes or args.detector_matching),
        **args.detector_frames,
    )
    filled = [defaults.fill(row) for row in rows]
    needed = needed_detectors(filled)
    if not needed:
        return filled, {}
    weights = weights_of(needed, _urls(args), args.input_options, check)
    return with_weights(filled, {name: one.sha256 for name, one in weights.items()}), weights


def found_late(rows: Sequence[VideoRow]) -> int:
    """In how many rows a detector may begin objects in mid-video, because nothing says one frame for it."""

    def late(prompt: Prompt) -> bool:
        return prompt.finds and prompt.frame is None and prompt.time_s is None and len(prompt.frames or ()) != 1

    return sum(any(map(late, row.prompts)) for row in rows)


def _urls(args: argparse.Namespace) -> dict[str, str]:
    urls = {}
    for text in args.detector_weights:
        name, equals, url = text.partition("=")
        if not equals or name not in DETECTORS:
            name, url = args.detector or DETECTORS[0], text
        urls[name] = url
    return urls


def class_names(text: str) -> tuple[str, ...]:
    """Classes with commas between them."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of classes such as person,dog")
    return names


def _frames(text: str) -> dict[str, object]:
    if text == "middle":
        return {"candidates": 1}
    try:
        if text.startswith(EVEN):
            return {"candidates": positive(text.removeprefix(EVEN))}
        return {"frames": as_frames(text)}
    except (Wrong, ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not middle, 0,50,100 or even:5") from error
