"""Measures what each setting of the memory is worth: J, F and network evaluations of a grid of settings on clips.

    python -m jobs.ablate --output ablation --clips DAVIS --jobs 2 --minutes 170

Resumable: each cell's result on each clip is one small JSON file, and the same command goes on. The clips of --clips
(frames and a true mask for each; the first one is the prompt) are taken as they are, with a bar drawn across them
(occluded), cut together (spliced), and to and fro; long videos are rendered once, into --cache. The table
(ablation.md) and the plot (ablation.png) are written anew by each run from all results that are there.
"""

import argparse
import sys
import time
from pathlib import Path

from cluster.exit_codes import ExitCode
from jobs.ablation.cells import Cell, grid
from jobs.ablation.clips import KINDS, LONG, ClipSpec, list_clips
from jobs.ablation.long_videos import long_specs
from jobs.ablation.plan import chosen_tasks, tasks
from jobs.ablation.report import write_report
from jobs.ablation.results import Results
from jobs.ablation.work import Pace, work
from jobs.messages import refuse, run_command, say
from stcn_core.checkpoint import BUNDLED, file_sha256
from stcn_core.precision import HALF


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.ablate",
        description=__doc__,
        epilog="Exit codes: 0 all is measured, 2 bad arguments or clips, 3 time is up and something is left.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--output", required=True, type=Path, metavar="DIR", help="results, ablation.md, ablation.png")
    p.add_argument("--clips", type=Path, metavar="DIR", help="folders of frames and true masks; default: none")
    p.add_argument("--cache", type=Path, metavar="DIR", help="of the rendered videos (default: OUTPUT/long)")
    p.add_argument("--checkpoint", type=Path, default=BUNDLED, help=".pth or .safetensors (default: the bundled one)")
    p.add_argument("--cells", nargs="+", metavar="NAME", help="only these cells (--list names them)")
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these kinds of clips")
    p.add_argument("--clip", nargs="+", metavar="NAME", help="only clips made from these folders")
    p.add_argument("--seeds", type=int, default=3, help="of the headline cells; others have one (default 3)")
    p.add_argument("--long", type=int, default=3, metavar="N", help="rendered videos (default 3, of three kinds)")
    p.add_argument("--long-frames", type=int, default=2000, metavar="N", help="of each (default 2000)")
    p.add_argument("--resolution", type=int, default=240, help="shorter side for the network (default 240)")
    p.add_argument("--precision", choices=("fp32", *HALF), default="fp32", help="of the network (default fp32)")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, of one thread each (default 1)")
    p.add_argument("--minutes", type=float, help="stop in time, and say what is left (default: go on to the end)")
    p.add_argument("--list", action="store_true", help="say what would be measured and what is left, and end")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, measures, reports. Returns the exit code."""
    args = parser().parse_args(argv)
    ends = time.time() + args.minutes * 60 if args.minutes else float("inf")
    try:
        cells, clips = chosen_cells(args), chosen_clips(args)
        results = Results(args.output, file_sha256(args.checkpoint), args.resolution, args.precision)
    except (ValueError, OSError) as error:
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    planned = tasks(cells, clips, args.seeds)
    pace = Pace()
    if args.list:
        return _list(planned, results, pace)
    options = {"jobs": args.jobs, "ends": ends, "pace": pace, "say": say}
    left = work(planned, results, args.checkpoint, **options)
    if not left and not args.cells:
        left = work(chosen_tasks(cells, clips, results), results, args.checkpoint, **options)
    for path in write_report(args.output, cells, clips, results):
        say(f"wrote {path}")
    if left:
        hours = pace.core_hours(left)
        say(f"time is up: {len(left)} measurements are left, about {hours:.1f} core-hours: the same command goes on")
        return 3
    return int(ExitCode.DONE)


def chosen_cells(args: argparse.Namespace) -> list[Cell]:
    """Raises ValueError."""
    cells = {cell.name: cell for cell in grid()}
    unknown = set(args.cells or ()) - set(cells)
    if unknown:
        raise ValueError(f"--cells {sorted(unknown)[0]}: no such cell; there are {', '.join(cells)}")
    return [cell for cell in cells.values() if not args.cells or cell.name in args.cells]


def chosen_clips(args: argparse.Namespace) -> list[ClipSpec]:
    """Raises ValueError, OSError."""
    found: list[ClipSpec] = []
    if args.clips is not None:
        found, left_out = list_clips(args.clips, [kind for kind in args.kinds if kind != LONG])
        for line in left_out:
            say(f"left out: {line}")
    if LONG in args.kinds:
        cache = args.cache if args.cache is not None else args.output / LONG
        found += long_specs(cache, args.long, args.long_frames, args.resolution)
    found = [spec for spec in found if not args.clip or spec.base in args.clip]
    if not found:
        raise ValueError("there is no clip to measure on: give --clips, or --kinds long")
    return found


def _list(planned: list, results: Results, pace: Pace) -> int:
    left = []
    for task in planned:
        record = results.get(task)
        if record is None:
            left.append(task)
        else:
            pace.learn(task, record)
    for task in planned:
        print(f"{'left' if task in left else 'done'}  {task.cell.name}  {task.clip.name}  seed {task.seed}")
    print(f"{len(planned)} measurements, {len(left)} left: about {pace.core_hours(left):.1f} core-hours")
    return int(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(run_command(main))
