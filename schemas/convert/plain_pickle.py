"""Pickles of plain values only: read without ever running what is in them, written piece by piece.

A pickle is a program for a small machine. Before it is run, every instruction of it is looked at: those that name or
call anything (GLOBAL, REDUCE, BUILD, INST, persistent ids, extensions, ...) are refused, and so are instructions that
would make the machine reserve memory out of all proportion to the file.
"""

import io
import pickle
import pickletools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

# Instructions that make or fill None, bool, int, float, str, bytes, list, tuple and dict, or move them about.
ALLOWED = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 "
    "FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE".split()
)
ONLY = "only lists, dicts, tuples, texts, bytes and numbers are read"
MEMO = frozenset("PUT BINPUT LONG_BINPUT".split())


class PickleRefused(ValueError):
    """The bytes are no pickle, or one that holds more than plain values. The message says what."""


class _Nothing(pickle.Unpickler):
    """Finds no class and no function, should an instruction ask for one all the same."""

    def find_class(self, module: str, name: str) -> Any:
        raise PickleRefused(f"it asks for {module}.{name}: {ONLY}")

    def persistent_load(self, pid: Any) -> Any:
        raise PickleRefused("it asks for a persistent object")


def read_pickle(data: bytes) -> Any:
    """The plain value in a pickle. Raises PickleRefused."""
    try:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name not in ALLOWED:
                what = f" ({' '.join(str(argument).split())[:80]})" if isinstance(argument, str) else ""
                raise PickleRefused(f"it has the instruction {opcode.name}{what} at byte {position}: {ONLY}")
            # The memo is a table as large as its largest index.
            if opcode.name in MEMO and int(argument) > len(data):
                raise PickleRefused(f"it is damaged: memo index {argument} at byte {position}")
        return _Nothing(io.BytesIO(data), encoding="bytes").load()
    except PickleRefused:
        raise
    except Exception as error:  # the machine raises what it likes on damaged programs
        what = f"{type(error).__name__}: {str(error)[:100]}"
        raise PickleRefused(f"it is no pickle, or a damaged one ({what})") from error


def write_pickle_list(file: BinaryIO, items: Iterable[Any]) -> None:
    """Writes a pickle (protocol 3) of the list of `items`, which may be an iterator: one is held at a time."""
    file.write(pickle.PROTO + b"\x03" + pickle.EMPTY_LIST)
    for piece in _pieces(items):
        file.write(piece + pickle.APPEND)
    file.write(pickle.STOP)


def _pieces(items: Iterable[Any]) -> Iterator[bytes]:
    # Each item's memo begins at 0 again: it writes over the last one's, to which nothing refers any more.
    for item in items:
        # Without the two bytes that name the protocol in front, and STOP behind. Protocol 4 would add frames.
        yield pickle.dumps(item, protocol=3)[2:-1]
