"""Kinds of command line values that several commands take."""

import argparse
import json
import os
from collections.abc import Collection, Mapping


def options(text: str) -> dict:
    """fsspec storage options: a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def positive_number(text: str) -> float:
    """A number above 0, such as seconds or MiB."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from error
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number


def not_negative(text: str) -> float:
    """A number from 0, such as seconds; inf too."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from error
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is negative" if number < 0 else f"{text} is not a number")
    return number


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def exit_code(text: str) -> int:
    """0 to 255: a shell sees no more of it."""
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"{text} is not an exit code from 0 to 255")
    return int(text)


def frame_number(text: str) -> int:
    """A frame's index."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; frames count from 0")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def usual_processes() -> int:
    """One per core, 8 at most."""
    return min(8, os.cpu_count() or 1)


def misplaced(args: argparse.Namespace, choice: str, belongs: Mapping[str, Collection[str]]) -> str | None:
    """What is wrong where an option was given that the chosen format (or protocol, ...) has no use for.

    belongs: option's name in args -> the values of args.`choice` that it goes with. None in args: it was not given.
    """
    for name, values in belongs.items():
        if getattr(args, name) is not None and getattr(args, choice) not in values:
            *others, last = values
            wanted = f"{', '.join(others)} and {last}" if others else last
            return f"--{name.replace('_', '-')} is for --{choice} {wanted}"
    return None
