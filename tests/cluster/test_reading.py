"""Pictures of a segment: sought ones are checked, the others come from one pass."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import write_video

from cluster.burn_in_frames import begins_a_segment
from cluster.frames.decoder import Decoder
from cluster.plan import UNIT_SEGMENTS
from cluster.reading import SharedPass, picture_digest, sought
from stcn_core.settings import OfflineSettings


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def write_intra_refresh(path: Path, frames: int) -> None:
    """H.264 as cameras and encoders for streaming make it: no keyframe after the first, columns are renewed in turn."""
    rows, columns = np.mgrid[:48, :64]
    with av.open(str(path), "w") as target:
        options = {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=100"}
        stream = target.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(frames):
            planes = (columns * 3 + n * 5, rows * 5 + n * 3, np.full_like(rows, n * 7))
            picture = av.VideoFrame.from_ndarray((np.stack(planes, -1) % 256).astype(np.uint8))
            target.mux(stream.encode(picture.reformat(format="yuv420p")))
        target.mux(stream.encode())


def test_a_stream_that_cannot_be_sought_is_found_out(decoder: Decoder, tmp_path: Path):
    path = tmp_path / "refresh.mp4"
    write_intra_refresh(path, 700)
    info, times = decoder.probe(path), decoder.frame_times(path)
    truth = {frame: picture_digest(picture) for frame, picture in decoder.frames(path, info)}
    frames = decoder.frames(path, info, None, 650, 660, times=times)
    found = sought(frames, 5, None)
    there = [picture_digest(picture) for _, picture in (*found[0], *found[1])]
    assert there != [truth[frame] for frame in range(650, 660)], "this FFmpeg seeks such a stream right: no test"
    assert sought(decoder.frames(path, info, None, 650, 660, times=times), 5, truth[650]) is None


def test_right_pictures_are_taken_with_those_before(decoder: Decoder, tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", 60, size=(48, 64))
    info, times = decoder.probe(path), decoder.frame_times(path)
    truth = dict(decoder.frames(path, info))
    before, rest = sought(decoder.frames(path, info, None, 20, 40, times=times), 4, picture_digest(truth[20]))
    assert [frame for frame, _ in before] == [20, 21, 22, 23]
    after = list(rest)
    assert [frame for frame, _ in after] == list(range(24, 40))
    assert all(np.array_equal(picture, truth[frame]) for frame, picture in (*before, *after))


def test_one_pass_serves_segments_in_order_and_passes_over_what_others_do(decoder: Decoder, tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", 60, size=(48, 64))
    passed_over = []
    one = SharedPass(decoder.frames(path, decoder.probe(path), seek=False), 4, lambda: passed_over.append(1))
    wanted = [(0, 10, 0), (10, 20, 4), (40, 50, 4), (50, None, 4)]
    for first, last, warm in wanted:
        before, rest = one.stretch(first, last, warm)
        assert [frame for frame, _ in before] == list(range(first - warm, first))
        assert [frame for frame, _ in rest] == list(range(first, last or 60))
    assert len(passed_over) == 20
    one.close()


def test_the_burn_in_marks_where_segments_begin_to_read():
    settings = OfflineSettings(segment_frames=20, group_frames=5, recent_frames=2)
    unit = UNIT_SEGMENTS * 20
    assert [n for n in range(3 * unit) if begins_a_segment(n, settings)] == [unit - 10, 2 * unit - 10, 3 * unit - 10]
    plain = OfflineSettings(segment_frames=20, group_frames=5, recent_frames=0)
    assert [n for n in range(3 * unit) if begins_a_segment(n, plain)] == [unit, 2 * unit]
