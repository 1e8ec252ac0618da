"""Exports of long videos: what was read is written before more is read."""

import io
import json

import numpy as np
import pytest
from rlemasklib import RLEMask

from schemas.convert.exchange import ExportSettings
from schemas.convert.formats import FORMATS
from schemas.convert.json_stream import write_json
from schemas.convert.losses import Losses
from schemas.convert.video import OutVideo, Track
from schemas.reader import MaskRow

FRAMES = 500
ROW_BYTES = 10  # a mask takes more in every format


def long_video(file: io.BytesIO, written: list[int]) -> OutVideo:
    """A video of one moving object; written gets how long the file was when a row was read."""
    mask = np.zeros((40, 3000), np.uint8)

    def row(frame: int) -> MaskRow:
        mask[:] = 0
        mask[5:9, frame : frame + 7] = 1
        counts = RLEMask.from_array(mask).to_dict()["counts"]
        written.append(file.tell())
        return MaskRow(frame, 1, 40, 3000, counts, 28, (frame, 5, 7, 4), 0.5, False)

    return OutVideo(
        video_id="long", height=40, width=3000, frames=range(FRAMES), names=None, source_names=None,
        source_frames=FRAMES, fps=25.0, duration_s=80.0, tracks=(Track(1, n_visible=FRAMES, first_frame=0),),
        rows=lambda: ((frame, [row(frame)]) for frame in range(FRAMES)),
        track=lambda _object_id: (row(frame) for frame in range(FRAMES)),
    )  # fmt: skip


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "davis"])
def test_rows_are_written_as_they_are_read(form):
    file, written = io.BytesIO(), []
    (out,) = FORMATS[form].files([long_video(file, written)], ExportSettings(), Losses())
    out.write(file)
    # One row is read ahead of the frame that is written.
    growth = [later - earlier for earlier, later in zip(written[1:], written[2:], strict=False)]
    assert len(written) == FRAMES and min(growth) > ROW_BYTES


def test_davis_reads_a_frame_when_its_file_is_asked_for():
    read: list[int] = []
    files = FORMATS["davis"].files([long_video(io.BytesIO(), read)], ExportSettings(), Losses())
    for number in range(5):
        out = next(files)
        assert out.name == f"Annotations/long/{number:05d}.png" and len(read) <= number + 2


def test_json_with_iterators_and_late_values():
    gathered = []

    def numbers():
        for number in range(3):
            gathered.append(number)
            yield {"n": number, "inner": iter([1, {"a": None}])}

    file = io.BytesIO()
    write_json(file, {"list": numbers(), "gathered": lambda: gathered, "empty": iter(()), 7: [1.5, "ü\n"]})
    assert json.loads(file.getvalue()) == {
        "list": [{"n": n, "inner": [1, {"a": None}]} for n in range(3)],
        "gathered": [0, 1, 2],
        "empty": [],
        "7": [1.5, "ü\n"],
    }
    with pytest.raises(ValueError):
        write_json(io.BytesIO(), {"x": float("nan")})
