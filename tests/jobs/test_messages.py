"""How commands end: by Ctrl-C, and where nobody reads what they print."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(main: str) -> subprocess.Popen:
    text = f"import sys\nfrom jobs.messages import run_command\ndef main():\n    {main}\nsys.exit(run_command(main))"
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_is_one_line_and_the_exit_code_of_the_signal() -> None:
    process = run("raise KeyboardInterrupt")
    assert process.communicate(timeout=60) == ("", "stopped by Ctrl-C\n")
    assert process.returncode == 130


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone(lines: int) -> None:
    """Of a command whose exit code 1 means "damaged", such as jobs.verify, `| head` must not give 1."""
    process = run(f"sys.stdin.readline(); print('x\\n' * {lines}); return 0")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 141


def test_another_broken_pipe_is_an_error() -> None:
    process = run("raise BrokenPipeError('a socket')")
    assert "a socket" in process.communicate(timeout=60)[1] and process.returncode == 1


def test_every_command_ends_so() -> None:
    commands = [file for file in sorted((ROOT / "jobs").glob("*.py")) if "__main__" in file.read_text()]
    assert len(commands) > 15
    assert not [file.name for file in commands if "sys.exit(run_command(main))" not in file.read_text()]
