"""What the listings say of a manifest's videos and masks, looked up side by side and more than once."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cluster.stores.source import SourceStat, content_version, stat_source
from schemas.urls import is_local

STAT_THREADS = 32
LOOK_AGAIN_SECONDS = (0.0, 0.5, 2.0)  # waited before each look: a moment's fault must not make a video count as missing
NOTHING = SourceStat(False, False, None, None)


def stat_all(urls: Iterable[str], options: Mapping) -> dict[str, SourceStat]:
    """Looks every URL up. One that cannot be looked up counts as missing: its unit fails at it. Raises OSError where
    none can be looked up."""
    ordered = sorted(urls)
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        found = list(pool.map(lambda url: _patiently(lambda: stat_source(url, dict(options))), ordered))
    problems = [item for item in found if isinstance(item, OSError)]
    if problems and len(problems) == len(ordered):
        raise problems[0]
    return {url: NOTHING if isinstance(item, OSError) else item for url, item in zip(ordered, found, strict=True)}


def by_content(urls: Collection[str], stats: Mapping[str, SourceStat], options: Mapping) -> dict[str, SourceStat]:
    """The stats of files on this machine's disks with a hash of their bytes for a version: reads them all. Elsewhere
    the version is left as it is, which is an etag as a rule. A file that cannot be read counts as missing."""
    files = sorted(url for url in urls if is_local(url) and stats[url].exists and not stats[url].is_dir)

    def hashed(url: str) -> SourceStat:
        return replace(stats[url], version=content_version(url, dict(options)))

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        found = list(pool.map(lambda url: _patiently(lambda: hashed(url)), files))
    read = {url: NOTHING if isinstance(item, OSError) else item for url, item in zip(files, found, strict=True)}
    return {url: read.get(url, stats[url]) for url in urls}


def _patiently(look: Callable[[], SourceStat]) -> SourceStat | OSError:
    error: OSError | None = None
    for pause in LOOK_AGAIN_SECONDS:
        time.sleep(pause)
        try:
            return look()
        except PermissionError as refused:
            return refused
        except ValueError as wrong:
            return OSError(str(wrong))
        except OSError as blip:
            error = blip
    return error
