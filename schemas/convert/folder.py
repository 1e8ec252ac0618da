"""Files of a format, on any fsspec storage."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from schemas.convert.video import ConvertError

READERS = 8


class Folder:
    """The file or folder that is imported. fs: an fsspec filesystem, root: a path in it, shown: its URL for messages.

    Hidden files and folders do not count. Raises what the storage raises (OSError).
    """

    def __init__(self, fs: Any, root: str, shown: str):
        self._fs, self._root, self.shown = fs, root.rstrip("/"), shown.rstrip("/")

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self._root.rpartition("/")[2]

    def is_file(self) -> bool:
        """Whether it is one file."""
        return self._fs.info(self._root or "/")["type"] != "directory"

    def entries(self, path: str = "") -> tuple[list[str], list[str]]:
        """(names of files, names of folders) in a folder, sorted; empty where there is none."""
        place = f"{self._root}/{path}".rstrip("/")
        try:
            found = self._fs.ls(place or "/", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        files, folders = [], []
        for entry in found:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if name and name[0] != "." and entry["name"].rstrip("/") != place:
                # Of a link the local disk does not say what it leads to.
                is_folder = self._fs.isdir(entry["name"]) if entry.get("islink") else entry["type"] == "directory"
                (folders if is_folder else files).append(name)
        return sorted(files), sorted(folders)

    def files(self, suffixes: tuple[str, ...], pattern: str | None = None) -> list[str]:
        """Paths, for `read`, of the files to import: itself, or those directly in it. Raises ConvertError for none."""
        if self.is_file():
            return [""]
        names = [name for name in self.entries()[0] if name.lower().endswith(suffixes)]
        if pattern is not None:
            names = [name for name in names if fnmatchcase(name, pattern)]
        if not names:
            what = f"files {pattern!r}" if pattern is not None else f"files {' or '.join('*' + s for s in suffixes)}"
            raise ConvertError(f"{self.shown} holds no {what}: check --from, --format and --files")
        return names

    def read(self, path: str) -> bytes:
        """All bytes of a file; "" is the file itself."""
        return self._fs.cat_file(f"{self._root}/{path}" if path else self._root)

    def read_ahead(self, paths: Iterable[str]) -> Iterator[bytes]:
        """All bytes of each file in turn; a few of the next ones are read meanwhile."""
        paths = iter(paths)
        with ThreadPoolExecutor(READERS) as pool:
            waiting = deque(pool.submit(self.read, path) for path in islice(paths, 2 * READERS))
            try:
                while waiting:
                    yield waiting.popleft().result()
                    waiting.extend(pool.submit(self.read, path) for path in islice(paths, 1))
            finally:
                for one in waiting:
                    one.cancel()

    def read_json(self, path: str) -> dict[str, Any]:
        """Raises ConvertError where it is no JSON object."""
        try:
            record = json.loads(self.read(path))
        except (ValueError, RecursionError) as error:
            raise ConvertError(f"{self.url(path)} is not JSON ({str(error)[:100]})") from error
        if not isinstance(record, dict):
            raise ConvertError(f"{self.url(path)} holds a JSON {type(record).__name__}, an object is needed")
        return record

    def url(self, path: str) -> str:
        """For messages."""
        return f"{self.shown}/{path}" if path else self.shown


def fields_of(record: Any, names: dict[str, type | tuple[type, ...]], where: str) -> list[Any]:
    """The values of `names` in a JSON object, each of its type. Raises ConvertError. where: for messages."""
    if not isinstance(record, dict):
        raise ConvertError(f"{where} is a {type(record).__name__}, an object is needed")
    found = []
    for name, kind in names.items():
        if name not in record:
            raise ConvertError(f"{where} has no {name!r}: it is not of this format")
        value = record[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConvertError(f"{where}: {name!r} is a {type(value).__name__}")
        found.append(value)
    return found


def objects_in(record: dict[str, Any], name: str, where: str) -> Iterator[dict[str, Any]]:
    """The objects in the list `name` of a JSON object. Raises ConvertError."""
    (items,) = fields_of(record, {name: list}, where)
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise ConvertError(f"{where}: {name}[{number}] is no object")
        yield item


def names_by_id(record: dict[str, Any], name: str, where: str) -> dict[int, str]:
    """id -> name of the objects in the list `name`. Raises ConvertError."""
    return {
        number: text
        for one in objects_in(record, name, where)
        for number, text in [fields_of(one, {"id": int, "name": str}, f"{where}: {name}")]
    }


def grouped(record: dict[str, Any], name: str, key: str, where: str) -> dict[int, list[dict[str, Any]]]:
    """The objects in the list `name` by their whole number `key`. Raises ConvertError."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in objects_in(record, name, where):
        (number,) = fields_of(one, {key: int}, f"{where}: {name}")
        found.setdefault(number, []).append(one)
    return found


def score_of(record: dict[str, Any]) -> float | None:
    """The `score`; None where there is none, or none that is a number."""
    score = record.get("score")
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None


def texts(values: list[Any], where: str) -> list[str]:
    """The values, which must all be texts that are not empty. Raises ConvertError."""
    if not all(isinstance(value, str) and value for value in values):
        raise ConvertError(f"{where} holds something else than names")
    return values
