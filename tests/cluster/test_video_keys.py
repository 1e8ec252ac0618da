"""Prompt masks on disk count by their contents; a plan that went by their times is still gone on with."""

import os
from pathlib import Path

import pytest
from made_videos import write_video
from PIL import Image

from cluster.config_lock import SettingsRefused
from cluster.plan import make_plan
from cluster.plan_table import known_probes, merge_plans
from cluster.planning import plan_run, publish_plan, read_plan
from cluster.source_stats import NOTHING, by_content, stat_all
from cluster.stores.source import SourceStat
from cluster.stores.storage import Storage
from cluster.video_keys import video_keys
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig("small", "ab" * 32)


@pytest.fixture
def rows(tmp_path: Path) -> list[VideoRow]:
    """Two videos with a mask each."""
    found = []
    for number, name in enumerate("ab", 1):
        video, mask = write_video(tmp_path / f"{name}.mp4", 5, size=(48, 64)), tmp_path / f"{name}.png"
        Image.new("L", (64, 48), number).save(mask)
        found.append(VideoRow(number, str(video), name, (Prompt(frame=0, object_id=1, mask=str(mask)),)))
    return found


def planned(storage: Storage, rows: list[VideoRow], published: set[str], **more: object) -> set[str]:
    return {unit.unit_id for unit in plan_run(storage, rows, CONFIG, {}, published, print, **more)}


def by_times(storage: Storage, rows: list[VideoRow]) -> set[str]:
    """A plan as earlier versions wrote it."""
    stats = stat_all({row.video for row in rows} | {row.prompts[0].mask for row in rows}, {})
    units = make_plan(rows, stats, stats, CONFIG)
    publish_plan(storage, merge_plans(units, None, set()))
    return {unit.unit_id for unit in units}


def touch(path: str) -> None:
    os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 1_000_000_007))


def test_a_touched_mask_is_the_same_and_a_changed_one_is_not(tmp_path: Path, rows: list[VideoRow]):
    storage = Storage(str(tmp_path / "out"))
    ids = planned(storage, rows, set())
    mask = Path(rows[0].prompts[0].mask)
    touch(str(mask))
    assert planned(storage, rows, ids) == ids
    before, data = os.stat(mask), bytearray(mask.read_bytes())
    data[-1] ^= 1
    mask.write_bytes(data)
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SettingsRefused, match="1 video.*\n  a: its prompts, a prompt mask or its manifest row changed"):
        planned(storage, rows, ids)


def test_a_plan_that_went_by_times_is_gone_on_with(tmp_path: Path, rows: list[VideoRow]):
    storage = Storage(str(tmp_path / "out"))
    ids = by_times(storage, rows)
    assert planned(storage, rows, ids) == planned(storage, rows, set()) == planned(storage, rows, ids) == ids
    touch(rows[0].prompts[0].mask)
    with pytest.raises(SettingsRefused, match="begun by earlier versions by modification time"):
        planned(storage, rows, ids)
    assert len(planned(storage, rows, set()) & ids) == 1  # nothing of it is published: by contents from now on
    now = planned(storage, rows, set())
    touch(rows[0].prompts[0].mask)
    assert planned(storage, rows, now) == now


def test_what_is_taken_over_keeps_the_key_of_where_it_comes_from(tmp_path: Path, rows: list[VideoRow]):
    old, new = Storage(str(tmp_path / "out")), Storage(str(tmp_path / "new"))
    ids = by_times(old, rows)
    known = known_probes(read_plan(old))
    assert planned(new, rows, set(), known=known) == ids == planned(new, rows, ids)
    other = Storage(str(tmp_path / "other"))
    own = planned(other, rows, set())
    assert own.isdisjoint(ids) and planned(other, rows, own, known=known) == own


def test_a_mask_that_cannot_be_read_is_missing(tmp_path: Path, rows: list[VideoRow], monkeypatch: pytest.MonkeyPatch):
    def refuse(url: str, _: object) -> str:
        raise PermissionError(f"{url} cannot be read")

    storage = Storage(str(tmp_path / "out"))
    ids = planned(storage, rows, set())
    monkeypatch.setattr("cluster.source_stats.content_version", refuse)
    assert planned(storage, rows, ids) == ids  # published: stays done
    units = plan_run(Storage(str(tmp_path / "new")), rows, CONFIG, {}, set(), print)
    assert not any(unit.found for unit in units)


def test_etags_are_left_as_they_are_and_folders_are_not_read(tmp_path: Path):
    stats = {"s3://b/m.png": SourceStat(True, False, 3, "etag"), str(tmp_path): SourceStat(True, True, 0, "x")}
    stats |= {str(tmp_path / "none.png"): NOTHING}
    assert by_content(stats, stats, {}) == stats


def test_a_mask_that_two_videos_share(rows: list[VideoRow]):
    """One of them is known by times, the other is not: each keeps its own kind of key."""
    mask = rows[0].prompts
    both = [VideoRow(row.row, row.video, row.video_id, mask) for row in rows]
    stats = stat_all({row.video for row in both} | {mask[0].mask}, {})
    keys = {unit.row.video_id: unit.video_key for unit in make_plan(both, stats, stats, CONFIG)}
    found, read = video_keys(both, stats, CONFIG, {}, {"a": keys["a"]})
    assert found["a"] == keys["a"] and found["b"] != keys["b"] and read[mask[0].mask].version.startswith("sha256:")
