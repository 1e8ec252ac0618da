"""Pickles as data: plain values come back, nothing in them is ever run."""

import io
import os
import pickle
import struct

import numpy as np
import pytest

from schemas.convert.plain_pickle import PickleRefused, read_pickle, write_pickle_list

VALUE = [
    [{"size": [480, 854], "counts": b"a\xff\x00"}, {"size": (3, 4), "counts": "text"}],
    [],
    [None, True, 1.5, 1 << 70],
]
RAN = []


class Evil:
    """Its pickle calls a function."""

    def __reduce__(self):
        return RAN.append, ("it ran",)


class Shell:
    def __reduce__(self):
        return os.system, ("touch /tmp/should-not-be-there",)


class Plain:
    pass


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_of_every_protocol(protocol):
    assert read_pickle(pickle.dumps(VALUE, protocol)) == VALUE


def test_written_piece_by_piece_it_is_an_ordinary_pickle():
    shared = {"size": [1, 2], "counts": b"x" * 300}
    items = [[shared, shared], [], [{"size": [1, 2], "counts": b"y"}], *([[shared]] * 50)]
    data = io.BytesIO()
    write_pickle_list(data, iter(items))
    assert pickle.loads(data.getvalue()) == items == read_pickle(data.getvalue())
    data = io.BytesIO()
    write_pickle_list(data, iter([]))
    assert pickle.loads(data.getvalue()) == [] == read_pickle(data.getvalue())


def test_only_one_item_is_held_at_a_time():
    class Watched(io.BytesIO):
        written = 0

        def write(self, data):
            self.written += len(data)
            return super().write(data)

    file, behind = Watched(), []

    def items():
        for number in range(100):
            behind.append(file.written)
            yield [{"size": [1, number], "counts": b"c" * 100}]

    write_pickle_list(file, items())
    assert all(later - earlier > 100 for earlier, later in zip(behind[1:], behind[2:], strict=False))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "value", [Evil(), [[Shell()]], Plain(), print, np.float32(1), np.zeros(3), {1, 2}, bytearray(b"a"), 1j]
)
def test_everything_else_is_refused_and_nothing_runs(value, protocol):
    with pytest.raises(PickleRefused, match="only lists, dicts, tuples, texts, bytes and numbers"):
        read_pickle(pickle.dumps(value, protocol))
    assert not RAN and not os.path.exists("/tmp/should-not-be-there")


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(ios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pid\n.",  # PERSID
        b"\x80\x02]}b.",  # BUILD
        b"\x80\x05\x97.",  # NEXT_BUFFER
    ],
)
def test_every_instruction_that_names_or_calls_is_refused(program):
    with pytest.raises(PickleRefused, match="it has the instruction"):
        read_pickle(program)


def test_damaged_ones_are_refused_without_taking_memory():
    whole = pickle.dumps(VALUE, 4)
    for cut in range(len(whole)):
        with pytest.raises(PickleRefused):
            read_pickle(whole[:cut])
    with pytest.raises(PickleRefused, match="memo index"):
        read_pickle(b"\x80\x03]r" + struct.pack("<I", 2**31) + b".")
    with pytest.raises(PickleRefused):
        read_pickle(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".")
    with pytest.raises(PickleRefused):
        read_pickle(b"")
    with pytest.raises(PickleRefused):
        read_pickle(b"not a pickle at all")
