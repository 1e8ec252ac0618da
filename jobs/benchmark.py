"""How fast it is: against stcnbuf, against the machine's own peak, and where the time goes. One process, one machine.

    python -m jobs.benchmark --json figures.json --plot figures.png --report docs/benchmarks/DATE-MACHINE.md
    python -m jobs.benchmark --device cuda --minutes 8          # the whole table on a GPU, nothing is downloaded
    python -m jobs.benchmark --only memory --long 100000 --minutes 30

Sections:
  stages      key path, memory read, decoder, value, labels, RLE, decode, publish; the network's share of the peak
  read        the memory read against its own matrix product
  end-to-end  video file to published masks
  bottleneck  the same with a dummy network, a dummy writer, both
  objects     a frame's cost against the number of objects
  bank        a read's cost against the size of the bank
  memory      peak memory against the length of the video, in a child process

Alternatives are timed in turns, round by round. Values are those of the best round; the median and the spread say how
much the machine was disturbed. stcnbuf is compared where it is installed (extra `benchmark`) and the layout is the
official one. Weights are random where no checkpoint is given: times do not depend on them, masks do.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from jobs.arguments import positive, positive_number
from jobs.measures import bottleneck, end_to_end, length, read_cost, scaling, stages
from jobs.measures.bench import LAYOUTS, Bench, BenchmarkSettings, Case
from jobs.measures.figure import Figure
from jobs.measures.machine import load, machine
from jobs.measures.plot import save_plot
from jobs.measures.report import Report, table
from jobs.messages import run_command

Section = Callable[[Bench, float], list[Figure]]
# In this order; what share of the time that is left when a section begins it may take.
SECTIONS: dict[str, tuple[Section, float]] = {
    "end-to-end": (end_to_end.measure, 0.40),
    "stages": (stages.measure, 0.45),
    "read": (read_cost.measure, 0.25),
    "objects": (scaling.measure_objects, 0.25),
    "bottleneck": (bottleneck.measure, 0.30),
    "bank": (scaling.measure_banks, 0.25),
    "memory": (length.measure, 0.80),
}
LAST_SHARE = 0.9
LONGEST_WITHOUT_ASKING = 10_000
QUICK = {
    "memory_frames": 8,
    "pictures": 2,
    "frames": 5,
    "cheap_frames": 20,
    "lengths": (50, 200),
    "object_counts": (1, 2),
    "bank_sizes": (4, 8),
}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
CASES = {"cpu": "480x1 320x1 320x3", "cuda": "480x1 480x5 320x1", "quick": "64x1"}


def case(text: str) -> Case:
    """480x3: shorter side of the picture, number of objects."""
    resolution, _, objects = text.partition("x")
    try:
        return Case(positive(resolution), positive(objects))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text} is no case: RESOLUTIONxOBJECTS, such as 480x1") from error


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", choices=("cpu", "cuda"), help="(default: cuda where torch sees one)")
    p.add_argument("--threads", type=positive, help="of torch on a CPU (default: torch's own)")
    p.add_argument(
        "--clock",
        choices=("wall", "processor"),
        default="wall",
        help="processor: seconds of this process on a CPU, for a machine that others load; give --threads 1 with it",
    )
    p.add_argument("--minutes", type=positive_number, default=8.0, help="for everything (default %(default)g)")
    p.add_argument("--quick", action="store_true", help="tiny pictures and banks, under a minute: does it all run?")
    p.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    p.add_argument("--cases", nargs="+", type=case, metavar="RxK", help="shorter side x objects, such as 480x1 480x3")
    p.add_argument(
        "--precisions", nargs="+", choices=("fp32", "bf16", "fp16"), help="(default: fp32 bf16; and fp16 on a GPU)"
    )
    p.add_argument("--stcnbuf-precision", choices=("fp32", "bf16", "fp16"), help="(default: fp32; fp16 on a GPU)")
    p.add_argument("--regions", action="store_true", help="also with region decoding, at the last precision")
    p.add_argument("--layout", choices=LAYOUTS, default="official", help="of random weights (default %(default)s)")
    p.add_argument("--checkpoint", help="weights, .pth or .safetensors, instead of random ones")
    p.add_argument("--video", help="a video file instead of a rendered one; its object is an ellipse in the middle")
    p.add_argument("--memory-frames", type=positive, help="frames in the bank (default 128)")
    p.add_argument("--frames", type=positive, help="in a round end to end, a multiple of 5 (default 5; 100 on a GPU)")
    p.add_argument("--long", type=positive, metavar="N", help="memory: also a video of N frames, such as 100000")
    p.add_argument("--json", metavar="FILE", help="write all figures here")
    p.add_argument("--plot", metavar="PNG", help="draw them here")
    p.add_argument("--report", metavar="MD", help="write a dated report here")
    p.add_argument("--note", action="append", default=[], help="a line for the report, such as what else ran")
    return p


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; returns 0, or 2 for arguments that do not fit."""
    args = parser().parse_args(argv)
    try:
        settings = settings_of(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(settings.threads)
    given = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "jobs.benchmark", *given])
    report = Report(command, machine(settings.device, settings.threads), _shown(settings), notes=list(args.note))
    with tempfile.TemporaryDirectory(prefix="stcn-benchmark-") as scratch:
        bench = Bench(settings, Path(scratch))
        try:
            run(bench, args.only or list(SECTIONS), report)
        finally:
            bench.close()
            _write(report, args)
    print(f"{bench.budget.spent:.0f} s in all")
    return 0


def settings_of(args: argparse.Namespace) -> BenchmarkSettings:
    """Raises ValueError where arguments do not fit this machine or each other."""
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here")
    for name in ("checkpoint", "video"):
        path = getattr(args, name)
        if path and not Path(path).is_file():
            raise ValueError(f"--{name} {path}: there is no such file")
    chosen = dict(QUICK) if args.quick else {"frames": 100 if device == "cuda" else 5}
    if args.frames:
        chosen["frames"] = args.frames
    if args.memory_frames:
        chosen["memory_frames"] = args.memory_frames
    cases = args.cases or [case(text) for text in CASES["quick" if args.quick else device].split()]
    lengths = chosen.pop("lengths", (1_000, LONGEST_WITHOUT_ASKING))
    settings = BenchmarkSettings(
        device=device,
        threads=args.threads or torch.get_num_threads(),
        cases=tuple(cases),
        precisions=tuple(dict.fromkeys(args.precisions or PRECISIONS[device])),
        rival_precision=args.stcnbuf_precision or ("fp16" if device == "cuda" else "fp32"),
        layout=args.layout,
        checkpoint=args.checkpoint,
        video=args.video,
        clock=args.clock,
        regions=args.regions,
        lengths=(*lengths, *([args.long] if args.long else [])),
        seconds=60 * min(args.minutes, 0.75) if args.quick else 60 * args.minutes,
        quick=args.quick,
        **chosen,
    )
    if settings.frames % settings.group_frames:
        raise ValueError(f"--frames {settings.frames} is no multiple of {settings.group_frames}, a group's frames")
    if device == "cuda" and args.clock == "processor":
        raise ValueError("--clock processor: for a CPU only")
    if device == "cpu" and "fp16" in settings.precisions:
        raise ValueError("--precisions fp16: for a GPU only, a CPU takes fp32 and bf16")
    return settings


def run(bench: Bench, sections: list[str], report: Report) -> None:
    """The sections one after the other; each one's table is printed when it is there."""
    if bench.rival_missing:
        report.notes.append(f"stcnbuf is not compared: {bench.rival_missing}")
        print(f"{report.notes[-1]}\n")
    report.loads.append({"when": "at the start", **load()})
    print(f"{report.command}\nload average {report.loads[-1]['load average']}, {bench.settings.threads} threads\n")
    names = [name for name in SECTIONS if name in sections]
    for number, name in enumerate(names):
        measure, share = SECTIONS[name]
        last = number == len(names) - 1
        seconds = bench.budget.left * (LAST_SHARE if last else share)
        if seconds <= 0 and not bench.settings.quick:
            report.notes.append(f"{name} was left out: --minutes were over")
            print(f"{report.notes[-1]}\n")
            continue
        print(f"{name}: about {max(0, seconds):.0f} s", file=sys.stderr, flush=True)
        figures = measure(bench, seconds)
        report.figures += figures
        report.loads.append({"when": f"after {name}", **load()})
        print(table(figures), f"load average {report.loads[-1]['load average']}\n", sep="", flush=True)


def _shown(settings: BenchmarkSettings) -> dict[str, object]:
    """Settings as texts."""
    record = {name: value for name, value in asdict(settings).items() if value is not None}
    record["cases"] = ", ".join(str(case) for case in settings.cases)
    return {name: " ".join(map(str, value)) if isinstance(value, tuple) else value for name, value in record.items()}


def _write(report: Report, args: argparse.Namespace) -> None:
    """What there is, also where a section failed."""
    for path, text in ((args.json, report.to_json), (args.report, report.to_markdown)):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text())
    if args.plot and report.figures:
        Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
        save_plot(report.figures, f"{report.command}, {report.loads[0]['time'][:10]}", Path(args.plot))


if __name__ == "__main__":
    sys.exit(run_command(main))
