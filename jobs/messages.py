"""What commands say beside their output: on stderr, so that stdout stays theirs."""

import sys


def refuse(error: Exception, code: int) -> int:
    """Says why nothing was done; returns the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return int(code)


def say(text: str) -> None:
    """One line, at once."""
    print(text, file=sys.stderr, flush=True)
