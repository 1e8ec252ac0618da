"""Decoding on the GPU first: what the processor goes on with. No GPU is needed: the tests stand in for its decoder, or
it is not there, which is one of the cases."""

from collections.abc import Iterator

import av
import numpy as np
import pytest
from framepump import VideoFrames
from made_videos import read_number, write_video

import cluster.frames.video
from cluster.frames.video import FrameReader, probe_video

FRAMES = 60


@pytest.fixture(params=["a.mp4", "a.mkv"])
def video(tmp_path, request):
    """Matroska declares no number of frames."""
    return write_video(tmp_path / request.param, FRAMES, options={"bf": "3", "g": "10", "preset": "ultrafast"})


class GpuFrames:
    """framepump's frames as of a GPU: decoded by the processor, counted, and with `fate` after `until` frames."""

    fate, until, read = "whole", FRAMES, 0

    def __init__(self, path: str = "", *, frames: VideoFrames | None = None, gpu: bool, **more: object) -> None:
        self._frames, self._gpu = VideoFrames(path, **more) if frames is None else frames, gpu

    def resized(self, size: tuple[int, int]) -> "GpuFrames":
        return GpuFrames(frames=self._frames.resized(size), gpu=self._gpu)

    def __getitem__(self, part: slice) -> "GpuFrames":
        return GpuFrames(frames=self._frames[part], gpu=self._gpu)

    def __iter__(self) -> Iterator[np.ndarray]:
        for number, frame in enumerate(self._frames):
            if self._gpu and number == GpuFrames.until:
                if GpuFrames.fate == "error":
                    raise av.error.ExternalError(1, "the GPU's decoder gives up")
                return
            GpuFrames.read += self._gpu
            yield frame


def numbers(reader: FrameReader) -> list[tuple[int, int]]:
    return [(index, read_number(frame)) for index, frame in reader]


@pytest.mark.parametrize("fate, until", [("whole", FRAMES), ("error", 0), ("error", 23), ("ends", 23), ("ends", 0)])
@pytest.mark.parametrize("start, stride", [(0, 1), (0, 7), (40, 3)])
def test_the_processor_goes_on_where_the_gpu_stops(video, monkeypatch, fate, until, start, stride):
    monkeypatch.setattr(cluster.frames.video, "VideoFrames", GpuFrames)
    monkeypatch.setattr(cluster.frames.video, "SEEK_FROM", 8)
    for name, value in (("fate", fate), ("until", until), ("read", 0)):
        monkeypatch.setattr(GpuFrames, name, value)
    reader = FrameReader(video, probe_video(video), start=start, stride=stride, nvdec=True)
    assert numbers(reader) == [(number, number) for number in range(start, FRAMES, stride)]
    assert reader.decoded == FRAMES and reader.error is None
    assert GpuFrames.read == min(until, FRAMES - start)
    GpuFrames.read = 0
    assert numbers(FrameReader(video, probe_video(video), nvdec=True, seek=False)) and GpuFrames.read == 0


def test_without_a_gpu_the_option_changes_nothing(video):
    """framepump refuses, or finds the GPU; either way these are the frames."""
    plain, asked = (FrameReader(video, probe_video(video), nvdec=nvdec) for nvdec in (False, True))
    for (index, one), (there, other) in zip(plain, asked, strict=True):
        assert index == there and np.array_equal(one, other)
    assert asked.decoded == plain.decoded == FRAMES and asked.error is None
