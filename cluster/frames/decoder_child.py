"""The decoder's child process: does all container work on command, so that a crash or a hang costs only itself.

Started by `cluster/frames/decoder.py` as `python -m cluster.frames.decoder_child`. Imports no torch, no Ray, no Arrow.
"""

import contextlib
import dataclasses
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cluster.frames.parent_link import ParentLink
from cluster.frames.video import FrameReader, FrameTimes, VideoError, VideoInfo, frame_times, probe_video


class Stopped(BaseException):
    """The parent wants no more of these frames. No Exception: FrameReader takes those for damage."""


class DecoderChild:
    def __init__(self, link: ParentLink):
        self.link = link
        (self.ring,) = link.shared
        self.free = 0  # slots of the ring that may be filled

    def serve(self) -> None:
        """Answers requests one after the other until the parent is gone."""
        self.link.send(ready=os.getpid())
        tasks = {"probe": self.probe, "times": self.times, "frames": self.frames}
        while True:
            command = self.link.command()
            if command["do"] not in tasks:
                continue  # came too late: these frames have ended
            self.link.send(begun=command["do"])
            try:
                self.link.send(done=tasks[command["do"]](Path(command["path"]), command))
            except VideoError as error:
                self.link.send(failed=[error.error_class, error.path, error.reason])
            except Stopped:
                self.link.send(done=None)
            except Exception as error:
                self.link.send(raised=f"{type(error).__name__}: {error}")

    def probe(self, path: Path, command: dict) -> dict:
        return dataclasses.asdict(probe_video(path))

    def times(self, path: Path, command: dict) -> dict | None:
        """The arrays go through the ring's file, first `pts`, then `time_s`."""
        times = frame_times(path, lambda packets: self.progress(packets))
        if times is None:
            return None
        offset = 0
        for numbers in (times.pts.astype(np.int64, copy=False), times.time_s.astype(np.float64, copy=False)):
            data = memoryview(np.ascontiguousarray(numbers)).cast("B")
            while data:
                written = os.pwrite(self.ring, data, offset)
                data, offset = data[written:], offset + written
        return {"frames": len(times), "seekable": times.seekable, "hidden": times.hidden}

    def frames(self, path: Path, command: dict) -> None:
        """Sends one event per frame, its picture in the next slot; waits while no slot is free."""
        info, size, slots = VideoInfo(**command["info"]), command["size"], command["slots"]
        reader = FrameReader(
            path, info, size, command["start"], command["end"], command["stride"], seek=command["seek"],
            nvdec=command["nvdec"], times=_times(command["times"]), progress=self.progress,
        )  # fmt: skip
        self.free, slot, pixels = slots, 0, size[0] * size[1] * 3
        with mmap.mmap(self.ring, slots * pixels) as ring:
            try:
                with contextlib.closing(iter(reader)) as frames:
                    for index, frame in frames:
                        while self.free == 0:
                            self.take_command(wait=True)
                        self.free -= 1
                        np.frombuffer(ring, np.uint8, pixels, slot * pixels).reshape(*size, 3)[...] = frame
                        self.link.send(frame=index, slot=slot, decoded=reader.decoded, error=reader.error)
                        slot = (slot + 1) % slots
            finally:
                self.link.send(decoded=reader.decoded, error=reader.error)

    def progress(self, count: int, blind: int = 0) -> None:
        """Called by the decode loop itself, never by a timer: a decoder that spins gives no sign of life."""
        while self.take_command(wait=False):
            pass
        if blind or self.link.silent():
            self.link.send(alive=count, blind=blind)

    def take_command(self, wait: bool) -> bool:
        command = self.link.command(wait)
        if command is None:
            return False
        if command["do"] == "stop":
            raise Stopped
        self.free += 1
        return True


def _times(facts: list[Any] | None) -> FrameTimes | None:
    """What FrameReader needs of the parent's times in order to seek: how many there are, and whether they serve."""
    if facts is None:
        return None
    count, seekable = facts
    return FrameTimes(np.broadcast_to(np.int64(0), count), np.broadcast_to(0.0, count), seekable)


if __name__ == "__main__":
    DecoderChild(ParentLink(sys.argv[1:])).serve()
