"""JSON written piece by piece, so that a long video's masks need not be in memory together."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

Streamed = Mapping[str, Any] | Iterator[Any] | Callable[[], Any]


def write_json(file: BinaryIO, value: Any) -> None:
    """Writes a value. An iterator becomes a list, item by item; a callable is called when its turn has come, so that it
    may hold what was gathered on the way. The same values give the same bytes. Raises ValueError for NaN.
    """
    for piece in _pieces(value):
        file.write(piece.encode())


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(str(key))}: "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, Iterator):
        yield "["
        for number, item in enumerate(value):
            yield ",\n" if number else "\n"
            yield from _pieces(item)
        yield "]"
    elif callable(value):
        yield from _pieces(value())
    else:
        yield json.dumps(value, allow_nan=False)
