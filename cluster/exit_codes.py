"""The exit codes that scripts rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """0 is also given where videos were truncated: what decoded is annotated, and the row says so."""

    DONE = 0
    INTERNAL_ERROR = 1
    BAD_ARGUMENTS = 2
    FAILED_VIDEOS = 3
    CIRCUIT_BREAKER = 4
    SETTINGS_REFUSED = 5
    INTERRUPTED = 130
    TERMINATED = 143
