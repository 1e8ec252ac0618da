"""Host memory does not grow with the length of the video."""

import subprocess
import sys
from pathlib import Path

from made_corpus import ROOT, environment
from made_videos import write_video


def peak(video: Path, output: Path) -> tuple[int, int]:
    """Frames done and peak anonymous bytes."""
    command = [sys.executable, str(ROOT / "tests" / "measured_unit.py"), str(video), str(output)]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, env=environment(**paths), capture_output=True, text=True, check=True, timeout=600)
    frames, _, peak_bytes = map(int, done.stdout.split())
    return frames, peak_bytes


def test_ten_times_the_frames_take_the_same_memory(tmp_path: Path):
    options = {"preset": "ultrafast"}
    short = write_video(tmp_path / "short.mp4", 200, size=(96, 128), options=options)
    long = write_video(tmp_path / "long.mp4", 2000, size=(96, 128), options=options)
    frames, small = peak(short, tmp_path / "a")
    assert frames == 200
    frames, large = peak(long, tmp_path / "b")
    assert frames == 2000
    assert large < 1.1 * small
