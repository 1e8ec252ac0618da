"""A saved bank as the segments find it: as it was saved, or not at all."""

from pathlib import Path

import pytest
from made_runs import workbench
from made_videos import write_video

from cluster.failure import BANK
from cluster.finalise import bank_names
from cluster.heartbeat import Heartbeat
from cluster.planning import plan_run
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, UnitFailed, annotate_unit
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig(
    "stand-in", "0" * 64, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "is damaged: its SHA-256"),
        (lambda data: data[:-1], "bytes are there of"),
    ],
)
def test_a_bank_that_is_not_what_was_saved_is_not_used(damage, words, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "out"))
    video = str(write_video(tmp_path / "v.mp4", 120))
    row = VideoRow(1, video, "v", (Prompt(frame=0, object_id=1, box=(4, 4, 20, 20)),))
    burn_in, segment, *_ = plan_run(storage, [row], CONFIG, {}, set(), print)
    name, _ = bank_names(burn_in.unit_id)
    with workbench(storage, CONFIG, tmp_path / "scratch") as bench:
        assert isinstance(annotate_unit(burn_in, bench, Heartbeat()), UnitDone)
        bench.put_away()  # as another actor would find it
        data = storage.read(name)
        storage.publish(name, damage(data))
        failed = annotate_unit(segment, bench, Heartbeat())
        assert isinstance(failed, UnitFailed) and failed.error_class == BANK
        assert name in failed.message and words in failed.message
        storage.publish(name, data)
        assert isinstance(annotate_unit(segment, bench, Heartbeat()), UnitDone)
