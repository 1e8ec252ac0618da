"""Peak memory against the length of the video: genuine files, network replaced, all else real, in a child process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from jobs.measures.bench import Bench
from jobs.measures.clip import long_video
from jobs.measures.figure import Figure

SECTION = "memory"
ROOT = Path(__file__).parents[2]


def measure(bench: Bench, seconds: float) -> list[Figure]:
    """Every length that fits into the time, judged by the one before; the longest is left out and named otherwise."""
    figures, shortest, rate = [], None, None
    started = time.monotonic()
    for frames in bench.settings.lengths:
        left = seconds - (time.monotonic() - started)
        if rate is not None and not bench.settings.quick and frames / rate > left:
            note = f"left out: about {frames / rate:.0f} s, {left:.0f} s are left"
            figures.append(Figure(SECTION, f"{frames} frames", "not measured", 0.0, "MB", note=note))
            continue
        before = time.monotonic()
        video = long_video(bench.scratch / f"long-{frames}.mp4", frames)
        peak = measured(video, bench.scratch / f"long-{frames}")
        video.unlink()
        rate = frames / (time.monotonic() - before)
        if peak["frames"] != frames:
            raise RuntimeError(f"{peak['frames']} of {frames} frames were annotated: {peak}")
        total = peak["own"] + peak["decoder"]
        shortest = shortest or total
        case = f"{frames} frames"
        note = f"{peak['rows']} rows; the burn-in visits at most {peak['visited']} frames"
        figures += [
            Figure(SECTION, case, "peak anonymous memory", total / 1e6, "MB", note=note),
            Figure(SECTION, case, "  of it the actor's process", peak["own"] / 1e6, "MB"),
            Figure(SECTION, case, "    of that, code loaded before it began", peak["bare"] / 1e6, "MB"),
            Figure(SECTION, case, "  of it its decoder", peak["decoder"] / 1e6, "MB"),
            Figure(SECTION, case, "to the shortest", total / shortest, "x"),
            Figure(SECTION, case, "beyond the shortest", (total - shortest) / 1e6, "MB"),
        ]
    return figures


def measured(video: Path, folder: Path) -> dict[str, int]:
    """What the child prints: frames, rows, visited, and bytes of the process itself and of its decoder. Raises
    RuntimeError."""
    command = [sys.executable, "-m", "jobs.measures.length_child", str(video), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
