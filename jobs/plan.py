"""What a run will do and take, before it is begun. Looks into every video, needs no cluster, writes nothing.

    python -m jobs.plan --manifest videos.jsonl --actors 64 --frames-per-second 22

Takes the arguments of jobs.annotate, so that a command can be tried out under this name. --output may be left out;
where it is given and holds a run, what is done already is taken off. So is what --reuse takes over. Time is predicted
from --frames-per-second (of one actor, burn-in included: frames_per_second / actors in the summary of an earlier run)
or, without it, from a few seconds of the network on this machine. Videos that could not be looked into are listed with
the reason.
"""

import argparse
import contextlib
import importlib.resources
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.config_lock import SettingsRefused, check_config
from cluster.exit_codes import ExitCode
from cluster.frames.video import working_size
from cluster.inspect.forecast import Rate, TakenOver, forecast, sort_readable, typical_size, visited_frames
from cluster.plan import Unit
from cluster.planning import draft, read_plan_or_refuse
from cluster.resume import TABLES, OutputState, sort_out
from cluster.reuse import check_source, probes_of, reusable_shards
from cluster.second_chance import to_retry
from cluster.stores.posix_publish import file_digest
from cluster.stores.source import fetch_source
from cluster.stores.storage import Storage
from jobs import annotate
from jobs.arguments import positive_number
from jobs.detector_arguments import with_detectors
from jobs.messages import refuse, run_command, say
from jobs.presets import preset_lines
from schemas.run_config import RunConfig
from schemas.urls import file_name, public_url

EPILOG = """
Exit codes: 0 planned (also with unreadable videos), 2 bad arguments, manifest or checkpoint, 5 --output or --reuse
holds a run with other settings.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of jobs.annotate and some more. `--help` is the contract."""
    p = annotate.parser(output_needed=False)
    p.prog, p.description, p.epilog = "python -m jobs.plan", __doc__, f"{EPILOG}\n{preset_lines()}"
    dry = p.add_argument_group("dry run")
    dry.add_argument(
        "--frames-per-second", type=positive_number, metavar="RATE", help="of one actor (default: measured here)"
    )
    dry.add_argument("--json", action="store_true", help="the forecast as one JSON object")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, plans, prints. Returns the exit code."""
    args = parser().parse_args(argv)
    try:
        rows, _ = with_detectors(annotate.manifest_rows(args), args, check=False)
        with _checkpoint(args.checkpoint, args.input_options) as path:
            name = file_name(public_url(args.checkpoint)) or path.name
            config = annotate.run_config(args, name, file_digest(path))
            annotate.check_ranges(rows, config)
            units, *before = _units(args, config, rows)
            found = forecast(units, config, args.actors or 1, _rate(args, config, units, path), *before)
    except SettingsRefused as error:
        return refuse(error, ExitCode.SETTINGS_REFUSED)
    except (ValueError, OSError, RuntimeError) as error:  # ManifestError and CheckpointError among them
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    print(json.dumps(found.to_json(), indent=2) if args.json else "\n".join(found.lines()))
    return int(ExitCode.DONE)


def _units(
    args: argparse.Namespace, config: RunConfig, rows: Sequence
) -> tuple[list[Unit], int, int, TakenOver | None]:
    """(units to be done, videos done before, videos failed before, what is taken over). Reads --output and --reuse."""
    storage = Storage(args.output, args.output_options) if args.output else None
    source, known = None, {}
    if args.reuse:
        source = Storage(args.reuse, args.output_options if args.reuse_options is None else args.reuse_options)
        check_source(source, storage, config)
        known = probes_of(source)
    state, earlier, retry = OutputState.of(()), None, {}
    if storage is not None:
        with contextlib.suppress(FileNotFoundError):
            check_config(storage, config)
        state = OutputState.of(name for table in TABLES for name in storage.list(table))
        earlier = read_plan_or_refuse(storage)
        retry = to_retry(storage, state, args.retry_failed, say)
    given_up = state.failed.keys() - retry.keys()
    published = set(state.published)
    units, _ = draft(rows, config, args.input_options, earlier, published, say, given_up=given_up, known=known)
    todo = sort_out(units, state, retry)
    if source is None:
        return todo.work, todo.done, todo.failed, None
    shards = reusable_shards(source, units, state.published)
    left = sort_out(units, replace(state, published=state.published | shards.keys()), retry)
    return left.work, todo.done, left.failed, TakenOver(left.done - todo.done, len(shards), sum(shards.values()))


def _rate(args: argparse.Namespace, config: RunConfig, units: Sequence[Unit], path: Path) -> Rate | float | None:
    """What was given, or what this machine does with the weights at path."""
    readable = [unit for members in sort_readable(units)[0] for unit in members]
    if args.frames_per_second is not None or not readable:
        return args.frames_per_second
    import torch

    from cluster.inspect.rate import measure_rate

    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = args.threads or (4 if device == "cuda" else max(1, (os.cpu_count() or 1) // (args.actors or 1)))
    size = typical_size(readable, config) or working_size(480, 854, config.resolution)
    most = max((unit.probe.frames or 0 for unit in readable), default=0) or 10_000
    say("measuring how fast the network is on this machine (--frames-per-second RATE spares that)")
    return measure_rate(str(path), config, size, visited_frames(config, most), device=device, threads=threads)


@contextlib.contextmanager
def _checkpoint(url: str, options: dict) -> Iterator[Path]:
    """The weights as a local file. Raises FileNotFoundError, OSError."""
    if not url:
        with importlib.resources.as_file(importlib.resources.files("stcn_core") / "weights/small.safetensors") as path:
            yield path
        return
    with tempfile.TemporaryDirectory(prefix="stcn-checkpoint-") as scratch:
        path = fetch_source(url, Path(scratch), options)
        if not path.exists():
            raise FileNotFoundError(f"checkpoint {public_url(url)} does not exist. Correct the path.")
        if not path.is_file():
            raise OSError(f"checkpoint {public_url(url)} is a folder. Give a .pth or .safetensors file.")
        yield path


if __name__ == "__main__":
    sys.exit(run_command(main))
