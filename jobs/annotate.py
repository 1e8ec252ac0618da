"""Annotate videos: the mask of every prompted object in every frame.

    python -m jobs.annotate --manifest videos.jsonl --output s3://bucket/masks

Plans, runs and resumes: the same command again continues where the last one ended, however it ended.
"""

import argparse
import sys

from cluster.config_lock import SettingsRefused
from cluster.deadline import STALL_SECONDS
from cluster.exit_codes import ExitCode
from cluster.segmenter import StcnSegmenters
from cluster.stores.source import list_manifest_rows, read_source
from cluster.stores.video_folder import DENSE_MASKS, list_videos
from cluster.workbench import offline_settings
from jobs.arguments import exit_code, frame_number, not_negative, options, positive, positive_number
from jobs.detector_arguments import add_detectors, found_late, with_detectors
from jobs.messages import refuse, run_command, say
from jobs.policy_arguments import add_policies
from jobs.presets import PRESETS, PresetParser, preset_lines
from jobs.protocols.something_else import box_rows, read_boxes
from schemas.manifest import VideoRow, parse_manifest
from schemas.run_config import RunConfig
from schemas.urls import file_name, parent, public_url
from stcn_core.settings import MEMORY_POLICIES, OfflineSettings, parse_scales

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".parquet")

PROMPT_MASKS = (
    "for a folder or glob: PNGs at DIR/<video_id>/<frame>.png. One for each image of a folder, or more than "
    f"{DENSE_MASKS} on consecutive frames of a video file, are taken as its true masks: only each object's first "
    "appearance is a prompt"
)
EPILOG = """
A manifest row: {"video": "s3://bucket/a.mp4", "video_id": "a", "prompts": [
  {"frame": 120, "object_id": 1, "mask": "a_120.png"},        a palette or grey PNG of the video's size
  {"time": "00:01:30", "object_id": 2, "box": [x, y, w, h]},   in pixels; or "rle": {"size": [h, w], "counts": "..."}
  {"frame": 120, "object_id": 3, "points": [[x, y, 1], [x, y, 0]]},   the detection under the first, not the second
  {"frame": 300, "object_id": 1, "absent": true},             not visible there
  {"detector": "mask-rcnn", "classes": ["person"], "max_objects": 3, "min_score": 0.5}]}   found on the middle frame;
     or with "frame", "time", "frames": [0, 50, 100] (the best) or "candidates": 5; "box" or "mask" beside "detector":
     the detection that fits it best. Boxes, points and detections only start an object; masks are kept as they are.

Exit codes: 0 all done, 1 internal error, 2 bad arguments or manifest, 3 finished with failed videos,
4 stopped by the circuit breaker, 5 settings refused, 130/143 stopped by a signal after draining.
"""


def parser(output_needed: bool = True) -> argparse.ArgumentParser:
    """The command line. `--help` is the contract. output_needed: False for a dry run."""
    default = OfflineSettings()
    p = PresetParser(
        prog="python -m jobs.annotate",
        description=__doc__,
        epilog=f"{EPILOG}\n{preset_lines()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "JSONL, CSV or Parquet on any fsspec URL, or a folder or glob of videos, or one video"
    p.add_argument("--manifest", required=True, help=what)
    p.add_argument("--output", required=output_needed, help="folder on any fsspec URL; local, s3://, gs://, ...")
    p.add_argument("--prompt-masks", help=PROMPT_MASKS)
    p.add_argument("--every-prompt-mask", action="store_true", help="all of --prompt-masks are prompts, however many")
    p.add_argument(
        "--prompt-boxes", metavar="FILE", help="for a folder or glob: boxes of the first frame, as Something-Else JSON"
    )
    p.add_argument("--checkpoint", default="", help=".pth or .safetensors, path or URL (default: the bundled network)")
    work = p.add_argument_group("work")
    work.add_argument("--actors", type=positive, help="default: one per GPU of the cluster, 1 without GPUs")
    work.add_argument("--threads", type=positive, help="per actor; default: the cores shared out, 4 beside a GPU")
    work.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    work.add_argument(
        "--nvdec", action="store_true", help="decode on the GPU where it can, with the same pixels (default: processor)"
    )
    work.add_argument("--address", help="Ray cluster; default: the job's own, a live one here, or a new local one")
    work.add_argument("--only", action="append", metavar="VIDEO_ID", help="just this video (may be repeated)")
    work.add_argument("--limit", type=positive, help="just the first N videos of the manifest")
    work.add_argument(
        "--reuse",
        metavar="OUT",
        help="an earlier output: videos whose file, prompts and settings are the same are copied, not done again",
    )
    work.add_argument(
        "--forget-missing",
        action="store_true",
        help="take videos that are no longer in the manifest out of the plan, unless they have masks",
    )
    work.add_argument("--retry-failed", nargs="?", const="", metavar="CLASS", help="try failed videos again")
    work.add_argument(
        "--drain-seconds", type=not_negative, default=30.0, help="after SIGTERM or Ctrl-C (default %(default)g)"
    )
    work.add_argument(
        "--job-hours",
        type=positive_number,
        help="drain and stop so long after the command began, exit code 143 (default: never)",
    )
    work.add_argument(
        "--stall-seconds",
        type=positive_number,
        default=STALL_SECONDS,
        help="end an actor without progress for so long; its video gets a strike (default %(default)g)",
    )
    work.add_argument(
        "--ready-seconds",
        type=positive_number,
        default=900.0,
        help="stop when no actor is ready by then (default %(default)g)",
    )
    work.add_argument(
        "--failed-videos-exit",
        type=exit_code,
        metavar="CODE",
        default=3,
        help="exit code with failed videos (default 3)",
    )
    work.add_argument("--ram-mib", type=positive, default=1024, help="burn-in frames in RAM per actor; more go to disk")
    work.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options for reading")
    work.add_argument("--reuse-options", type=options, metavar="JSON", help="of --reuse (default: --output-options)")
    work.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options for writing")
    add_detectors(p)
    masks = p.add_argument_group("settings that change masks (locked by the first run into an output folder)")
    masks.add_argument("--preset", choices=PRESETS, help="a known system's settings (see below)")
    masks.add_argument("--resolution", type=positive, default=480, help="shorter side for the network (default 480)")
    masks.add_argument("--start", type=frame_number, help="first frame")
    masks.add_argument("--end", type=frame_number, help="frame to stop before")
    masks.add_argument("--stride", type=positive, default=1, help="every N-th frame")
    masks.add_argument(
        "--burn-in-passes", type=int, default=default.burn_in_passes, help="0 = a causal run (default 1)"
    )
    masks.add_argument("--burn-in-frames", type=_frames_or_all, help="frames per pass, or all (default 4 x bank)")
    masks.add_argument(
        "--memory-frames", type=int, default=default.memory_frames, help="the bank (default %(default)d)"
    )
    masks.add_argument(
        "--memory-policy",
        choices=MEMORY_POLICIES,
        default=default.memory_policy,
        help="what the bank keeps once it is full (default %(default)s: a random sample of all that was memorised)",
    )
    masks.add_argument("--memory-every", type=int, default=default.memory_every, help="causal runs (default 5)")
    masks.add_argument("--recent-frames", type=int, default=default.recent_frames, help="ring (default %(default)d)")
    masks.add_argument("--group-frames", type=int, default=default.group_frames, help="per read (default %(default)d)")
    masks.add_argument("--segment-frames", type=int, help="the ring is rebuilt every N frames (default about 1000)")
    masks.add_argument(
        "--top-k", type=_frames_or_all, default=default.top_k, help="matches per pixel, or all (default %(default)d)"
    )
    masks.add_argument("--affinity", choices=("l2", "dot"), default=default.affinity, help="dot is STM's")
    masks.add_argument(
        "--exclude-own",
        action=argparse.BooleanOptionalAction,
        default=default.exclude_own,
        help="a frame never reads back its own guessed mask (default: yes)",
    )
    masks.add_argument(
        "--region-decoding",
        action=argparse.BooleanOptionalAction,
        default=default.region_decoding,
        help="decode only around where the memory says that an object can be (default: no)",
    )
    masks.add_argument(
        "--second-opinion",
        action=argparse.BooleanOptionalAction,
        default=default.second_opinion,
        help="segment every frame with another part of the memory too, for one more score; the masks stay the same, "
        "the final pass takes 1.4 to 1.8 times as long (default: no)",
    )
    add_policies(masks)
    masks.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    masks.add_argument("--seed", type=int, default=0)
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, calls, prints. Returns the exit code."""
    args = parser().parse_args(argv)
    # Late: jobs.plan shares this command line, and needs no Ray.
    from cluster.run import DECODER_SECONDS, RunRequest, checkpoint_identity, run

    try:
        rows, detectors = with_detectors(manifest_rows(args), args)
        name, sha256, notes = checkpoint_identity(args.checkpoint, args.input_options)
        config = run_config(args, name, sha256)
        check_ranges(rows, config)
    except (ValueError, OSError) as error:  # ManifestError and CheckpointError among them
        return refuse(error, _code(error))
    if not args.checkpoint:
        say("no --checkpoint given: using the bundled small network, which is far below the official weights")
    for note in notes:
        say(f"checkpoint: {note}")
    late = found_late(rows) if not config.burn_in_passes else 0
    if late:
        say(
            f"in {late} videos a detector finds objects in mid-video, and a causal run has no masks of them before "
            "that: give --detector-frames 0 for masks from the first frame on"
        )
    unfilled = [row.unfilled for row in rows if row.unfilled]
    if unfilled:
        say(f"{sum(unfilled)} suggested prompts of {len(unfilled)} videos are not filled in: these are left out")
    request = RunRequest(
        output=args.output,
        segmenters=StcnSegmenters(args.checkpoint),
        actors=args.actors,
        threads=args.threads,
        device=args.device,
        address=args.address,
        drain_seconds=args.drain_seconds,
        ready_seconds=args.ready_seconds,
        stall_seconds=args.stall_seconds,
        # A decoder's process is watched by its actor, which outlives it: it must give up before the driver does.
        nvdec=args.nvdec,
        decoder_seconds=min(DECODER_SECONDS, args.stall_seconds / 2),
        job_seconds=args.job_hours * 3600 if args.job_hours else None,
        reuse=args.reuse,
        reuse_options=args.output_options if args.reuse_options is None else args.reuse_options,
        forget_missing=args.forget_missing,
        retry_failed=args.retry_failed,
        failed_videos_exit=args.failed_videos_exit,
        ram_bytes=args.ram_mib << 20,
        output_options=args.output_options,
        input_options=args.input_options,
        detectors=detectors,
    )
    try:
        return run(request, config, rows, say)
    except SettingsRefused as error:
        return refuse(error, ExitCode.SETTINGS_REFUSED)
    except OSError as error:
        return refuse(error, _code(error))


def _code(error: ValueError | OSError) -> ExitCode:
    """What cannot be reached now may be there later: after that a scheduler may try again, not after bad arguments."""
    return ExitCode.CIRCUIT_BREAKER if isinstance(error, ConnectionError) else ExitCode.BAD_ARGUMENTS


def manifest_rows(args: argparse.Namespace) -> list[VideoRow]:
    """The rows that the arguments choose. Raises ManifestError, ValueError, OSError."""
    url = args.manifest
    if args.every_prompt_mask and not args.prompt_masks:
        raise ValueError("--every-prompt-mask goes with --prompt-masks")
    if args.prompt_boxes and args.prompt_masks:
        raise ValueError("--prompt-boxes and --prompt-masks: give one of them, or a manifest that holds both")
    if args.forget_missing and (args.only or args.limit):
        raise ValueError("--forget-missing needs the whole manifest: leave out --only and --limit")
    if file_name(public_url(url)).lower().endswith(MANIFEST_SUFFIXES):
        if args.prompt_masks or args.prompt_boxes:
            option = "--prompt-masks" if args.prompt_masks else "--prompt-boxes"
            raise ValueError(f"{option} goes with a folder or glob; {public_url(url)} has prompts of its own")
        bare = args.detector is not None
        rows = parse_manifest(url, read_source(url, args.input_options), parent(url), bare)
    elif args.prompt_boxes:
        found = list_videos(url, args.input_options)
        rows = box_rows(found, read_boxes(args.prompt_boxes, args.input_options), public_url(args.prompt_boxes))
    elif args.detector and not args.prompt_masks:
        found = list_videos(url, args.input_options)
        rows = [VideoRow(number, video, video_id, ()) for number, (video_id, video) in enumerate(found, 1)]
    else:
        every = args.every_prompt_mask
        rows = list_manifest_rows(url, args.input_options, args.prompt_masks, every_mask=every, say=say)
    if args.only:
        unknown = set(args.only) - {row.video_id for row in rows}
        if unknown:
            raise ValueError(f"--only {sorted(unknown)[0]}: no such video_id in {public_url(url)}")
        rows = [row for row in rows if row.video_id in args.only]
    rows = list(rows)[: args.limit]
    if not rows:
        raise ValueError(f"{public_url(url)} names no video")
    return rows


def run_config(args: argparse.Namespace, checkpoint: str, sha256: str) -> RunConfig:
    """The settings that affect masks. Raises ValueError that names the option."""
    fields = set(RunConfig.__dataclass_fields__) - {"checkpoint", "checkpoint_sha256"}
    chosen = {name: getattr(args, name) for name in fields}
    if chosen["scales"]:
        chosen["resolution"] = max(
            scale.resolution for scale in parse_scales(chosen["scales"])
        )  # frames are decoded so
    if chosen["segment_frames"] is None:
        group = max(1, args.group_frames)
        chosen["segment_frames"] = -(-OfflineSettings().segment_frames // group) * group
    config = RunConfig(checkpoint, sha256, **chosen)
    offline_settings(config)
    if config.end is not None and config.end <= (config.start or 0):
        raise ValueError(f"--end {config.end} must be greater than --start {config.start or 0}")
    return config


def check_ranges(rows: list[VideoRow], config: RunConfig) -> None:
    """Raises ValueError where a row's range and the run's contradict each other."""
    for row in rows:
        start = (row.start if row.start is not None else config.start) or 0
        end = row.end if row.end is not None else config.end
        if end is not None and end <= start:
            raise ValueError(
                f"row {row.row} ({row.video_id}): with --start and --end there is no frame from {start} to {end}"
            )


def _frames_or_all(text: str) -> int:
    return 0 if text == "all" else positive(text)


if __name__ == "__main__":
    sys.exit(run_command(main))
