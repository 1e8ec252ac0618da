"""Damaged containers by seeded mutation: a right answer or a VideoError, never a crash, a hang or another exception."""

import os
import random
import subprocess
import sys
import textwrap

import pytest
from made_videos import write_video

B_FRAMES = {"bf": "3", "g": "10"}
SOURCES = {
    "a.mp4": ("libx264", B_FRAMES, {}),
    "b.mp4": ("libx264", B_FRAMES, {"movflags": "+faststart"}),
    "c.mp4": ("libx264", B_FRAMES, {"movflags": "+frag_keyframe+empty_moov"}),
    "d.mkv": ("libx264", B_FRAMES, {}),
    "e.ts": ("libx264", B_FRAMES, {}),
    "f.avi": ("mpeg4", {"bf": "2"}, {}),
    "g.webm": ("libvpx", {}, {}),
    "h.h264": ("libx264", B_FRAMES, {}),
    "i.mpg": ("mpeg2video", {"bf": "2"}, {}),
    "j.gif": ("gif", {}, {}),
}
CHILD = """
    import sys
    from pathlib import Path
    from cluster.video import FrameReader, VideoError, frame_times, probe_video

    for path in map(Path, sys.argv[1:]):
        said = []
        for step in (
            lambda: probe_video(path),
            lambda: frame_times(path),
            lambda: sum(1 for _ in FrameReader(path, probe_video(path), (24, 32))),
            lambda: sum(1 for _ in FrameReader(path, probe_video(path), (24, 32), start=270)),
        ):
            try:
                step()
                said.append("ok")
            except VideoError as error:
                assert path.name in str(error)
                said.append(error.error_class)
        print(path.name, *said, flush=True)
"""


def flip_bits(data: bytearray, rng: random.Random, count: int = 50) -> bytearray:
    for _ in range(count):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def overwrite(data: bytearray, rng: random.Random, block: bytes, within: int | None = None) -> bytearray:
    begin = rng.randrange(max(min(within or len(data), len(data)) - len(block), 1))
    data[begin : begin + len(block)] = block
    return data


def drop(data: bytearray, rng: random.Random) -> bytearray:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.randrange(1, 3000)]
    return data


def double(data: bytearray, rng: random.Random) -> bytearray:
    begin = rng.randrange(len(data))
    data[begin:begin] = data[begin : begin + rng.randrange(1, 3000)]
    return data


def shuffle(data: bytearray, _rng: random.Random) -> bytearray:
    quarter = len(data) // 4
    return data[quarter : 2 * quarter] + data[:quarter] + data[2 * quarter :]


MUTATIONS = {
    "one bit": lambda data, rng: flip_bits(data, rng, 1),
    "many bits": flip_bits,
    "header bytes": lambda data, rng: overwrite(data, rng, rng.randbytes(3), 700),
    "cut off": lambda data, rng: data[: rng.randrange(1, len(data))],
    "beginning lost": lambda data, rng: data[rng.randrange(1, len(data) // 2) :],
    "zeroed header": lambda data, rng: overwrite(data, rng, bytes(rng.choice([4, 64, 500])), 1),
    "zeroed block": lambda data, rng: overwrite(data, rng, bytes(1000)),
    "noise block": lambda data, rng: overwrite(data, rng, rng.randbytes(500)),
    "largest number": lambda data, rng: overwrite(data, rng, b"\x7f\xff\xff\xff", 3000),
    "hole": drop,
    "repeated block": double,
    "shuffled": shuffle,
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutated_containers(tmp_path_factory, tmp_path, mutation):
    inputs = []
    for name, data in _sources(tmp_path_factory).items():
        rng = random.Random(f"{name} {mutation}")
        path = tmp_path / name
        path.write_bytes(MUTATIONS[mutation](bytearray(data), rng))
        inputs.append(path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, inputs)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0, f"after {list(answers)}: {done.stderr[-2000:]}"
    assert list(answers) == list(SOURCES)


_MADE: dict[str, bytes] = {}


def _sources(tmp_path_factory) -> dict[str, bytes]:
    if not _MADE:
        folder = tmp_path_factory.mktemp("sources")
        for name, (codec, options, container) in SOURCES.items():
            path = write_video(
                folder / name, 300 if name == "a.mp4" else 30, codec=codec, options=options,
                container_options=container,
                rate=25, size=(48, 64), pixel_format="rgb8" if codec == "gif" else "yuv420p",
            )  # fmt: skip
            _MADE[name] = path.read_bytes()
    return _MADE
