"""How far a run is, from its output folder alone: no cluster is needed, and the run is not disturbed.

    python -m jobs.status s3://bucket/masks
    python -m jobs.status s3://bucket/masks --watch 30

States: planning, running and draining (its driver wrote less than a minute ago), stopped (its driver is gone: the same
jobs.annotate command continues), done (every video is done or failed), waiting (nothing is published yet), or what the
run wrote when it ended, such as interrupted or terminated (after draining) or circuit_breaker. Videos that were taken
out of the manifest count until jobs.annotate --forget-missing takes them out of the plan.
"""

import argparse
import json
import sys
import time

from cluster.inspect.inspection import Unreadable
from cluster.inspect.status_report import Status, read_status
from cluster.stores.storage import Storage
from jobs.arguments import options, positive_number
from jobs.messages import run_command


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.status",
        description=__doc__,
        epilog="Exit codes: 0 shown, 2 there is no such output or it cannot be read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("output", metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--json", action="store_true", help="one JSON object (with --watch: one per line)")
    p.add_argument("--watch", type=positive_number, metavar="SECONDS", help="look again and again, until it is done")
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, looks, prints. Returns the exit code."""
    args = parser().parse_args(argv)
    try:
        storage = Storage(args.output, args.output_options)
        while True:
            status = read_status(storage)
            _print(status, args.json, args.watch is not None)
            if args.watch is None or status.state == "done":
                return 0
            time.sleep(args.watch)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        raise  # nobody reads this any more
    except (OSError, Unreadable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _print(status: Status, as_json: bool, again: bool) -> None:
    if as_json:
        print(json.dumps(status.to_json(), indent=None if again else 2), flush=True)
        return
    if again and sys.stdout.isatty():
        print("\x1b[2J\x1b[H", end="")
    print("\n".join(status.lines()) + ("\n" if again else ""), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
