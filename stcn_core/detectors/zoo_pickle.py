"""Model-zoo `.pkl` files (detectron2, Caffe2) without running what is in them.

Such a file is a pickle of nested dicts, texts, numbers and numpy arrays. A pickle is a program: unpickling it with
Python's own means runs whatever it names. Here every name that it may call is answered by a record of this file, which
only keeps what it was given; arrays are made afterwards, from bytes, for number types alone. Any other name is refused.
Nor can a small file fill the memory or end the process: Python's own reader, not the one in C, which makes room for any
number of remembered objects; keys of dicts are texts, as hashing deeply nested tuples overflows the stack; and the
arrays together are no larger than the file.
"""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stcn_core.detectors.detections import DetectorError

NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}


class _Kind:
    """What stands for a numpy dtype: its name and byte order, nothing that could hold objects."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: object) -> None:
        # (version, byte order, subarray, field names, fields, ...)
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a structured array")
        order = state[1] if isinstance(state[1], str) else "?"
        self.order = {"<": "<", ">": ">", "|": "|", "=": "<"}.get(order, "?")

    def dtype(self) -> np.dtype:
        name = self.name.decode("latin1") if isinstance(self.name, bytes) else self.name
        if not isinstance(name, str) or name not in NUMBERS or self.order == "?":
            raise pickle.UnpicklingError(f"an array of {str(name)[:20]!r}")
        return np.dtype(name).newbyteorder(self.order)


class _Array:
    """What stands for a numpy array until it is made."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Raises pickle.UnpicklingError for anything but an array of numbers whose bytes fit its shape."""
        try:
            _, shape, kind, fortran, data = self.state
            shape = tuple(int(side) for side in shape)
            dtype = kind.dtype()
            data = data.encode("latin1") if isinstance(data, str) else data  # written by Python 2
            fits = isinstance(data, bytes) and all(side >= 0 for side in shape)
            if not fits or len(data) != math.prod(shape) * dtype.itemsize:
                raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
            made = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
            return np.array(made, dtype.newbyteorder("="), order="C")
        except (TypeError, ValueError, AttributeError, UnicodeError) as error:
            raise pickle.UnpicklingError(f"an array that is not understood ({error})") from error


class _Scalar:
    """What stands for a numpy number; none is a weight."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _dict(items: object = ()) -> dict:
    # Python 2 wrote an ordered dict as a list of pairs.
    found: dict = {}
    for key, value in items:
        found[_key(key)] = value
    return found


def _key(key: object) -> object:
    if not isinstance(key, str | bytes | int | None):
        raise pickle.UnpicklingError("a dict with keys that are no texts")
    return key


def _encode(text: object, encoding: object = "latin1") -> bytes:
    # Protocol 2 writes bytes as text in Latin 1 and asks the codecs for them back.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in another encoding than Latin 1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    # Protocol 2 makes empty bytes so.
    return b""


class _Call:
    """What a pickle gets for a name: it can be called, and neither changed nor looked into."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable) -> None:
        object.__setattr__(self, "_made", made)

    def __call__(self, *arguments: object) -> object:
        return self._made(*arguments)

    def __setattr__(self, *_: object) -> None:
        raise pickle.UnpicklingError("it changes what it calls")

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError("it changes what it calls")


ENCODE = ("_codecs", "encode")
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("collections", "OrderedDict"): _dict,
    ENCODE: _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    **{(module, "_reconstruct"): _Array for module in _MULTIARRAY},
    **{(module, "scalar"): _Scalar for module in _MULTIARRAY},
}


class _Reader(pickle._Unpickler):
    """size: of the file in bytes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self._left = size

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Call(self._encoded if (module, name) == ENCODE else ALLOWED[module, name])

    def _encoded(self, text: object, *encoding: object) -> bytes:
        self._left -= len(text)
        if self._left < 0:  # one text may be named often
            raise pickle.UnpicklingError("more bytes than the file has")
        return _encode(text, *encoding)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_key(key)] = value

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_dict(zip(items[::2], items[1::2], strict=True)))

    def load_set(self) -> None:
        raise pickle.UnpicklingError("a set")

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.EMPTY_SET[0]: load_set,
        pickle.ADDITEMS[0]: load_set,
        pickle.FROZENSET[0]: load_set,
    }

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_zoo_pickle(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of the weights in a zoo file: those under "model", where it has that, otherwise all of it.

    Raises DetectorError where the file holds, or asks for, anything but dicts, texts, numbers and arrays of numbers.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            found = _Reader(file, size).load()
        weights = found.get("model", found) if isinstance(found, dict) else None
        if not isinstance(weights, dict):
            raise pickle.UnpicklingError("no dict of weights")
        arrays = {
            key: value
            for key, value in weights.items()
            if isinstance(key, str) and isinstance(value, _Array) and key != "__author__"
        }
        made: dict[int, np.ndarray] = {}  # an array may have two names
        for value in arrays.values():
            if id(value) not in made:
                made[id(value)] = value.array()
                if sum(array.nbytes for array in made.values()) > size:
                    raise pickle.UnpicklingError("arrays that are larger than the file")
        return {key: made[id(value)] for key, value in arrays.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = str(error) or type(error).__name__
        raise DetectorError(
            f"{path} is no model-zoo file of arrays ({reason}): nothing in it was run. Give the file as the zoo has "
            "it, or save its state dict as .safetensors"
        ) from error
