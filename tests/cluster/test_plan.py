"""Unit ids depend on everything that decides masks and on nothing else."""

from dataclasses import replace

import pytest

from cluster.frames.probe import Probe
from cluster.plan import BURN_IN, SEGMENT, UNIT_SEGMENTS, WHOLE, make_plan, video_key
from cluster.plan_table import (
    PlanError,
    PlannedOtherwise,
    keep_planned,
    keep_published,
    known_probes,
    merge_plans,
    plan_table,
)
from cluster.stores.source import SourceStat
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig("small", "ab" * 32)
STAT = SourceStat(exists=True, is_dir=False, size=1000, version="v1")
ROW = VideoRow(1, "s3://user:secret@host/a.mp4?token=x", "a", (Prompt(frame=0, object_id=1, mask="m.png"),))


def identity(row: VideoRow = ROW, stat: SourceStat = STAT, mask: SourceStat = STAT, config: RunConfig = CONFIG) -> str:
    return video_key(row, stat, {"m.png": mask}, config)


def test_video_key_changes_with_everything_that_decides_masks():
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


def test_video_key_ignores_where_the_row_stands_and_what_the_checkpoint_is_called():
    assert identity() == identity(row=replace(ROW, row=17))
    assert identity() == identity(config=replace(CONFIG, checkpoint="other name"))


def test_plan_is_longest_first_and_has_no_credentials():
    rows = [replace(ROW, video_id=name, video=name) for name in "abc"]
    sizes = dict(zip("abc", (10**6, 3 * 10**6, 2 * 10**6), strict=True))
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
    with pytest.raises(PlanError, match="a: its prompts, a prompt mask or its manifest row changed"):
        merge_plans(changed, first, set(first["unit_id"].to_pylist()))


def test_a_presigned_mask_url_may_change():
    other = replace(ROW, prompts=(Prompt(frame=0, object_id=1, mask="https://host/m.png?signature=2"),))
    assert video_key(other, STAT, {"https://host/m.png?signature=2": STAT}, CONFIG) == identity()


def test_a_published_video_stays_done_when_its_source_is_gone():
    stats = {ROW.video: STAT, "m.png": STAT}
    first = merge_plans(make_plan([ROW], stats, stats, CONFIG), None, set())
    published = set(first["unit_id"].to_pylist())
    gone = {**stats, ROW.video: SourceStat(False, False, None, None)}
    units = make_plan([ROW], gone, gone, CONFIG)
    assert not units[0].found
    kept = keep_published(units, first, published, CONFIG)
    assert {unit.unit_id for unit in kept} == published
    merge_plans(kept, first, published)
    assert keep_published(units, first, set(), CONFIG)[0].unit_id == units[0].unit_id


def probe(frames: int | None) -> Probe:
    return Probe(frames, 640, 480, 25.0, None if frames is None else frames / 25, "h264", None)


def planned(frames: int | None, row: VideoRow = ROW, config: RunConfig = CONFIG):
    stats = {row.video: STAT, "m.png": STAT}
    return make_plan([row], stats, stats, config, {row.video_id: probe(frames)})


def test_a_long_video_is_a_burn_in_and_segments():
    length = UNIT_SEGMENTS * CONFIG.segment_frames
    short, long = planned(2 * length), planned(2 * length + 1)
    assert [unit.kind for unit in short] == [WHOLE] and short[0].unit_id == short[0].video_key
    assert [(unit.kind, unit.first, unit.last) for unit in long] == [
        (BURN_IN, 0, None),
        (SEGMENT, 0, length),
        (SEGMENT, length, 2 * length),
        (SEGMENT, 2 * length, None),
    ]
    assert len({unit.unit_id for unit in long}) == 4 and {unit.video_key for unit in long} == {short[0].video_key}
    assert [unit.unit_id for unit in planned(2 * length + 1)] == [unit.unit_id for unit in long]


def test_what_is_not_known_or_causal_or_gone_is_not_split():
    frames = 100 * CONFIG.segment_frames
    assert len(planned(frames)) == 21
    assert len(planned(None)) == 1
    assert len(planned(frames, config=replace(CONFIG, burn_in_passes=0))) == 1
    assert len(planned(frames, row=replace(ROW, stride=10))) == 1
    assert len(planned(frames, row=replace(ROW, end=10_000))) == 1
    gone = SourceStat(False, False, None, None)
    assert len(make_plan([ROW], {ROW.video: gone}, {"m.png": STAT}, CONFIG, {ROW.video_id: probe(frames)})) == 1


def test_a_plan_remembers_its_probes():
    units = planned(100 * CONFIG.segment_frames)
    assert known_probes(plan_table(units)) == {units[0].video_key: units[0].probe}
    assert known_probes(None) == {}


def test_a_failed_probe_is_remembered_only_of_videos_that_are_settled():
    stats = {ROW.video: STAT, "m.png": STAT}
    (unit,) = make_plan([ROW], stats, stats, CONFIG, {ROW.video_id: Probe(error="timed out")})
    table = plan_table([unit])
    assert known_probes(table) == known_probes(table, {"another"}) == {}
    assert known_probes(table, {unit.unit_id}) == {unit.video_key: unit.probe}


def test_a_split_video_stays_done_when_its_source_is_gone():
    units = planned(100 * CONFIG.segment_frames)
    first = merge_plans(units, None, set())
    shards = {unit.unit_id for unit in units if unit.kind == SEGMENT}
    stats = {ROW.video: SourceStat(False, False, None, None), "m.png": STAT}
    now = make_plan([ROW], stats, stats, CONFIG)
    assert keep_published(now, first, shards, CONFIG) == [replace(unit, row=ROW) for unit in units]
    assert keep_published(now, first, shards - {units[3].unit_id}, CONFIG) == now


def test_another_runs_plan_stands():
    """It may be at work by it: two ways of splitting a video would be two answers."""
    other = replace(ROW, video_id="b")
    stats = {ROW.video: STAT, "m.png": STAT}
    both = make_plan([ROW, other], stats, stats, CONFIG, {"a": probe(100 * CONFIG.segment_frames)})
    whole, whole_b = planned(None), planned(None, row=other)
    assert [unit.kind for unit in whole] == [WHOLE] and len(both) == 22
    assert keep_planned(both, plan_table([*whole_b, *whole]), CONFIG) == [*whole, *both[21:]]
    kept = keep_planned([*whole, *whole_b], plan_table(both), CONFIG)
    assert [unit.unit_id for unit in kept] == [unit.unit_id for unit in both]
    assert keep_planned(both, plan_table([]), CONFIG) == both
    # What cannot be looked up now was there for the other one.
    lost = make_plan([ROW], {ROW.video: SourceStat(False, False, None, None), "m.png": STAT}, stats, CONFIG)
    assert lost[0].unit_id != whole[0].unit_id
    assert [unit.unit_id for unit in keep_planned(lost, plan_table(whole), CONFIG)] == [whole[0].unit_id]
    changed = planned(None, row=replace(ROW, end=5))
    with pytest.raises(PlannedOtherwise, match=r"1 video\(s\) \(such as 'a'\) are planned with another file"):
        keep_planned([*changed, *whole_b], plan_table(both), CONFIG)


def test_several_scales_and_mirrored_views_cost_more():
    probe = Probe(200, 800, 600, 25.0, 8.0, "h264", None)

    def cost(**changes: object) -> float:
        config = replace(CONFIG, resolution=600, **changes)
        return sum(
            unit.cost for unit in make_plan([ROW], {ROW.video: STAT}, {"m.png": STAT}, config, {ROW.video_id: probe})
        )

    assert cost() == cost(scales="600") < cost(scales="300,600") < cost(flip=True) < cost(scales="300,600", flip=True)
