"""The forecast of a run from its plan: pure arithmetic on probes that are made up."""

import pytest

from cluster.frames.probe import Probe
from cluster.inspect.forecast import MASK_BYTES, SHARD_BYTES, Rate, TakenOver, forecast, typical_size
from cluster.plan import Unit, make_plan
from cluster.stores.source import SourceStat
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig("tiny", "0" * 64, memory_frames=8, burn_in_frames=32, segment_frames=100)
THERE, GONE = SourceStat(True, False, 1_000_000, "1"), SourceStat(False, False, None, None)


def plan(probes: dict[str, Probe], missing: tuple[str, ...] = (), config: RunConfig = CONFIG, **row) -> list[Unit]:
    """Every video has two boxes, and "no-mask" a mask that is gone."""
    boxes = (Prompt(frame=0, object_id=1, box=(0, 0, 9, 9)), Prompt(frame=4, object_id=2, box=(0, 0, 9, 9)))
    rows = [
        VideoRow(n, name, name, (Prompt(frame=0, object_id=1, mask="gone.png"),) if name == "no-mask" else boxes, **row)
        for n, name in enumerate(probes, 1)
    ]
    stats = {name: GONE if name in missing else THERE for name in probes} | {"gone.png": GONE}
    return make_plan(rows, stats, stats, config, probes)


SHORT = Probe(300, 854, 480, 25.0, 12.0, "h264")
LONG = Probe(5000, 1708, 960, 25.0, 200.0, "h264")


def test_units_frames_and_bytes():
    found = forecast(plan({"a": SHORT, "b": LONG}), CONFIG, 1, 10.0)
    assert (found.videos, found.units) == (2, {"burn-in": 1, "segment": 10, "whole": 1})
    assert (found.frames, found.masks, found.guessed) == (5300, 10600, 0)
    assert found.video_hours == pytest.approx(212 / 3600)
    assert found.output_bytes == 2 * 300 * MASK_BYTES + 2 * 5000 * 2 * MASK_BYTES + 11 * SHARD_BYTES
    # 8 bank slots and 2 prompted frames of 30 x 54 positions, 65 + 2 x 512 float32 each.
    assert (found.banks, found.bank_bytes) == (1, 10 * 30 * 54 * 4 * (65 + 1024))
    assert found.largest_bank_bytes == found.bank_bytes


def test_time_from_a_given_rate():
    units = plan({"a": SHORT, "b": LONG})
    one, four, many = (forecast(units, CONFIG, actors, 10.0) for actors in (1, 4, 1000))
    assert one.device_seconds == pytest.approx(530) == one.wall_seconds
    assert four.wall_seconds == pytest.approx(530 / 4) and four.device_seconds == pytest.approx(530)
    burn_in = next(unit.cost for unit in units if unit.kind == "burn-in")
    segment = max(unit.cost for unit in units if unit.kind == "segment")
    whole = next(unit.cost for unit in units if unit.kind == "whole")
    share = max(burn_in + segment, whole) / sum(unit.cost for unit in units)
    assert many.wall_seconds == pytest.approx(530 * share)
    assert "10 frames/s per actor, as given" in "\n".join(one.lines())


def test_time_from_a_measured_rate():
    units = plan({"a": SHORT})
    found = forecast(units, CONFIG, 2, Rate(0.5, "measured", key_dim=16, value_dim=32))
    assert found.device_seconds == pytest.approx(units[0].cost / 2) and found.rate == "measured"
    assert found.frames_per_second == pytest.approx(300 / found.device_seconds)


def test_what_cannot_be_read_is_told_apart_and_not_counted():
    probes = {"good": SHORT, "bad": Probe(error="cannot be opened as a video"), "gone": SHORT, "no-mask": SHORT}
    found = forecast(plan(probes, missing=("gone",)), CONFIG, 1, 10.0)
    assert found.videos == 1 and found.frames == 300
    reasons = {video.video_id: video.reason for video in found.unreadable}
    assert reasons["bad"] == "cannot be opened as a video"
    assert "does not exist" in reasons["gone"] and "mask" in reasons["no-mask"] and len(reasons) == 3
    lines = "\n".join(found.lines())
    assert "row 2, bad: bad: cannot be opened as a video" in lines
    assert "could not be looked into" in lines and "will become failures" not in lines


def test_unknown_frames_are_said_to_be_guessed():
    found = forecast(plan({"a": Probe(None, 854, 480, 25.0, None, "vp9")}), CONFIG, 1, 10.0)
    assert (found.guessed, found.frames) == (1, 200)
    assert "1 of them guessed" in "\n".join(found.lines())


def test_range_and_stride():
    found = forecast(plan({"a": LONG}, start=1000, end=2000, stride=10), CONFIG, 1, 10.0)
    assert (found.frames, found.units) == (100, {"whole": 1})


def test_a_video_that_is_partly_done_counts_what_is_left():
    units = [unit for unit in plan({"b": LONG}) if unit.first >= 4000]
    found = forecast(units, CONFIG, 1, 10.0, done_before=3, failed_before=2)
    assert (found.frames, found.units) == (1000, {"segment": 2})
    assert "3 done before, 2 failed before" in found.lines()[0]


def test_what_is_taken_over_is_said():
    found = forecast(plan({"a": SHORT}), CONFIG, 1, 10.0, done_before=3, taken_over=TakenOver(9, 12, 2_500_000))
    assert found.lines()[0] == "videos:  1 to do, 3 done before, 9 taken over (--reuse)"
    assert found.lines()[1] == "reuse:   12 shard(s) of together 2.5 MB are copied"
    assert found.to_json()["taken_over"] == {"videos": 9, "shards": 12, "bytes": 2_500_000}
    nothing = forecast([], CONFIG, 1, 10.0, taken_over=TakenOver(0, 0, 0))
    assert "0 taken over" in nothing.lines()[0]
    without = forecast([], CONFIG, 1, 10.0)
    assert without.taken_over is None and "reuse" not in "\n".join(without.lines())


def test_nothing_to_do():
    found = forecast([], CONFIG, 4, None)
    assert (found.videos, found.wall_seconds, found.frames_per_second) == (0, 0.0, None)
    assert found.to_json()["device_hours"] == 0


def test_the_typical_size_is_that_of_the_most_work():
    probes = {"a": SHORT, "b": LONG, "c": Probe(30, 120, 100, 25.0, 1.0, "h264")}
    assert typical_size(plan(probes), CONFIG) == (480, 854)
    assert typical_size(plan({"c": probes["c"]}), CONFIG) == (100, 120)
    assert typical_size(plan({"x": Probe(error="no")}), CONFIG) is None
