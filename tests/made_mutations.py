"""Sound containers of many kinds and ways to damage them, by seed."""

import random
from pathlib import Path

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


def write_sources(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of one sound file of every kind."""
    made = {}
    for name, (codec, options, container) in SOURCES.items():
        path = write_video(
            folder / name, 300 if name == "a.mp4" else 30, codec=codec, options=options,
            container_options=container,
            rate=25, size=(48, 64), pixel_format="rgb8" if codec == "gif" else "yuv420p",
        )  # fmt: skip
        made[name] = path.read_bytes()
    return made


def mutated(name: str, data: bytes, mutation: str, number: int = 0) -> bytes:
    """The file damaged in that way; the same bytes for the same arguments."""
    seed = f"{name} {mutation}" + (f" {number}" if number else "")
    return bytes(MUTATIONS[mutation](bytearray(data), random.Random(seed)))
