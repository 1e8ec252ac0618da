"""Errors of storage in plain words: which URL, what failed, what to do. No credentials in any of them."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.urls import public_url

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of the local disk: full, or not to be written
_CLIENTS = {
    "botocore",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "google",
    "adlfs",
    "azure",
    "paramiko",
    "requests",
    "urllib3",
}
# sig (Azure) and delegation (WebHDFS) stand in queries; as parts of words they are none: "design=...".
_SECRETS = re.compile(
    r"(?i)((?:secret|token|password|signature|credential|access_?key(?:_?id)?)['\"]?\s*[=:]\s*"
    r"|\b(?:sig|delegation)=)\S+"
)
_LOGIN = re.compile(r"[^\s/@:'\"(]+:[^\s/@'\"]+@")
# What a web server answers: nothing is there, or is any more; no access; it is asked too often.
MISSING, REFUSED, TOO_MANY = (404, 410), (401, 403, 407), 429
INSTALL = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
}


@contextmanager
def explained(url: str, action: str) -> Iterator[None]:
    """Raises errors of the block as FileNotFoundError, PermissionError, ConnectionError or OSError that say what to do.

    action completes "cannot be ...": "read", "written", "listed". Errors of the program itself pass unchanged.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if getattr(error, "explained", False) or not _is_storage_error(error):
            raise
        raise explain(error, url, action) from error


@contextmanager
def disk_explained(url: str, action: str) -> Iterator[None]:
    """As `explained`, for a block that reads elsewhere while it writes to a local disk: of a full disk, or one that is
    not to be written, alone."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK and not getattr(error, "explained", False):
            raise explain(error, url, action) from error
        raise


def explain(error: BaseException, url: str, action: str) -> OSError:
    """The error to raise instead of `error`."""
    kind, what, remedy = _judge(error, url)
    # The text of a missing file is its path again.
    detail = "" if what == "it does not exist" else clean(error)
    tail = f" ({detail})" if detail and detail not in what else ""
    explained_error = kind(f"{public_url(url)} cannot be {action}: {what}{tail}. {remedy}.")
    explained_error.explained = True
    return explained_error


def clean(error: BaseException) -> str:
    """The error's text on one line, without credentials, cut to 300 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror and error.filename else str(error)
    text = _LOGIN.sub("", _SECRETS.sub(r"\1***", public_url(" ".join(str(text).split()))))
    return text.rstrip(".") if len(text) <= 300 else text[:290] + "..."


def error_code(error: BaseException | None) -> str:
    """The code of an S3 answer, such as PreconditionFailed, or ""; also found in the error's cause."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def answered(error: BaseException) -> int | None:
    """The status that a web server answered with, None for any other error."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _is_storage_error(error: Exception) -> bool:
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    kinds = (OSError, ImportError, TimeoutError, NotImplementedError)
    return isinstance(error, kinds) or bool(roots & _CLIENTS) or _unknown_protocol(error)


def _unknown_protocol(error: BaseException) -> bool:
    return isinstance(error, ValueError) and "rotocol not known" in str(error)


def _judge(error: BaseException, url: str) -> tuple[type[OSError], str, str]:
    """(type to raise, what happened, remedy)."""
    name, code, text = type(error).__name__, error_code(error), str(error)
    status = answered(error)
    protocol = url.partition("://")[0] if "://" in url else ""
    local = protocol in ("", "file", "local")
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, ImportError):
        package = INSTALL.get(protocol)
        return OSError, f"support for {protocol}:// is not installed", f"pip install {package or 'what it names'}"
    if _unknown_protocol(error):
        return OSError, f"{protocol}:// is not known", "Use a path, file://, s3://, gs:// or another fsspec URL"
    if isinstance(error, NotImplementedError):
        return OSError, f"{protocol}:// does not allow it", "Use another storage: a path, s3://, gs://, abfs://"
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance role"
        return PermissionError, "no credentials were found", remedy
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
        return PermissionError, "the credentials are not valid", "Check the access key, secret, token and endpoint"
    if code == "NoSuchBucket" or "bucket does not exist" in text:
        return FileNotFoundError, "the bucket does not exist", "Create it, or correct its name or the endpoint"
    if (
        isinstance(error, PermissionError)
        or code in ("403", "AccessDenied")
        or "Forbidden" in text
        or status in REFUSED
    ):
        if local:
            return PermissionError, "permission is denied", "Check owner and mode of the folder"
        return (
            PermissionError,
            "access is denied",
            "Check the credentials and that they may list, read, write and delete",
        )
    if isinstance(error, FileNotFoundError) or status in MISSING:
        return (
            FileNotFoundError,
            "it does not exist",
            "Correct the path" if local else "Correct the URL or the endpoint",
        )
    if isinstance(error, (NotADirectoryError, IsADirectoryError, FileExistsError)):
        kind = OSError if isinstance(error, FileExistsError) else type(error)
        return kind, "a file and a folder are mixed up", "Give another path"
    if number == errno.ENOSPC or number == errno.EDQUOT:
        return OSError, "the disk is full", "Free some space and run the same command again"
    if number == errno.EROFS:
        return PermissionError, "the disk is read-only", "Give another path"
    if status is not None and (status >= 500 or status == TOO_MANY):
        return ConnectionError, f"the server answers {status}", "Try again later, or with fewer actors"
    if (
        isinstance(error, (TimeoutError, ConnectionError))
        or "Timeout" in name
        or "Connect" in name
        or "Connection" in name
    ):
        return (
            ConnectionError,
            "the storage cannot be reached",
            "Check the endpoint (AWS_ENDPOINT_URL or endpoint_url) and network",
        )
    return OSError, name, "Check the URL and the storage options"
