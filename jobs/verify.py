"""Is an output sound? Checks every shard, table and the plan from storage alone; changes nothing.

    python -m jobs.verify s3://bucket/masks
    python -m jobs.verify OUT --all-masks --json

Finds shards that are damaged, truncated, swapped or lost, rows that lie twice, tables that do not agree with the
masks, and files that no plan asks for (orphans: reported, never deleted). While a run is at work it finds the output
unfinished, nothing worse. Works on the output of jobs.compact too.
"""

import argparse
import json
import sys

from tqdm import tqdm

from cluster.inspect.inspection import Unreadable
from cluster.inspect.verification import verify
from cluster.stores.storage import Storage
from jobs.arguments import options, positive, usual_processes
from jobs.messages import run_command

EPILOG = """
Exit codes: 0 sound (there may be orphans), 1 something is damaged, lost or doubled, 2 there is no such output or it
cannot be read, 6 sound but unfinished.
"""


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.verify",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("output", metavar="OUT", help="the --output of an annotate or compact run, on any fsspec URL")
    p.add_argument("--all-masks", action="store_true", help="decode every mask, not a sample of 32 in 4096")
    p.add_argument("--processes", type=positive, metavar="N", help="default: one per core, 8 at most")
    p.add_argument("--json", action="store_true", help="the verdict and all findings as one JSON object")
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, checks, prints. Returns the exit code."""
    args = parser().parse_args(argv)
    processes = args.processes or usual_processes()
    try:
        storage = Storage(args.output, args.output_options)
        with tqdm(unit=" shards", desc="verify", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            verdict = verify(storage, all_masks=args.all_masks, processes=processes, progress=show)
    except (OSError, Unreadable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(verdict.to_json(), indent=2) if args.json else "\n".join(verdict.lines()))
    return verdict.code


if __name__ == "__main__":
    sys.exit(run_command(main))
