"""What went wrong, as a row of the `failures` table."""

import datetime
import platform
from typing import Protocol

from cluster.frames.decoder import DecoderUnavailable
from cluster.frames.video_error import VideoError
from cluster.plan import Unit, video_record
from schemas.failures import short_message
from stcn_core.prompts import NothingFound, PromptError

# Not the video's fault: when the first units all end like this, the run stops instead of marking videos as failed.
# worker: the machine's scratch folder or its decoder process; gone: what was planned is not there any more, or was
# replaced; not-a-number: a precision or a checkpoint that does not serve.
ENVIRONMENT_CLASSES = frozenset({"permission", "storage", "device", "worker", "gone", "not-a-number"})
# Perhaps the video's doing, perhaps bad luck: it is tried once more.
STRIKE_CLASSES = frozenset({"decoder-crash", "decoder-stall", "out-of-memory", "device-out-of-memory", "internal"})
# After these the actor itself is not to be trusted: it is replaced.
BROKEN_ACTOR_CLASSES = frozenset({"device", "device-out-of-memory", "out-of-memory", "internal", "worker"})
STAGES_BEFORE_MASKS = frozenset({"fetch", "probe", "prompts"})
BANK = "bank"  # the saved bank is gone or damaged: the burn-in is done again


class BankError(Exception):
    """A saved bank that is not there any more or is not what was saved: the burn-in must be done again."""


class WorkerError(Exception):
    """This machine cannot work: no scratch folder, no decoder process. No video's fault."""


class KnowsErrors(Protocol):
    """Who can tell a device's errors apart (a `Segmenters`)."""

    def error_class(self, error: BaseException) -> str | None:
        """device, device-out-of-memory, or None where the error is not the device's."""


def error_class(error: BaseException, device: KnowsErrors) -> str:
    """The failure's class: VideoError has its own, the others by kind."""
    if isinstance(error, VideoError):
        return error.error_class
    kinds = (
        (NothingFound, "nothing-detected"),
        (PromptError, "prompt"),
        (BankError, BANK),
        (WorkerError, "worker"),
        (DecoderUnavailable, "worker"),
        (FloatingPointError, "not-a-number"),  # stcn_core.score
        (MemoryError, "out-of-memory"),
        (FileNotFoundError, "missing"),
        (PermissionError, "permission"),
        (OSError, "storage"),
    )
    return device.error_class(error) or next((name for kind, name in kinds if isinstance(error, kind)), "internal")


def never_published(error_class: str, stage: str) -> bool:
    """Whether a failure shows that no attempt at the unit, in whichever run, got as far as publishing: the video or its
    prompts cannot be used, which is found before any mask is made, and every time."""
    passing = error_class in ENVIRONMENT_CLASSES | STRIKE_CLASSES or error_class == BANK
    return stage in STAGES_BEFORE_MASKS and not passing


def failure_row(
    unit: Unit,
    *,
    attempt: int,
    terminal: bool,
    stage: str,
    error_class: str,
    cause: str,
    message: str,
    frames_done: int,
    actor: str | None = None,
    device: str | None = None,
) -> dict:
    """One row of `failures`. cause: exception, a signal's name, actor-died, node-lost, out-of-memory or deadline."""
    return {
        **video_record(unit),
        "attempt": attempt,
        "terminal": terminal,
        "stage": stage,
        "error_class": error_class,
        "cause": cause,
        "message": short_message(message),
        "frames_done": frames_done,
        "host": platform.node(),
        "actor": actor,
        "device": device,
        "happened_at": datetime.datetime.now(datetime.UTC),
    }
