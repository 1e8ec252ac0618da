"""The time to drain, from environments as Ray 2.60 gave them to a job's entrypoint."""

import json
import math

import pytest

from cluster.stop_policy import MARGIN_SECONDS, SHORTEST_SECONDS, WAIT_VARIABLE, allowed_drain, submission_id

METADATA = {"job_submission_id": "raysubmit_yMtZEbdKZ6d3yhUg", "job_name": "raysubmit_yMtZEbdKZ6d3yhUg"}
JOB = {
    "RAY_ADDRESS": "192.0.2.2:23100",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": {}}, "metadata": METADATA}),
}


def test_outside_a_job_the_drain_is_as_asked():
    assert allowed_drain(30, {}) == (30, None)
    assert allowed_drain(30, {WAIT_VARIABLE: "5", "RAY_ADDRESS": "auto"}) == (30, None)
    assert submission_id({}) is None and submission_id(JOB) == METADATA["job_submission_id"]


def test_a_job_without_the_wait_time_is_capped_and_told_what_to_set():
    seconds, warning = allowed_drain(30, JOB)
    assert seconds == SHORTEST_SECONDS
    assert '"RAY_JOB_STOP_WAIT_TIME_S": "32"' in warning


@pytest.mark.parametrize("wait, seconds", [("32", 30), ("60", 30), ("12", 10), ("3", 1), ("1", 0)])
def test_a_job_with_the_wait_time_drains_within_it(wait: str, seconds: float):
    allowed, warning = allowed_drain(30, {**JOB, WAIT_VARIABLE: wait})
    assert allowed == seconds <= max(0, int(wait) - MARGIN_SECONDS)
    assert (warning is None) == (seconds == 30)


def test_the_option_in_the_warning_is_enough():
    for asked in (1, 7.3, 30, 600):
        _, warning = allowed_drain(asked, {**JOB, WAIT_VARIABLE: "0"})
        given = json.loads(warning.split("--runtime-env-json ")[1].strip("'"))["env_vars"]
        assert allowed_drain(asked, {**JOB, **given}) == (asked, None)


def test_a_drain_without_a_limit_names_a_day():
    left, warning = allowed_drain(math.inf, JOB)
    assert left < 60 and "86402" in warning


def test_a_wait_time_that_ray_cannot_read_counts_as_none():
    seconds, warning = allowed_drain(30, {**JOB, WAIT_VARIABLE: "12.5"})
    assert seconds == SHORTEST_SECONDS and "'12.5' is no whole number" in warning


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"metadata": null}', '{"metadata": {"job_name": "x"}}'])
def test_what_is_no_job_is_none(text: str):
    assert submission_id({"RAY_JOB_CONFIG_JSON_ENV_VAR": text}) is None


def test_a_drain_shorter_than_the_cap_stays():
    assert allowed_drain(1.5, JOB) == (1.5, None)
