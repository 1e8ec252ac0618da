"""Unit ids depend on everything that decides masks and on nothing else."""

from dataclasses import replace

import pytest

from cluster.plan import PlanError, keep_published, make_plan, merge_plans, plan_table, unit_id
from cluster.source import SourceStat
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig("small", "ab" * 32)
STAT = SourceStat(exists=True, is_dir=False, size=1000, version="v1")
ROW = VideoRow(1, "s3://user:secret@host/a.mp4?token=x", "a", (Prompt(frame=0, object_id=1, mask="m.png"),))


def identity(row: VideoRow = ROW, stat: SourceStat = STAT, mask: SourceStat = STAT, config: RunConfig = CONFIG) -> str:
    return unit_id(row, stat, {"m.png": mask}, config)


def test_unit_id_changes_with_everything_that_decides_masks():
    others = {
        identity(),
        identity(row=replace(ROW, video_id="b")),
        identity(row=replace(ROW, start=3)),
        identity(row=replace(ROW, prompts=(Prompt(frame=1, object_id=1, mask="m.png"),))),
        identity(stat=replace(STAT, size=1001)),
        identity(stat=replace(STAT, version="v2")),
        identity(mask=replace(STAT, version="v2")),
        identity(config=replace(CONFIG, seed=1)),
        identity(config=replace(CONFIG, checkpoint_sha256="cd" * 32)),
    }
    assert len(others) == 9
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in others)


def test_unit_id_ignores_where_the_row_stands_and_what_the_checkpoint_is_called():
    assert identity() == identity(row=replace(ROW, row=17))
    assert identity() == identity(config=replace(CONFIG, checkpoint="other name"))


def test_plan_is_longest_first_and_has_no_credentials():
    rows = [replace(ROW, video_id=name, video=name) for name in "abc"]
    sizes = dict(zip("abc", (10, 30, 20), strict=True))
    stats = {name: replace(STAT, size=size) for name, size in sizes.items()} | {"m.png": STAT}
    assert [unit.row.video_id for unit in make_plan(rows, stats, stats, CONFIG)] == ["b", "c", "a"]
    table = plan_table(make_plan([ROW], {ROW.video: STAT}, {"m.png": STAT}, CONFIG))
    assert table["video"].to_pylist() == ["s3://host/a.mp4"]


def test_appended_rows_extend_a_plan_and_changed_videos_are_refused_once_published():
    def plan(*rows: VideoRow):
        stats = {row.video: STAT for row in rows} | {"m.png": STAT}
        return make_plan(rows, stats, stats, CONFIG)

    other = replace(ROW, video_id="b", video="b.mp4")
    first = merge_plans(plan(ROW), None, set())
    both = merge_plans(plan(ROW, other), first, set(first["unit_id"].to_pylist()))
    assert sorted(both["video_id"].to_pylist()) == ["a", "b"]
    only = merge_plans(plan(other), both, set())
    assert sorted(only["video_id"].to_pylist()) == ["a", "b"]
    changed = plan(replace(ROW, end=5))
    assert merge_plans(changed, first, set())["unit_id"].to_pylist() == [changed[0].unit_id]
    with pytest.raises(PlanError, match="changed since: a"):
        merge_plans(changed, first, set(first["unit_id"].to_pylist()))


def test_a_presigned_mask_url_may_change():
    other = replace(ROW, prompts=(Prompt(frame=0, object_id=1, mask="https://host/m.png?signature=2"),))
    assert unit_id(other, STAT, {"https://host/m.png?signature=2": STAT}, CONFIG) == identity()


def test_a_published_video_stays_done_when_its_source_is_gone():
    stats = {ROW.video: STAT, "m.png": STAT}
    first = merge_plans(make_plan([ROW], stats, stats, CONFIG), None, set())
    published = set(first["unit_id"].to_pylist())
    gone = {**stats, ROW.video: SourceStat(False, False, None, None)}
    units = make_plan([ROW], gone, gone, CONFIG)
    assert not units[0].found
    kept = keep_published(units, first, published)
    assert {unit.unit_id for unit in kept} == published
    merge_plans(kept, first, published)
    assert keep_published(units, first, set())[0].unit_id == units[0].unit_id
