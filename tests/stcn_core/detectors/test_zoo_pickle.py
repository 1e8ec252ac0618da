"""Model-zoo pickles are read as data: nothing that they name is ever called."""

import collections
import io
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest

from stcn_core.detectors import DetectorError
from stcn_core.detectors.zoo_pickle import read_zoo_pickle

WEIGHTS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.array([1.5, -2.0], np.float16),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(5, dtype=">i4"),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
}


def written(tmp_path: Path, content: object, protocol: int = 2) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_come_back_as_they_are(tmp_path: Path, protocol: int):
    for content in (WEIGHTS, {"model": collections.OrderedDict(WEIGHTS), "__author__": "zoo", "epoch": 3}):
        found = read_zoo_pickle(written(tmp_path, content, protocol))
        assert set(found) == set(WEIGHTS)
        for key, array in WEIGHTS.items():
            assert np.array_equal(found[key], array) and found[key].dtype == array.dtype.newbyteorder("=")
            assert found[key].flags.c_contiguous and found[key].flags.writeable


def test_what_python_2_wrote(tmp_path: Path):
    # A str of Python 2 as array data and as keys: opcode U (short binary string).
    data = np.array([1.0, 2.0], "<f4").tobytes()
    stream = io.BytesIO()
    stream.write(b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR")
    stream.write(b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff")
    stream.write(b"K\x00tb\x89U" + bytes([len(data)]) + data + b"tbs.")
    path = tmp_path / "old.pkl"
    path.write_bytes(stream.getvalue())
    assert read_zoo_pickle(path)["w"].tolist() == [1.0, 2.0]


class Runs:
    """Unpickled in the usual way, it makes a folder."""

    def __init__(self, what: object, *arguments: object) -> None:
        self.reduced = (what, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_run(tmp_path: Path, protocol: int):
    target = tmp_path / "made"
    for content in (
        Runs(os.mkdir, str(target)),
        {"model": {"a": Runs(os.mkdir, str(target))}},
        Runs(eval, f"__import__('os').mkdir({str(target)!r})"),
        {"a": Runs(getattr, "x", "upper")},
    ):
        with pytest.raises(DetectorError, match="nothing in it was run"):
            read_zoo_pickle(written(tmp_path, content, protocol))
    assert not target.exists()
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(target))))  # so the attack is a real one
    assert target.exists()


@pytest.mark.parametrize(
    ("reason", "array"),
    [
        ("an array of 'O8'", np.array([{"a": 1}], object)),
        ("an array of 'U", np.array(["text"])),
        ("an array of|structured", np.zeros(2, [("x", "f4"), ("y", "i4")])),
    ],
)
def test_only_arrays_of_numbers(tmp_path: Path, reason: str, array: np.ndarray):
    with pytest.raises(DetectorError, match=reason):
        read_zoo_pickle(written(tmp_path, {"a": array}))


def test_lying_and_damaged_files(tmp_path: Path):
    good = pickle.dumps(WEIGHTS, 2)
    path = tmp_path / "bad.pkl"
    for data in (b"", b"no pickle", good[:200], good[:-40]):
        path.write_bytes(data)
        with pytest.raises(DetectorError, match="bad.pkl is no model-zoo file"):
            read_zoo_pickle(path)
    # An array that says to be larger than its bytes.
    lie = pickle.dumps({"a": np.zeros(4, np.float32)}, 2).replace(b"K\x04\x85", b"K\x7f\x85")
    path.write_bytes(lie)
    with pytest.raises(DetectorError, match="do not fit its shape"):
        read_zoo_pickle(path)
    with pytest.raises(DetectorError, match="no dict"):
        read_zoo_pickle(written(tmp_path, [1, 2]))


def test_a_pickle_cannot_change_what_it_calls(tmp_path: Path):
    # GLOBAL, then BUILD with a slot state, which sets attributes on whatever is on the stack.
    attack = b"\x80\x02ccollections\nOrderedDict\n(N}X\x04\x00\x00\x00keysK\x01stb."
    path = tmp_path / "attack.pkl"
    path.write_bytes(attack)
    with pytest.raises(DetectorError, match="changes what it calls"):
        read_zoo_pickle(path)
    assert collections.OrderedDict().keys is not None and dict().keys() == set()


@pytest.mark.parametrize(
    ("reason", "attack"),
    [
        ("keys that are no texts", b"\x80\x02}K\x01" + b"\x85" * 300_000 + b"K\x01s."),  # its hash would recurse
        ("keys that are no texts", b"\x80\x02(K\x01" + b"\x85" * 300_000 + b"K\x01d."),
        ("keys that are no texts", b"\x80\x02ccollections\nOrderedDict\n]K\x01" + b"\x85" * 300_000
         + b"K\x01\x86a\x85R."),
        ("a set", b"\x80\x04\x8f(K\x01" + b"\x85" * 300_000 + b"\x90."),
        ("recursion depth", b"\x80\x02}U\x01wcnumpy\nndarray\n)R(K\x01)cnumpy\ndtype\nK\x01" + b"\x85" * 300_000
         + b"\x85R\x89U\x00tbs."),
        ("an array", b"\x80\x02}U\x01wcnumpy\nndarray\n)R(K\x01)cnumpy\ndtype\nU\x02f4\x85R(K\x03K\x01"
         + b"\x85" * 300_000 + b"NNNtb\x89U\x00tbs."),
    ],
)  # fmt: skip
def test_nesting_does_not_end_the_process(tmp_path: Path, reason: str, attack: bytes):
    path = tmp_path / "deep.pkl"
    path.write_bytes(attack)
    with pytest.raises(DetectorError, match=reason):
        read_zoo_pickle(path)


def test_a_small_file_does_not_fill_the_memory(tmp_path: Path):
    path = tmp_path / "large.pkl"
    # Remembered under a number for which the reader in C makes room for 2^31 objects, whatever the file's size.
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x3f.")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_zoo_pickle(path) == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (100 << 10)
    # The same bytes as many arrays, and a text encoded many times.
    state = (1, (4000,), np.dtype("f4"), False, b"\0" * 16000)
    path.write_bytes(pickle.dumps({"model": {f"w{n}": Rebuilt(state) for n in range(9)}}, 4))
    with pytest.raises(DetectorError, match="larger than the file"):
        read_zoo_pickle(path)
    path.write_bytes(b"\x80\x02]c_codecs\nencode\nq\x01X\x10\x27\x00\x00" + b"a" * 10000 + b"\x85q\x02Ra"
                     + b"h\x01h\x02Ra" * 9 + b".")  # fmt: skip
    with pytest.raises(DetectorError, match="more bytes than the file has"):
        read_zoo_pickle(path)


class Rebuilt:
    """Pickled as an array with this state."""

    def __init__(self, state: tuple) -> None:
        self.state = state

    def __reduce__(self) -> tuple:
        return np.ndarray, (0,), self.state


def test_an_array_may_have_two_names(tmp_path: Path):
    tied = np.arange(1000, dtype=np.float32)
    found = read_zoo_pickle(written(tmp_path, {"a": tied, "b": tied}))
    assert found["a"] is found["b"] and np.array_equal(found["a"], tied)
