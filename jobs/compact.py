"""Compacts an output: many small shards become few large ones, in a new place. The old place is only read.

    python -m jobs.compact s3://bucket/masks --to s3://bucket/masks-compact

The new place has masks/part-00000.parquet, ... sorted by video, object and frame (a video lies in as few files as its
size allows), and one file each of videos, tracks and failures; videos.shards names the new files. Shards of failed
videos and leftovers are not taken along. Every row is checked on the way, before and after. Stopped or killed, the same
command continues. jobs.verify, jobs.status and schemas.read_masks work on the new place; jobs.annotate refuses it.
"""

import argparse
import json
import sys
from dataclasses import asdict

from tqdm import tqdm

from cluster.inspect.compaction import Compacted, CompactionRefused, compact
from cluster.inspect.inspection import Unreadable
from cluster.inspect.shard_merge import MergeError
from cluster.stores.storage import Storage
from jobs.arguments import options, positive, positive_number, usual_processes
from jobs.messages import refuse, run_command

EPILOG = """
Exit codes: 0 done, 1 a shard of OUT is damaged or lost (see jobs.verify), 2 bad arguments, OUT is unfinished, or the
new place is not empty.
"""


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.compact",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("output", metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--to", required=True, metavar="OUT2", help="a new, empty place, on any fsspec URL")
    p.add_argument("--shard-mib", type=positive_number, default=128.0, metavar="MIB", help="per shard (default 128)")
    p.add_argument("--allow-unfinished", action="store_true", help="take the finished videos of an unfinished output")
    p.add_argument("--scratch", metavar="DIR", help="local folder for temporary files (default: the system's)")
    p.add_argument("--processes", type=positive, metavar="N", help="for the last check (default: cores, 8 at most)")
    p.add_argument("--json", action="store_true", help="what was done as one JSON object")
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    p.add_argument("--to-options", type=options, metavar="JSON", help="fsspec options of OUT2 (default: as for OUT)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, compacts, prints. Returns the exit code."""
    args = parser().parse_args(argv)
    try:
        source = Storage(args.output, args.output_options)
        target = Storage(args.to, args.output_options if args.to_options is None else args.to_options)
        if (target.url + "/").startswith(source.url + "/") or (source.url + "/").startswith(target.url + "/"):
            raise CompactionRefused(f"{target.url} and {source.url} lie in each other. Give --to another place.")
        with tqdm(unit=" shards", desc="compact", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            done = compact(
                source,
                target,
                shard_bytes=max(1, int(args.shard_mib * (1 << 20))),
                allow_unfinished=args.allow_unfinished,
                scratch=args.scratch,
                processes=args.processes or usual_processes(),
                progress=show,
            )
    except MergeError as error:
        return refuse(error, 1)
    except (OSError, Unreadable, CompactionRefused) as error:
        return refuse(error, 2)
    print(json.dumps(asdict(done), indent=2) if args.json else _summary(done, target.url))
    return 0


def _summary(done: Compacted, url: str) -> str:
    text = (
        f"{url}: {done.shards} shards of {done.bytes} bytes with {done.rows} rows of {done.videos} videos, from "
        f"{done.shards_before} shards of {done.bytes_before} bytes"
    )
    if done.skipped:
        text += f"; {done.skipped} were there already"
    if done.failed_videos:
        text += f"; {done.failed_videos} failed videos have no masks"
    if done.unfinished_videos:
        text += f"; {done.unfinished_videos} unfinished videos were left out"
    return text


if __name__ == "__main__":
    sys.exit(run_command(main))
