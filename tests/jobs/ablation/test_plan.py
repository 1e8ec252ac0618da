from pathlib import Path

import numpy as np
import pytest

from jobs.ablation.cells import BANKS, BASE, CAUSAL, grid
from jobs.ablation.clips import LONG, REAL, ClipSpec
from jobs.ablation.intervals import estimate
from jobs.ablation.plan import candidates, chosen, tasks
from jobs.ablation.results import Results, Task

CELLS = {cell.name: cell for cell in grid()}


def spec(base: str, kind: str = REAL) -> ClipSpec:
    return ClipSpec(f"{base}.{kind}", kind, (f"/clips/{base}",))


def test_the_grid_is_within_its_budget_and_has_every_factor() -> None:
    assert len(CELLS) == len(grid()) <= 60
    settings = [cell.settings for cell in grid()]
    assert {s.memory_frames for s in settings if s.burn_in_passes} == set(BANKS)
    assert {s.memory_frames for s in settings if not s.burn_in_passes} == set(BANKS)
    assert {s.memory_policy for s in settings} == {"fifo", "reservoir", "random-frame", "random-token"}
    assert {s.recent_frames for s in settings if s.burn_in_passes} == {0, 1, 2, 4}
    assert {s.burn_in_passes for s in settings} == {0, 1, 2}
    assert len({cell.settings for cell in grid()}) == len(grid())


def test_several_seeds_only_where_they_matter() -> None:
    found = tasks(list(CELLS.values()), [spec("a"), spec("b")], 3)
    assert {t.seed for t in found if t.cell.name == BASE} == {0, 1, 2}
    assert {t.seed for t in found if t.cell.name == CAUSAL} == {0}
    assert {t.seed for t in found if not t.cell.headline} == {0}
    assert {t.clip.base for t in found if not t.cell.headline} == {"a"}  # a share of the clips
    assert found[0].cell.headline and not found[-1].cell.headline


def test_a_policy_is_chosen_on_other_clips(tmp_path: Path) -> None:
    """On each clip another policy is the best one; it is not chosen for that clip."""
    among = [CELLS["causal"], CELLS["causal-ring-0"]]
    clips = [spec("a"), spec("b"), spec("a", LONG)]
    results = Results(tmp_path, "ab", 240)
    for cell, clip, score in (
        (among[0], clips[0], 0.9), (among[1], clips[0], 0.1),
        (among[0], clips[1], 0.1), (among[1], clips[1], 0.9),
        (among[0], clips[2], 0.9), (among[1], clips[2], 0.1),
    ):  # fmt: skip
        results.put(Task(cell, clip), {"objects": [{"J&F": score}]})
    assert chosen(among, clips[0], clips, results).name == "causal-ring-0"
    assert chosen(among, clips[1], clips, results).name == "causal"
    assert chosen(among, clips[2], clips, results).name == "causal-ring-0"  # no other long one: any kind, not base a
    assert chosen(among, clips[0], clips[:1], results) is None


def test_candidates_have_equal_banks() -> None:
    for causal in (True, False):
        found = candidates(list(CELLS.values()), causal)
        assert len(found) > 5 and {cell.settings.memory_frames for cell in found} == {20}
        assert {cell.causal for cell in found} == {causal}


def test_intervals_draw_clips_not_objects() -> None:
    clustered = estimate({"a": [0.0] * 50, "b": [1.0] * 50})
    assert (clustered.mean, clustered.low, clustered.high) == (0.5, 0.0, 1.0)
    assert (clustered.bases, clustered.objects) == (2, 100)
    draw = np.random.default_rng(0)
    many = estimate({str(i): [draw.normal()] for i in range(400)})
    assert many.high - many.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert np.isnan(estimate({"a": [0.3, 0.5]}).low)
