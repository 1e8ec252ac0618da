"""The line that a job log shows."""

import io

from cluster.progress import Progress, Standing, describe, duration


def standing(work: float, frames: int = 120, failed: int = 0) -> Standing:
    return Standing(3, failed, 10, 3, 12, work, 100.0, frames, busy=2, waiting_actors=1, queued=4)


def test_line_has_rate_and_time_left():
    line = describe(standing(25.0), 60.0, 5.0)
    assert line == "3/10 videos, 120 frames, 2.0 frames/s, 2 actors busy, 1 starting, 3:45 left"
    assert "1 failed" in describe(standing(25.0, failed=1), 60.0, 5.0)
    assert describe(standing(100.0), 60.0, 0.0).endswith("nothing left")
    assert "left" not in describe(standing(5.0), 60.0, 5.0)
    assert "left" not in describe(standing(5.001), 60.0, 5.0)  # next to nothing to go by


def test_durations():
    assert (duration(0), duration(61.4), duration(3723)) == ("0:00", "1:01", "1:02:03")


def test_a_log_gets_one_plain_line_per_interval():
    stream = io.StringIO()
    progress = Progress(stream, line_seconds=3600)
    for work in range(5):
        progress.show(standing(float(work)))
    progress.note("a.mp4: failed (decode): broken")
    progress.show(standing(9.0), final=True)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and lines[1].startswith("a.mp4") and "\r" not in stream.getvalue()
