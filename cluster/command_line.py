"""Keeping credentials out of what others see of a command line: Ray's job table and dashboard, `ps`."""

import json
import sys
from collections.abc import Mapping, Sequence

from ray._raylet import setproctitle

from cluster.stop_policy import submission_id
from schemas.urls import public_url

OPTIONS = ("--input-options", "--output-options")
SECRET_WORDS = ("key", "secret", "token", "password", "credential", "sas")
HIDDEN = "..."


def public_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of storage options left out and URLs without user and query."""
    shown: list[str] = []
    after_option = False
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        if after_option:
            shown.append(HIDDEN)
        elif equals and _is_option(option):
            shown.append(f"{option}={HIDDEN}")
        else:
            shown.append(public_url(argument) if "://" in argument else argument)
        after_option = not equals and _is_option(argument)
    return shown


def hide(arguments: Sequence[str]) -> None:
    """Renames this process so that its command line shows public_arguments, where these differ from what it was given.

    Ray asks the operating system for the driver's command line at ray.init and keeps it with the job.
    """
    shown = public_arguments(arguments)
    if list(arguments) != shown:
        setproctitle(" ".join([sys.executable, *shown]))


def shown_credentials(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """A warning where a submitted job has credentials in its entrypoint, which Ray has shown before we began."""
    if submission_id(environment) is None:
        return None
    named = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if _is_option(option) and _secrets(value if equals else following):
            named.append(option)
    if not named:
        return None
    return (
        f"{' and '.join(named)} hold credentials, and Ray shows a job's command line on its dashboard and in its logs: "
        'change them, and let nodes find them in their own environment or by {"profile": "NAME"}'
    )


def _is_option(argument: str) -> bool:
    # argparse takes any unambiguous beginning of an option's name, too; --output is an option of its own.
    return len(argument) > 2 and argument != "--output" and any(option.startswith(argument) for option in OPTIONS)


def _secrets(text: str) -> bool:
    try:
        return _named_secret(json.loads(text))
    except ValueError:
        return False


def _named_secret(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(
        any(word in str(name).lower() for word in SECRET_WORDS) or _named_secret(inner) for name, inner in value.items()
    )
