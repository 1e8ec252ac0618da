"""Clean the masks of an output into a new place: closing, components, holes, agreement over time.

    python -m jobs.clean OUT --to OUT2 --clean close,largest,temporal

The output OUT is only read. Every frame stays counted and every object keeps its number; a mask that becomes empty has
no row any more. Given masks are not changed. The same command again goes on where it was stopped. Of an output that is
not finished the finished videos are cleaned, and the last line counts the others; once they are done, the same command
again adds them.
"""

import argparse
import json
import sys
from dataclasses import asdict

from tqdm import tqdm

from cluster.cleaned_output import Cleaned, CleanRefused, clean_output
from cluster.config_lock import SettingsRefused
from cluster.exit_codes import ExitCode
from cluster.finalise import ShardDamaged
from cluster.inspect.inspection import Unreadable
from cluster.stores.storage import Storage
from jobs.arguments import options
from jobs.messages import refuse, run_command
from stcn_core.cleanup import STEPS, Step, parse_steps


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    steps = "\n".join(f"  {name:9}{what}" for name, (_, what) in STEPS.items())
    known = "stcnbuf's morph is close,crop,overlap; its connected_comps is largest, its temporal_intersect temporal."
    p = argparse.ArgumentParser(
        prog="python -m jobs.clean",
        description=__doc__,
        epilog=f"steps, done in the order given:\n{steps}\n{known}\n\nExit codes: 0 done, 1 a shard of OUT is damaged, "
        "2 bad arguments or nothing to clean, 5 OUT2 was begun with other steps.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("output", metavar="OUT", help="the --output of an annotate run, on any fsspec URL")
    p.add_argument("--to", required=True, metavar="OUT2", help="a new place, on any fsspec URL")
    p.add_argument("--clean", required=True, type=_steps, metavar="STEPS", help="such as close=2,largest,holes=64")
    p.add_argument("--json", action="store_true", help="what was done as one JSON object")
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of OUT")
    p.add_argument("--to-options", type=options, metavar="JSON", help="fsspec options of OUT2 (default: as for OUT)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, cleans, prints. Returns the exit code."""
    args = parser().parse_args(argv)
    try:
        source = Storage(args.output, args.output_options)
        target = Storage(args.to, args.output_options if args.to_options is None else args.to_options)
        if (target.url + "/").startswith(source.url + "/") or (source.url + "/").startswith(target.url + "/"):
            raise CleanRefused(f"{target.url} and {source.url} lie in each other. Give --to another place.")
        with tqdm(unit=" videos", desc="clean", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

            def show(video_id: str, done: int, total: int) -> None:
                bar.total = total
                bar.set_postfix_str(video_id)
                bar.update(done - bar.n)

            done = clean_output(source, target, args.clean, show)
    except SettingsRefused as error:
        return refuse(error, ExitCode.SETTINGS_REFUSED)
    except (Unreadable, ShardDamaged) as error:
        return refuse(error, 1)
    except (OSError, CleanRefused) as error:
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    print(json.dumps(asdict(done)) if args.json else _summary(done, target.url))
    return 0


def _summary(done: Cleaned, url: str) -> str:
    text = f"{url}: {done.rows} masks of {done.videos} videos, {done.rows_before - done.rows} became empty"
    if done.skipped:
        text += f"; {done.skipped} videos were there already"
    if done.failed_videos:
        text += f"; {done.failed_videos} failed videos have no masks"
    if done.unfinished_videos:
        text += f"; {done.unfinished_videos} unfinished videos were left out: run this again when they are done"
    if done.unfinished_videos is None:
        text += "; there is no plan that can be read, so whether videos are unfinished is not known"
    return text


def _steps(text: str) -> tuple[Step, ...]:
    try:
        steps = parse_steps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not steps:
        raise argparse.ArgumentTypeError("give at least one step")
    return steps


if __name__ == "__main__":
    sys.exit(run_command(main))
