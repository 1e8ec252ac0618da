"""A second run takes over the shards whose unit ids are the same, and only those."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_runs import published, run_here
from made_videos import write_video

from cluster import planning
from cluster.config_lock import SettingsRefused
from cluster.inspect.verification import verify
from cluster.plan import Unit
from cluster.plan_table import known_probes
from cluster.planning import plan_run
from cluster.reuse import Reused, reuse_shards
from cluster.stores.storage import Storage
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig(
    "tiny", "ab" * 32, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)
BOX = Prompt(frame=0, object_id=1, box=(10, 10, 40, 30))
FRAMES = {"short": 12, "other": 14, "long": 105}  # the last one in a burn-in and three segments


@pytest.fixture
def rows(tmp_path: Path) -> list[VideoRow]:
    return [
        VideoRow(number, str(write_video(tmp_path / f"{name}.mp4", count, size=(48, 64))), name, (BOX,))
        for number, (name, count) in enumerate(FRAMES.items(), 1)
    ]


@pytest.fixture
def earlier(tmp_path: Path, rows: list[VideoRow]) -> Storage:
    storage = Storage(str(tmp_path / "out"))
    assert len(run_here(storage, rows, CONFIG, tmp_path / "scratch")) == 6
    return storage


def second_run(
    earlier: Storage, url: str, rows: list[VideoRow], scratch: Path, options: dict | None = None
) -> tuple[Storage, Reused, list[Unit]]:
    """(the new output, what was taken over, the units that were done)."""
    storage = Storage(url, options)
    units = plan_run(storage, rows, CONFIG, {}, set(), print)
    reused = reuse_shards(earlier, storage, units, CONFIG, published(storage).published, print)
    return storage, reused, run_here(storage, rows, CONFIG, scratch)


def corrected(rows: list[VideoRow], *names: str) -> list[VideoRow]:
    more = Prompt(frame=6, object_id=1, box=(20, 20, 30, 20))
    return [replace(row, prompts=(*row.prompts, more)) if row.video_id in names else row for row in rows]


def shards_of(storage: Storage, video_id: str) -> set[tuple[str, str]]:
    found = set()
    for name in storage.list("videos"):
        with storage.open_input(name) as file:
            for row in pq.read_table(file).to_pylist():
                found |= {(s["unit_id"], s["sha256"]) for s in row["shards"] if row["video_id"] == video_id}
    return found


def test_only_corrected_videos_are_done_again(earlier: Storage, rows: list[VideoRow], tmp_path: Path):
    new, reused, worked = second_run(earlier, tmp_path / "new", corrected(rows, "other"), tmp_path / "scratch")
    assert {unit.row.video_id for unit in worked} == {"other"}
    assert (reused.shards, reused.videos, reused.notes) == (4, 2, ())
    assert verify(new).code == 0, verify(new).lines()
    for name in ("short", "long"):
        assert shards_of(new, name) == shards_of(earlier, name)
    assert not shards_of(new, "other") & shards_of(earlier, "other")
    units = plan_run(new, corrected(rows, "other"), CONFIG, {}, set(published(new).published), print)
    again = reuse_shards(earlier, new, units, CONFIG, published(new).published, print)
    assert again.shards == 0


def test_timings_come_along(earlier: Storage, rows: list[VideoRow], tmp_path: Path):
    new, _, _ = second_run(earlier, tmp_path / "new", rows, tmp_path / "scratch")
    for name in new.list("videos"):
        before, now = (pq.read_table(Path(s.url) / name).to_pylist()[0] for s in (earlier, new))
        changing = {"finished_at"}
        assert {k: v for k, v in now.items() if k not in changing} == {
            k: v for k, v in before.items() if k not in changing
        }


def test_a_damaged_shard_and_a_foreign_one_are_made_anew(earlier: Storage, rows: list[VideoRow], tmp_path: Path):
    (short, _), *_ = shards_of(earlier, "short")
    (other, _), *_ = shards_of(earlier, "other")
    files = [Path(earlier.url) / f"masks/{unit_id}.parquet" for unit_id in (short, other)]
    data = bytearray(files[0].read_bytes())
    data[len(data) // 4] ^= 1
    files[0].write_bytes(data)
    files[1].write_bytes(next(Path(earlier.url).glob(f"masks/*{shards_of(earlier, 'long').pop()[0]}*")).read_bytes())
    new, reused, worked = second_run(earlier, tmp_path / "new", rows, tmp_path / "scratch")
    assert {unit.row.video_id for unit in worked} == {"short", "other"}
    assert len(reused.notes) == 2 and all("made anew" in note for note in reused.notes)
    assert verify(new).code == 0


def test_what_the_earlier_plan_knows_is_not_looked_into(
    earlier: Storage, rows: list[VideoRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looked: list[str] = []
    real = planning.probe_sources
    monkeypatch.setattr(planning, "probe_sources", lambda urls, *a, **k: looked.extend(urls) or real(urls, *a, **k))
    new, changed = Storage(str(tmp_path / "new")), corrected(rows, "other")
    known = known_probes(planning.read_plan(earlier), published(earlier).published)
    units = plan_run(new, changed, CONFIG, {}, set(), print, known=known)
    assert [Path(url).stem for url in looked] == ["other"] and len(units) == 6


def test_what_cannot_be_taken_over_is_refused(earlier: Storage, rows: list[VideoRow], tmp_path: Path):
    new = Storage(str(tmp_path / "new"))
    with pytest.raises(SettingsRefused, match=r"--resolution: 480 -> 240"):
        reuse_shards(earlier, new, [], replace(CONFIG, resolution=240), frozenset(), print)
    with pytest.raises(OSError, match="is the --output itself"):
        reuse_shards(earlier, earlier, [], CONFIG, frozenset(), print)
    with pytest.raises(FileNotFoundError, match="holds no _run/config.json"):
        reuse_shards(Storage(str(tmp_path / "none")), new, [], CONFIG, frozenset(), print)


def test_between_object_stores(earlier: Storage, rows: list[VideoRow], tmp_path: Path, s3: tuple[str, dict]):
    url, options = s3
    new, reused, worked = second_run(earlier, f"{url}/out", rows, tmp_path / "scratch", options)
    assert (reused.videos, worked, verify(new).code) == (3, [], 0)
    back, reused, worked = second_run(new, tmp_path / "back", rows, tmp_path / "scratch")
    assert (reused.videos, worked, verify(back).code) == (3, [], 0)
