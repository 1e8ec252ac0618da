"""The refusal of changed videos names what changed, and what it proposes works."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from cluster.changed_videos import SHOWN, refusal
from cluster.plan import Unit, make_plan
from cluster.stores.source import SourceStat, stat_source
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

ROW = VideoRow(1, "s3://bucket/a.mp4", "a", (Prompt(frame=0, object_id=1, box=(0, 0, 5, 5)),))
STAT = SourceStat(True, False, 1000, "v1")


def unit(stat: SourceStat = STAT, row: VideoRow = ROW) -> Unit:
    return make_plan([row], {row.video: stat}, {}, RunConfig("small", "ab" * 32))[0]


def said(now: Unit, size: int = 1000, version: str = "v1") -> str:
    return refusal([(now, {"source_size": size, "source_version": version})])


def test_what_changed_is_named():
    assert "a: the file's size changed from 999 to 1000 bytes" in said(unit(), size=999)
    assert "a: the file's etag or modification time changed, its size did not" in said(unit(), version="v2")
    assert "a: its prompts, a prompt mask or its manifest row changed" in said(unit())
    assert "a: the file or a mask of its prompts is not there" in said(unit(SourceStat(False, False, None, None)))
    assert "modification times of the folder's files" in said(unit(replace(STAT, is_dir=True)), version="v2")
    assert "new --output with --reuse OUT" in said(unit())


def test_many_are_counted():
    text = refusal([(unit(), {"source_size": 1, "source_version": "v1"})] * (SHOWN + 3))
    assert text.startswith(f"{SHOWN + 3} video(s)") and text.count("  a: ") == SHOWN and "and 3 more" in text


def test_the_modification_time_can_be_put_back_as_it_says(tmp_path: Path):
    video = tmp_path / "a video.mp4"
    video.write_bytes(b"x")
    os.utime(video, ns=(0, 1_700_000_000_000_000_789))
    before = stat_source(str(video))
    os.utime(video)
    now = unit(stat_source(str(video)), replace(ROW, video=str(video)))
    text = said(now, before.size, before.version)
    assert "the file's modification time changed, its size did not" in text
    subprocess.run(text.split("put the time back: ")[1].splitlines()[0], shell=True, check=True)
    assert stat_source(str(video)) == before
