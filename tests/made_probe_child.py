"""The probing child with faults by file name: `segv` accesses address 0, `hang` sleeps, `exit` leaves."""

import ctypes
import os
import sys
import time

import cluster.frames.probe_child as child
from cluster.frames.parent_link import ParentLink

real_probe = child.probe


def probe(url: str, options: dict) -> dict:
    name = os.path.basename(url)
    if "segv" in name:
        ctypes.string_at(0)
    if "hang" in name:
        time.sleep(600)
    if "exit" in name:
        os._exit(3)
    return real_probe(url, options)


if __name__ == "__main__":
    if os.environ.get("STCN_TEST_FAULT") == "start-exit":
        sys.exit("no such library")
    child.probe = probe
    child.serve(ParentLink(sys.argv[1:]))
