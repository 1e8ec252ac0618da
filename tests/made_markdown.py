"""The code blocks of a Markdown page, to be run as a reader would run them.

A fenced block of `python` or `bash` is code; a `text` block right behind one is what it prints. A comment
`<!-- not run: why -->` right before a block says that it cannot be run by a test.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<indent> {0,3})(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^`]*$")
NOT_RUN = re.compile(r"^<!--\s*not run:\s*(?P<reason>.+?)\s*-->$")
LANGUAGES = {"python": "python", "py": "python", "bash": "bash", "sh": "bash", "shell": "bash"}
ROOMS = ("jobs", "cluster", "schemas", "stcn_core", "docs", "pyproject.toml")


@dataclass(frozen=True)
class Block:
    """line: of its first line of code, from 1. prints: what the page says that it prints. not_run: why not, or None."""

    page: Path
    line: int
    language: str
    code: str
    prints: str | None = None
    not_run: str | None = None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced code blocks of a page in order; those of no known language as they are called. Raises ValueError for a
    fence that is never closed."""
    found: list[Block] = []
    lines = page.read_text().splitlines()
    number, last = 0, ""  # last: the last line with text outside of a block
    while number < len(lines):
        opening = FENCE.match(lines[number])
        if opening is None:
            last = lines[number].strip() or last
            number += 1
            continue
        start = number + 1
        closing = re.compile(rf"^ {{0,3}}{re.escape(opening['marks'][0])}{{{len(opening['marks'])},}}\s*$")
        number = next((at for at in range(start, len(lines)) if closing.match(lines[at])), None)
        if number is None:
            raise ValueError(f"{page}:{start}: the block is never closed")
        inside = [line.removeprefix(opening["indent"]) for line in lines[start:number]]
        language = LANGUAGES.get(opening["language"].lower(), opening["language"].lower())
        reason = NOT_RUN.match(last)
        code = "\n".join(inside) + "\n"
        if language == "text" and last == "" and found and found[-1].prints is None:
            before = found[-1]
            found[-1] = Block(before.page, before.line, before.language, before.code, code, before.not_run)
        else:
            found.append(Block(page, start + 1, language, code, None, reason["reason"] if reason else None))
        last = ""
        number += 1
    return found


def run(block: Block, folder: Path, seconds: float = 300.0) -> str:
    """Runs a block of python or bash in `folder`; returns what it prints. Raises what it raises, AssertionError where a
    command fails, or where the page shows another output."""
    printed = _python(block, folder) if block.language == "python" else _bash(block, folder, seconds)
    if block.prints is not None:
        expected, got = _lines(block.prints), _lines(printed)
        assert got == expected, f"{block} prints\n{printed}\nbut the page shows\n{block.prints}"
    return printed


def checkout(folder: Path) -> Path:
    """Makes `folder` look like a fresh checkout after `make`: this project's rooms, and Python as .venv/bin/python."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ROOMS:
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    # A link would find its own environment, and not the one that the tests run in.
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return folder


def _python(block: Block, folder: Path) -> str:
    # Empty lines in front, so that a traceback names the line of the page.
    code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    return printed.getvalue()


def _bash(block: Block, folder: Path, seconds: float) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block} ends with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
