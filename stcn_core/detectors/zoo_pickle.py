"""Model-zoo `.pkl` files (detectron2, Caffe2) without running what is in them.

Such a file is a pickle of nested dicts, texts, numbers and numpy arrays. A pickle is a program: unpickling it with
Python's own means runs whatever it names. Here every name that it may call is answered by a record of this file, which
only keeps what it was given; arrays are made afterwards, from bytes, for number types alone. Any other name is refused.
"""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

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
        self.order = {"<": "<", ">": ">", "|": "|", "=": "<"}.get(state[1], "?")

    def dtype(self) -> np.dtype:
        name = self.name.decode("latin1") if isinstance(self.name, bytes) else self.name
        if name not in NUMBERS or self.order == "?":
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


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    **{(module, "_reconstruct"): _Array for module in _MULTIARRAY},
    **{(module, "scalar"): _Scalar for module in _MULTIARRAY},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Call(ALLOWED[module, name])

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_zoo_pickle(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of the weights in a zoo file: those under "model", where it has that, otherwise all of it.

    Raises DetectorError where the file holds, or asks for, anything but dicts, texts, numbers and arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            found = _Reader(file, encoding="latin1").load()
        weights = found.get("model", found) if isinstance(found, dict) else None
        if not isinstance(weights, dict):
            raise pickle.UnpicklingError("no dict of weights")
        return {
            key: value.array()
            for key, value in weights.items()
            if isinstance(key, str) and isinstance(value, _Array) and key != "__author__"
        }
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = str(error) or type(error).__name__
        raise DetectorError(
            f"{path} is no model-zoo file of arrays ({reason}): nothing in it was run. Give the file as the zoo has "
            "it, or save its state dict as .safetensors"
        ) from error
