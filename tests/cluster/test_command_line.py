"""What a command line shows, as the operating system and Ray see it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.command_line import public_arguments, shown_credentials

ROOT = Path(__file__).resolve().parent.parent.parent
JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}})}
KEYS = json.dumps({"key": "AKIA", "secret": "hush"})


@pytest.mark.parametrize("given", [["--output-options", KEYS], [f"--input-options={KEYS}"], [f"--in={KEYS}"]])
def test_storage_options_are_hidden(given: list[str]):
    shown = public_arguments(["annotate.py", "--output", "out", *given, "--seed", "3"])
    assert "hush" not in repr(shown) and "AKIA" not in repr(shown)
    assert shown[:3] == ["annotate.py", "--output", "out"] and shown[-2:] == ["--seed", "3"]


def test_urls_lose_user_and_query_and_the_rest_stays():
    given = ["--manifest", "https://me:hush@host/a.jsonl?sig=hush", "--only", "a b", "--output", "s3://bucket/out"]
    shown = public_arguments(given)
    assert shown == ["--manifest", "https://host/a.jsonl", "--only", "a b", "--output", "s3://bucket/out"]


def test_the_process_shows_no_credentials():
    code = "import sys, cluster.command_line as c; c.hide(sys.argv); print(open('/proc/self/cmdline').read())"
    command = [sys.executable, "-c", code, "--limit", "2", "--output-options", KEYS]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "hush" not in shown and "--limit 2 --output-options ..." in shown


def test_a_job_with_credentials_on_its_command_line_is_told():
    keys = json.dumps({"client_kwargs": {"aws_secret_access_key": "x"}})
    given = ["--manifest", "m", "--input-options", '{"profile": "in"}', "--output-options", keys]
    assert shown_credentials(given, {}) is None
    for arguments in (given, [*given[:-2], f"--output-options={keys}"]):
        warning = shown_credentials(arguments, JOB)
        assert warning.startswith("--output-options hold") and "profile" in warning
        assert "--input-options" not in warning
    for harmless in ('{"endpoint_url": "http://x"}', "{}", "[]", "no JSON"):
        assert shown_credentials(["--input-options", harmless, "--output-options"], JOB) is None
