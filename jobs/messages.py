"""What commands say beside their output: on stderr, so that stdout stays theirs. And how they end when told to."""

import os
import select
import signal
import sys
from collections.abc import Callable

INTERRUPTED = 128 + signal.SIGINT
CUT_OFF = 128 + signal.SIGPIPE  # as a shell names the end of a program whose reader has gone


def refuse(error: Exception, code: int) -> int:
    """Says why nothing was done; returns the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return int(code)


def say(text: str) -> None:
    """One line, at once."""
    print(text, file=sys.stderr, flush=True)


def run_command(main: Callable[[], int]) -> int:
    """Runs a command to its end, also by Ctrl-C or where nobody reads its output any more (`| head`): no traceback,
    and an exit code that means nothing else."""
    try:
        code = main()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it without a word
        say("stopped by Ctrl-C")
        return INTERRUPTED
    except BrokenPipeError:
        if _is_read():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more when it ends
        return CUT_OFF


def _is_read() -> bool:
    """Whether somebody takes what is printed: if not, the broken pipe is that one and not some connection's."""
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    return not any(event & select.POLLERR for _, event in pipe.poll(0))
