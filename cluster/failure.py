"""What went wrong, as a row of the `failures` table."""

import datetime
import platform

import torch

from cluster.plan import Unit, video_record
from cluster.video import VideoError
from schemas.failures import short_message
from stcn_core.prompts import PromptError

# Not the video's fault: when the first units all end like this, the run stops instead of marking videos as failed.
ENVIRONMENT_CLASSES = frozenset({"permission", "storage", "device"})
# After these the actor itself is not to be trusted: it is replaced.
BROKEN_ACTOR_CLASSES = frozenset({"device", "internal"})


def error_class(error: BaseException) -> str:
    """The failure's class: VideoError has its own, the others by kind."""
    if isinstance(error, VideoError):
        return error.error_class
    kinds = (
        (PromptError, "prompt"),
        (torch.OutOfMemoryError, "device-out-of-memory"),
        (MemoryError, "out-of-memory"),
        (FileNotFoundError, "missing"),
        (PermissionError, "permission"),
        (OSError, "storage"),
    )
    if isinstance(error, RuntimeError) and "CUDA error" in str(error):
        return "device"  # sticky: every later call of this process fails too
    return next((name for kind, name in kinds if isinstance(error, kind)), "internal")


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
    """One row of `failures`. cause: exception, actor-died, node-lost, out-of-memory or deadline."""
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
