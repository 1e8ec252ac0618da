"""Videos that the tests encode themselves: every frame carries its number in the picture.

The number is written as 16 black or white blocks across the top, readable after lossy coding, scaling and turning
upright. Below it: a red block in the left half only, so that every orientation is told apart, and grey noise in the
right half, other in every frame, so that every frame costs some bytes.
"""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 16


def real_clips() -> Path:
    """The folder of real clips named by STCN_REAL_CLIPS; skips the test where there is none."""
    folder = os.environ.get("STCN_REAL_CLIPS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("STCN_REAL_CLIPS does not name a folder of real clips")
    return Path(folder)


def numbered_frame(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    """uint8 [height, width, 3] showing `number` (below 65,536)."""
    frame = np.full((height, width, 3), 96, np.uint8)
    top = max(height // 3, 1)
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    for bit in range(BITS):
        frame[:top, edges[bit] : edges[bit + 1]] = 235 if number >> bit & 1 else 20
    noise = np.random.default_rng(number).integers(60, 130, (height - height // 2, width - width // 2, 1), np.uint8)
    frame[height // 2 :, width // 2 :] = noise
    frame[height // 2 :, : width // 2] = (220, 60, 40)
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number in an upright frame uint8 [h, w, 3] of any size."""
    height, width = frame.shape[:2]
    edges = np.linspace(0, width, BITS + 1)
    row = frame[max(height // 8, 0) : max(height // 4, 1)].mean(axis=(0, 2))
    centres = ((edges[:-1] + edges[1:]) / 2).astype(int)
    return sum(1 << bit for bit, centre in enumerate(centres) if row[centre] > 128)


def is_upright(frame: np.ndarray) -> bool:
    """Whether the red block is at the lower left, as `numbered_frame` drew it."""
    height, width = frame.shape[:2]

    def redness(down: float, right: float) -> float:
        y, x = int(height * down), int(width * right)
        patch = frame[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].astype(int)
        return float((patch[..., 0] - patch[..., 2]).mean())

    return redness(3 / 4, 1 / 4) > 80 and max(redness(3 / 4, 3 / 4), redness(5 / 12, 1 / 4)) < 50


def write_video(
    path: Path,
    frames: int | list[int] = 30,
    *,
    size: tuple[int, int] = (96, 128),
    codec: str = "libx264",
    rate: int = 30,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container: str | None = None,
    times: list[int] | None = None,
    rotation: float | None = None,
    flips: tuple[bool, bool] = (False, False),
    stored: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
    sound: bool = False,
) -> Path:
    """Encode numbered frames (a count, or the numbers themselves) of `size` (height, width), one per 1/`rate` s or at
    `times` (in ticks of 1/`rate` s). `stored` changes each picture before coding; `rotation` (degrees clockwise)
    and `flips` go into the display matrix."""
    numbers = list(range(frames)) if isinstance(frames, int) else frames
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        shape = stored(numbered_frame(0, *size)).shape
        stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], pixel_format
        stream.codec_context.time_base = Fraction(1, rate)
        if rotation is not None:
            stream.set_display_rotation(-rotation, hflip=flips[0], vflip=flips[1])
        if sound:
            audio = output.add_stream("aac", rate=44100)
        for position, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(stored(numbered_frame(number, *size))), format="rgb24"
            )
            frame.pts, frame.time_base = (times[position] if times else position), Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound:
            write_silence(output, audio, len(numbers) / rate)
    return path


def write_silence(output, stream, seconds: float) -> None:
    samples = 1024
    for block in range(max(int(seconds * stream.rate / samples), 1)):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, samples), np.float32), format="fltp", layout="stereo")
        frame.rate, frame.pts = stream.rate, block * samples
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def copy_packets(source: Path, path: Path, *, container: str | None = None, first: int = 0, options=None) -> Path:
    """Remux the video packets of `source` from packet `first` on, without coding them again."""
    with av.open(str(source)) as old, av.open(str(path), "w", format=container, options=options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(old.streams.video[0])):
            if packet.dts is None or number < first:
                continue
            packet.stream = stream
            new.mux(packet)
    return path


def damage(
    path: Path, start: float, length: int, to: Path | None = None, value: int | None = None, seed: int = 0
) -> Path:
    """Overwrite `length` bytes from fraction `start` of the file on, by noise or `value`; `to` keeps the original."""
    data = bytearray(path.read_bytes())
    begin = int(len(data) * start)
    noise = np.random.default_rng(seed).integers(0, 256, length, dtype=np.uint8).tobytes()
    data[begin : begin + length] = noise if value is None else bytes([value]) * length
    (to or path).write_bytes(data)
    return to or path


def cut(path: Path, fraction: float, to: Path | None = None) -> Path:
    """Keep the first `fraction` of the file's bytes."""
    data = path.read_bytes()
    (to or path).write_bytes(data[: int(len(data) * fraction)])
    return to or path
