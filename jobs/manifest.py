"""Make a manifest of a data set's folder, by the rules of its benchmark.

    python -m jobs.manifest davis DAVIS --split DAVIS/ImageSets/2017/val.txt --to val.jsonl
    python -m jobs.annotate --manifest val.jsonl --output OUT --preset stcn --checkpoint stcn.pth
    python -m jobs.evaluate --masks OUT --truth DAVIS --protocol davis2017

Only what a benchmark gives becomes a prompt; other true masks are left to jobs.evaluate. A manifest that is there is
not written over, unless with --overwrite.
"""

import argparse
import json
import sys

from cluster.exit_codes import ExitCode
from cluster.stores.data_set import davis_rows, from_first_prompt, late_object_rows, read_split
from cluster.stores.source import read_source
from jobs.arguments import options
from jobs.messages import refuse, run_command
from jobs.views.place import keep_existing, placed
from schemas.manifest_record import row_record
from schemas.video_row import VideoRow

KINDS = {
    "davis": "JPEGImages/480p/<video>/*.jpg and Annotations/480p/<video>/00000.png; objects of the first frame",
    "youtube-vos": "JPEGImages/<video>, Annotations/<video>; an object is given where a mask shows it first",
    "mose": "as youtube-vos",
    "generic": "JPEGImages/<video>, Annotations/<video>; every mask is given; as youtube-vos where all images have one",
}


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    layouts = "\n".join(f"  {kind}: {layout}" for kind, layout in KINDS.items())
    p = argparse.ArgumentParser(
        prog="python -m jobs.manifest",
        description=__doc__,
        epilog=f"layouts of ROOT:\n{layouts}\n\nExit codes: 0 written, 2 FILE is there (see --overwrite), or "
        "something is missing or cannot be read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("kind", choices=KINDS, help="which data set (see below)")
    p.add_argument("root", metavar="ROOT", help="its folder, on any fsspec URL")
    p.add_argument("--to", required=True, metavar="FILE", help="the manifest to write (.jsonl), on any fsspec URL")
    p.add_argument("--overwrite", action="store_true", help="replace that file (default: refuse if it is there)")
    p.add_argument("--split", metavar="FILE", help="names of videos, one a line (default: all in ROOT)")
    p.add_argument(
        "--resolution-folder", default="480p", metavar="NAME", help="davis: 480p (default) or Full-Resolution"
    )
    p.add_argument("--merge-objects", action="store_true", help="davis: all labels are one object (DAVIS 2016)")
    p.add_argument("--meta", metavar="FILE", help="youtube-vos: its meta.json, for categories and the objects it names")
    p.add_argument(
        "--from-first-prompt", action="store_true", help="annotate no frame before the first given one (default: all)"
    )
    p.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options for reading")
    p.add_argument("--to-options", type=options, default={}, metavar="JSON", help="fsspec options for writing")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, reads, writes. Returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    if args.kind != "davis" and (args.merge_objects or args.resolution_folder != "480p"):
        p.error("--merge-objects and --resolution-folder go with davis")
    if args.meta and args.kind != "youtube-vos":
        p.error("--meta goes with youtube-vos")
    if not args.to.lower().endswith((".jsonl", ".ndjson")):
        p.error(f"--to {args.to}: a manifest's name ends in .jsonl")
    try:
        if not args.overwrite:
            keep_existing(args.to, args.to_options)
        rows = _rows(args)
        text = "".join(json.dumps(row_record(row)) + "\n" for row in rows)
        with placed(args.to, ".jsonl", args.to_options) as target:
            target.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:  # ManifestError and PromptError among them
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    prompts = sum(len(row.prompts) for row in rows)
    late = sum(any(prompt.frame for prompt in row.prompts) for row in rows)
    print(f"{args.to}: {len(rows)} videos, {prompts} prompts, {late} videos with objects that appear later")
    return int(ExitCode.DONE)


def _rows(args: argparse.Namespace) -> tuple[VideoRow, ...]:
    reading = args.input_options
    only = read_split(read_source(args.split, reading), args.split) if args.split else None
    if args.kind == "davis":
        folder, merged = args.resolution_folder, args.merge_objects
        rows = davis_rows(args.root, only, resolution=folder, merged=merged, options=reading)
    else:
        every = args.kind == "generic"
        rows = late_object_rows(args.root, only, every_mask=every, meta=args.meta, options=reading)
    return tuple(map(from_first_prompt, rows)) if args.from_first_prompt else rows


if __name__ == "__main__":
    sys.exit(run_command(main))
