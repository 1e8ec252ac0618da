"""The decoder's child with faults that a test asks for in STCN_TEST_FAULT: `NAME:FRAME`, at that frame of a request.

segv: a true access to address 0. spin: a loop that holds the GIL. print: writes 100,000 lines and goes on.
slow: every decoded frame takes 20 ms, wanted or not. blind: seeking announces 6,000 frames and takes 2 s.
start-exit, start-hang: the child never becomes ready.
"""

import ctypes
import os
import re
import sys
import time

import cluster.frames.decoder_child as child
from cluster.frames.parent_link import ParentLink

FAULT, _, FRAME = os.environ.get("STCN_TEST_FAULT", "none:0").partition(":")


class FaultyReader(child.FrameReader):
    def __init__(self, *args, progress, **options):
        def slow(decoded: int, blind: int) -> None:
            time.sleep(0.02)
            progress(decoded, blind)

        def silent(decoded: int, blind: int) -> None:
            progress(decoded, 6000 if blind else 0)
            time.sleep(2 if blind else 0)

        super().__init__(*args, progress={"slow": slow, "blind": silent}.get(FAULT, progress), **options)

    def __iter__(self):
        for index, frame in super().__iter__():
            if index == int(FRAME):
                fault()
            yield index, frame


def fault() -> None:
    if FAULT == "segv":
        ctypes.string_at(0)
    if FAULT == "spin":
        re.match(r"(a+)+$", "a" * 80 + "b")
    if FAULT == "print":
        for number in range(100_000):
            print(f"line {number} on both streams")
            print(f"line {number} on both streams", file=sys.stderr)


if __name__ == "__main__":
    if FAULT == "start-exit":
        sys.exit("no such library")
    if FAULT == "start-hang":
        time.sleep(600)
    child.FrameReader = FaultyReader
    child.DecoderChild(ParentLink(sys.argv[1:])).serve()
