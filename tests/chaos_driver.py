"""The annotate run of the chaos test, as a process of its own: everything real but the network, and some videos cursed.

    python tests/chaos_driver.py MANIFEST OUTPUT ADDRESS MARKS [--curses] [--bad-node ID] [--actors N]
                                 [--stall-seconds S] [--storage-options JSON]

With --curses, videos whose id begins so do real harm to the process that works on them: `segv-decoder` kills the
decoder by SIGSEGV, `stop-decoder` stops it for good, `segv-actor` kills the actor by SIGSEGV, `gil` holds the
interpreter's lock for good, `torn` kills the actor (once) while it publishes, `late` (once) right after. On the node
--bad-node nothing works, as with a full scratch disk; it begins once another has, so that it is no matter of luck
whether the driver sees others work.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import ray

import cluster.run
from cluster.failure import WorkerError
from cluster.run import RunRequest, run
from cluster.stand_in import StandInSegmenter, StandInSegmenters
from cluster.stores.source import read_source
from cluster.stores.storage import Published, Storage
from schemas.manifest import parse_manifest
from schemas.run_config import RunConfig
from schemas.urls import parent

CONFIG = RunConfig("stand-in", "0" * 64, memory_frames=4, burn_in_frames=8, segment_frames=20, recent_frames=2)
CURSED_FRAME = 11
# Long, so that a busy machine is not taken for a stall; where videos do stall, a test asks for less.
STALL_SECONDS = 120.0


def children_named(word: str) -> list[int]:
    """This process's children with the word in their command lines."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def strike_down(pid: int, number: int) -> None:
    """Sends a signal and waits until the decoder has stopped or ended. Nobody takes its frames meanwhile: otherwise it
    could give the last of them before the signal does its work."""
    os.kill(pid, number)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "Z"):
            return
        time.sleep(0.005)


class CursedSegmenter(StandInSegmenter):
    """Segments as a stand-in does, and does harm at one frame."""

    def __init__(self, *args: object, video_id: str, marks: str, **more: object) -> None:
        super().__init__(*args, video_id=video_id, **more)
        self._video_id, self._marks = video_id, marks

    def final_pass(self, *args: object, **more: object) -> Iterator:
        for number, result in enumerate(super().final_pass(*args, **more)):
            if number == 0:
                with open(Path(self._marks) / "begun", "a") as file:
                    file.write(f"{self._video_id} {result[0]}\n")
            if number == CURSED_FRAME:
                self._strike()
            yield result

    def _strike(self) -> None:
        assert "torch" not in sys.modules, "the stand-in's actor must not need torch"
        if self._video_id.startswith("segv-actor"):
            # A true one: a signal may be taken by another thread, and this one be done before the process has ended.
            ctypes.string_at(0)
        elif self._video_id.startswith("gil"):
            ctypes.PyDLL(None).sleep(100_000)  # PyDLL keeps the lock while it calls
        for name, number in (("segv-decoder", signal.SIGSEGV), ("stop-decoder", signal.SIGSTOP)):
            if self._video_id.startswith(name):
                for pid in children_named("decoder_child"):
                    strike_down(pid, number)


class CursedSegmenters(StandInSegmenters):
    """Makes segmenters that may do harm, and note which stretches of which video they begin."""

    def __init__(self, seconds_per_frame: float, marks: str) -> None:
        super().__init__(seconds_per_frame)
        self.marks = marks

    def begin(self, settings, prompts, video) -> StandInSegmenter:
        return CursedSegmenter(
            settings,
            prompts,
            source=video.source,
            size=video.size,
            video_id=video.video_id,
            marks=self.marks,
            seconds=self.seconds_per_frame,
        )


class BadNodeSegmenters(StandInSegmenters):
    """Fails every unit on one node."""

    def __init__(self, seconds_per_frame: float, node: str, marks: str) -> None:
        super().__init__(seconds_per_frame)
        self._node, self._works = node, Path(marks) / "works"

    def begin(self, settings, prompts, video) -> StandInSegmenter:
        if ray.get_runtime_context().get_node_id() == self._node:
            deadline = time.monotonic() + STALL_SECONDS / 2
            while not self._works.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            raise WorkerError("the scratch folder cannot be used: no space left on device")
        self._works.touch()
        return super().begin(settings, prompts, video)


class TornStorage(Storage):
    """Kills its process while it publishes the shards of some videos, the first time."""

    def __init__(self, url: str, options: dict | None = None) -> None:
        super().__init__(url, options)
        self.marks = sys.argv[4]

    def publish(self, name: str, data: bytes | Path) -> Published:
        if not name.startswith("masks/") or not isinstance(data, Path):
            return super().publish(name, data)
        video_id = json.loads(pq.read_metadata(data).metadata[b"video"])["video_id"]
        mark = Path(self.marks) / video_id
        if not video_id.startswith(("torn", "late")) or mark.exists():
            return super().publish(name, data)
        mark.touch()
        if video_id.startswith("torn"):
            if self.local:  # at the last step: the bytes are there under another name
                os.link = os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            else:  # in the middle of the upload
                threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGKILL)).start()
        published = super().publish(name, data)
        os.kill(os.getpid(), signal.SIGKILL)
        return published


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("manifest")
    p.add_argument("output")
    p.add_argument("address")
    p.add_argument("marks", help="folder in which it is noted what was begun and what was done once")
    p.add_argument("--curses", action="store_true")
    p.add_argument("--bad-node", metavar="ID")
    p.add_argument("--actors", type=int, default=4)
    p.add_argument("--seconds-per-frame", type=float, default=0.004)
    p.add_argument("--stall-seconds", type=float, default=STALL_SECONDS, help="half as long for the decoder")
    p.add_argument("--storage-options", type=json.loads, default={})
    args = p.parse_args()
    segmenters = StandInSegmenters(args.seconds_per_frame)
    if args.bad_node:
        segmenters = BadNodeSegmenters(args.seconds_per_frame, args.bad_node, args.marks)
    if args.curses:
        segmenters = CursedSegmenters(args.seconds_per_frame, args.marks)
        cluster.run.Storage = TornStorage
    rows = parse_manifest(args.manifest, read_source(args.manifest), parent(args.manifest))
    request = RunRequest(
        output=args.output,
        segmenters=segmenters,
        actors=args.actors,
        threads=1,
        device="cuda",
        address=args.address,
        stall_seconds=args.stall_seconds,
        decoder_seconds=args.stall_seconds / 2,
        drain_seconds=5.0,
        output_options=args.storage_options,
    )
    return run(request, CONFIG, list(rows), lambda text: print(text, flush=True))


if __name__ == "__main__":
    sys.exit(main())
