"""URLs and local paths as a manifest gives them: made absolute, named, and shown without credentials."""

import os
import posixpath
import re

# Greedy: a password may itself hold an @.
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
# In Azure's URLs the container stands where others have a login: abfs://container@account.dfs.core.windows.net/a.mp4
_AZURE = re.compile(r"(?:^|[^\w+.-])(?:abfss?|az|wasbs?)://$", re.IGNORECASE)
_CONTAINER = re.compile(r"[\w.$-]+@")
_QUERY = re.compile(r"(?<=[\w+.-]://)([^\s'\"?]*)\?[^\s'\"]*")
_FRAGMENT = re.compile(r"((?<=http://)|(?<=https://))([^\s'\"#]*)#[^\s'\"]*", re.IGNORECASE)


def public_url(url: str) -> str:
    """`url` (or a text that holds URLs) without user, password, query string or fragment, which may hold credentials.

    Plain local paths come back unchanged, an Azure container stays. Chained URLs
    (`zip://a.mp4::https://user:pw@host/b.zip`) are cleaned in every part.
    """
    return "::".join(_FRAGMENT.sub(r"\2", _QUERY.sub(r"\1", _USER.sub(_container, part))) for part in url.split("::"))


def _container(user: re.Match[str]) -> str:
    """What is kept of a URL's user."""
    before = user.string[max(0, user.start() - len(" wasbs://")) : user.start()]
    return user[0] if _AZURE.search(before) and _CONTAINER.fullmatch(user[0]) else ""


def is_local(url: str) -> bool:
    """True for a plain path or `file://` and `local://`."""
    return "::" not in url and ("://" not in url or url.startswith(("file://", "local://")))


def resolve(url: str, base: str) -> str:
    """`url` as an absolute URL or path: relative ones lie in the folder `base` (a URL or local path)."""
    if "://" in url or "::" in url or os.path.isabs(url):
        return url
    if is_local(base):
        path = base.split("://", 1)[-1]
        return os.path.normpath(os.path.join(os.path.abspath(path), url))
    base = base.split("?", 1)[0]
    protocol, path = base.split("://", 1)
    # The bucket or host stays: "../" never climbs out of it.
    host, _, folder = path.partition("/")
    return f"{protocol}://{host}{posixpath.normpath(posixpath.join('/', folder, url))}"


def parent(url: str) -> str:
    """The folder that holds `url`."""
    if is_local(url):
        return os.path.dirname(os.path.abspath(url.split("://", 1)[-1]))
    return url.split("?", 1)[0].rstrip("/").rpartition("/")[0]


def file_name(url: str) -> str:
    """The last part of the path: `a.mp4` for `https://host/x/a.mp4?sig=...`, `bear` for `480p/bear/`."""
    return public_url(url).split("::", 1)[0].rstrip("/").rpartition("/")[2]


def stem(url: str) -> str:
    """File name without its suffix; the whole name where `url` ends with "/" (said to be a folder)."""
    name = file_name(url)
    if public_url(url).endswith("/"):
        return name
    head, dot, _ = name.rpartition(".")
    return head if dot and head else name


def uncached(url: str) -> dict[str, bool]:
    """fsspec's options for listings that are never cached. SFTP knows no cache, and would hand the option on to its
    login."""
    return {} if url.startswith(("sftp://", "ssh://")) else {"use_listings_cache": False}
