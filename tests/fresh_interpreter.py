"""Runs a piece of Python in a fresh interpreter, to see what it imports."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_fresh(source: str, *arguments: str) -> str:
    """What it prints; fails the test with its traceback where it fails."""
    command = [sys.executable, "-c", source, *arguments]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=paths, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
