"""How long a stopped run may drain: what was asked for, and what `ray job stop` leaves of it.

`ray job stop` sends SIGTERM to the entrypoint and kills it after RAY_JOB_STOP_WAIT_TIME_S seconds, 3 where it is not
set. Ray reads that variable in the job's supervisor, which has the environment that the job's runtime env gives it, and
so has the entrypoint: what this process sees is what counts (Ray 2.60, `dashboard/modules/job/job_supervisor.py`).
"""

import json
import math
from collections.abc import Mapping

WAIT_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
MARGIN_SECONDS = 2.0
SHORTEST_SECONDS = 2.0
LONGEST_SECONDS = 24 * 3600.0  # what is named where a drain has no limit


def allowed_drain(asked: float, environment: Mapping[str, str]) -> tuple[float, str | None]:
    """(seconds that a drain may last, a warning or None) for a process with this environment.

    Outside a submitted job this is what was asked for. Inside one it is at most Ray's wait time less MARGIN_SECONDS,
    which the last shard's publishing and the summary need.
    """
    if submission_id(environment) is None:
        return asked, None
    given = environment.get(WAIT_VARIABLE)
    wait = _whole_seconds(given)
    if wait is None:
        left = min(asked, SHORTEST_SECONDS)
        why = f"{WAIT_VARIABLE}={given!r} is no whole number" if given is not None else f"{WAIT_VARIABLE} is not set"
    else:
        left = min(asked, max(0.0, wait - MARGIN_SECONDS))
        why = f"{WAIT_VARIABLE} is {wait}"
    if left >= asked:
        return asked, None
    return left, (
        f"`ray job stop` would leave {left:g} s to finish what is in flight, not {asked:g} s: {why}. "
        f"Submit with {submit_option(asked)}"
    )


def submit_option(drain_seconds: float) -> str:
    """The option of `ray job submit` with which a drain of so many seconds is waited for."""
    variables = {WAIT_VARIABLE: str(math.ceil(min(drain_seconds, LONGEST_SECONDS) + MARGIN_SECONDS))}
    return f"--runtime-env-json '{json.dumps({'env_vars': variables})}'"


def submission_id(environment: Mapping[str, str]) -> str | None:
    """The id of the submitted job whose entrypoint this process is, None outside one.

    Ray puts the job's metadata beside its runtime env into one variable of the entrypoint. Workers do not have it.
    """
    try:
        config = json.loads(environment.get(JOB_VARIABLE, ""))
        return config["metadata"]["job_submission_id"]
    except (ValueError, KeyError, TypeError):
        return None


def _whole_seconds(text: str | None) -> int | None:
    # As Ray reads it: by int(). A text that is none makes its supervisor fail in the middle of the stop.
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
