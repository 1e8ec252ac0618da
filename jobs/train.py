"""python -m jobs.train: trains a network on synthetic video that it renders itself. No video is downloaded or read."""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from jobs.messages import run_command
from jobs.views.place import placed
from stcn_core.checkpoint import file_sha256, save_checkpoint
from stcn_core.network import STCN
from stcn_core.training.trainer import (
    LAYOUTS,
    STATE_NAME,
    Trainer,
    TrainingSettings,
    averaged_network,
    read_state,
)
from stcn_core.training.validation import CLIPS, validate

EXIT_DONE, EXIT_ARGUMENTS = 0, 2
DEFAULTS = TrainingSettings(steps=20000)
SETTINGS = ("steps", "seed", "layout", "batch", "sizes", "learning_rate", "decay_from", "precision", "workers",
            "save_every", "pool", "lanes", "clip_rate")  # fmt: skip

DESCRIPTION = """\
Trains STCN on synthetic clips rendered on the fly (the bundled checkpoint was made by this command).

  train       python -m jobs.train --output runs/a --steps 20000
  continue    python -m jobs.train --resume runs/a            (after a kill, or with more --steps)
  validate    python -m jobs.train --resume runs/a --validate
  export      python -m jobs.train --resume runs/a --validate --export small.safetensors

The run's folder holds last.pt (weights, their moving average, optimiser, step; replaced in one step, so a kill
never leaves half a file) and log.jsonl. The same seed and settings give the same clips and samples at every step.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m jobs.train", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of a new run")
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="folder of a run to continue (in --output, a new folder, if given)"
    )
    parser.add_argument("--steps", type=int, help=f"steps in all (default {DEFAULTS.steps})")
    parser.add_argument("--batch", type=int, help=f"samples at the smallest size (default {DEFAULTS.batch})")
    parser.add_argument(
        "--size", dest="sizes", type=int, nargs="+", help=f"sides in pixels, multiples of 16 (default {DEFAULTS.sizes})"
    )
    parser.add_argument("--seed", type=int, help=f"of weights, clips and samples (default {DEFAULTS.seed})")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), help=f"network (default {DEFAULTS.layout})")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help=f"default {DEFAULTS.precision}")
    parser.add_argument("--learning-rate", type=float, help=f"default {DEFAULTS.learning_rate}")
    parser.add_argument(
        "--decay-from", type=float, help=f"share of steps before the rate falls (default {DEFAULTS.decay_from})"
    )
    parser.add_argument(
        "--workers", type=int, help=f"rendering processes; 0 renders in line (default {DEFAULTS.workers})"
    )
    parser.add_argument(
        "--pool", type=int, help=f"rendered clips held at a time, rendered anew on resume (default {DEFAULTS.pool})"
    )
    parser.add_argument(
        "--lanes",
        type=int,
        help="threads that each compute a part of the batch (CPU; better than --threads on shared cores)",
    )
    parser.add_argument("--clip-rate", type=float, help=f"new clips rendered per step (default {DEFAULTS.clip_rate})")
    parser.add_argument("--save-every", type=int, help=f"steps between saves (default {DEFAULTS.save_every})")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the network (default: all cores)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    parser.add_argument("--validate", action="store_true", help="no training: J on the frozen rendered clips")
    parser.add_argument("--export", type=Path, metavar="FILE", help="no training: write the averaged weights, fp16")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    problem = _problem(args)
    if problem:
        print(f"jobs.train: {problem}", file=sys.stderr)
        return EXIT_ARGUMENTS
    try:
        if args.validate or args.export:
            return _judge_and_export(args, argv)
        return _train(args)
    except (OSError, ValueError) as error:
        print(f"jobs.train: {error}", file=sys.stderr)
        return EXIT_ARGUMENTS


def _problem(args: argparse.Namespace) -> str | None:
    if args.output is None and args.resume is None:
        return "give --output DIR for a new run or --resume DIR to continue one"
    if (args.validate or args.export) and args.resume is None:
        return "--validate and --export need --resume DIR, the run to judge"
    if not (args.validate or args.export) and _holds_another_run(args.output, args.resume):
        return f"{args.output} already holds a run: continue it with --resume {args.output}, or name another folder"
    if args.export is not None and args.export.suffix != ".safetensors":
        return f"--export {args.export}: the name must end in .safetensors"
    for name in ("steps", "batch", "save_every", "pool", "lanes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            return f"--{name.replace('_', '-')} {value}: must be at least 1"
    if args.workers is not None and args.workers < 0:
        return f"--workers {args.workers}: must be 0 or more"
    return None


def _holds_another_run(output: Path | None, resume: Path | None) -> bool:
    """Also with --resume: the same command given again after a kill would begin once more where `resume` ended."""
    if output is None or (resume is not None and output.resolve() == resume.resolve()):
        return False
    return (output / STATE_NAME).exists()


def _settings(args: argparse.Namespace) -> TrainingSettings:
    """The saved run's settings (or the defaults), with what the command line says on top."""
    settings = DEFAULTS
    if args.resume is not None:
        saved = json.loads(read_state(args.resume)["settings"])
        lists = {key: tuple(value) for key, value in saved.items() if isinstance(value, list)}
        settings = TrainingSettings(**{**saved, **lists})
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if "sizes" in given:
        given["sizes"] = tuple(given["sizes"])
    return replace(settings, **given)


def _train(args: argparse.Namespace) -> int:
    settings = _settings(args)
    name = args.device if args.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(settings, torch.device(name))
    if args.resume is not None:
        trainer.load(args.resume)
    folder = args.output or args.resume
    folder.mkdir(parents=True, exist_ok=True)
    count = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    print(f"{settings.layout} layout, {count:.2f} M parameters, {name}, {settings.precision}, seed {settings.seed}; "
          f"step {trainer.step} of {settings.steps}; run folder {folder}", flush=True)  # fmt: skip
    with open(folder / "log.jsonl", "a", buffering=1) as log:

        def report(record: dict) -> None:
            log.write(json.dumps({"time": round(time.time(), 1), **record}) + "\n")
            print(progress_line(record), flush=True)

        trainer.train(folder, report)
    print(f"done: {settings.steps} steps; export with --resume {folder} --validate --export FILE.safetensors")
    return EXIT_DONE


def progress_line(record: dict) -> str:
    """One line of progress: step, loss, IoU of the third frame, steps per second, time left."""
    left = datetime.timedelta(seconds=round(record["seconds_left"]))
    overlap = "  -  " if record["iou"] is None else f"{record['iou']:.3f}"
    return (
        f"step {record['step']}/{record['steps']}  loss {record['loss']:.3f}  IoU {overlap}  "
        f"{1 / record['seconds_per_step']:.2f} steps/s  {left} left"
    )


def _judge_and_export(args: argparse.Namespace, argv: Sequence[str] | None) -> int:
    network, record = averaged_network(args.resume)
    result = None
    if args.validate:
        scores = validate(network)
        for name, score in scores.items():
            print(f"{name}  J {score:.3f}")
        result = {"clips": CLIPS, "mean_j": round(sum(scores.values()) / len(scores), 4),
                  "per_clip": {name: round(score, 4) for name, score in scores.items()}}  # fmt: skip
        print(f"mean J {result['mean_j']:.3f} on {CLIPS} rendered clips, step {record['step']}")
    if args.export:
        _export(network, record, result, args.export)
        print(f"wrote {args.export} and {args.export.with_suffix('.json')}")
    return EXIT_DONE


def _export(network: STCN, record: dict, validation: dict | None, path: Path) -> None:
    """The weights, and beside them what they are. Both are whole before either takes its place. Raises OSError."""
    beside, settings = path.with_suffix(".json"), record["settings"]
    with placed(str(beside), ".json") as text, placed(str(path), ".safetensors") as weights:
        save_checkpoint(network, weights, {"step": str(record["step"])}, torch.float16)
        note = {
            "file": path.name,
            "sha256": file_sha256(weights),
            "command": training_command(settings),
            "seed": settings["seed"],
            "steps_done": record["step"],
            "wall_seconds": round(record["seconds"]),
            "date": datetime.date.today().isoformat(),
            "validation": validation,
            "settings": settings,
        }
        text.write_text(json.dumps(note, indent=1) + "\n")


def training_command(settings: dict) -> str:
    """The command line that starts a run with these settings."""
    defaults = json.loads(json.dumps(asdict(DEFAULTS)))
    words = ["python -m jobs.train --output RUN", f"--steps {settings['steps']}", f"--seed {settings['seed']}"]
    for name in SETTINGS:
        if name in ("steps", "seed") or settings[name] == defaults[name]:
            continue
        value = settings[name]
        flag = "--size" if name == "sizes" else "--" + name.replace("_", "-")
        words.append(f"{flag} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(run_command(main))
