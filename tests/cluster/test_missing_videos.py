"""Videos that a command no longer names: said, and forgotten on demand without touching any masks."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_output import CONFIG, VIDEOS, MadeVideo, write_failure, write_output, write_plan, write_progress, write_shard
from made_runs import run_here
from made_videos import write_video

from cluster.inspect.compaction import compact
from cluster.inspect.status_report import read_status
from cluster.inspect.verification import verify
from cluster.kept_manifest import MANIFEST_NAME, keep_manifest, kept_rows
from cluster.missing_videos import Missing, describe, forget_missing, missing_videos
from cluster.planning import plan_run, read_plan
from cluster.progress_file import PROGRESS_NAME, TIME_FORMAT
from cluster.run import RunRequest, run
from cluster.stand_in import StandInSegmenters
from cluster.stores.storage import Published, Storage
from schemas.manifest import VideoRow
from schemas.prompt import Prompt

BAD, LATE, HALF = MadeVideo("bad"), MadeVideo("late", 30, split=True), MadeVideo("half", 30, split=True)
BOX = Prompt(frame=0, object_id=1, box=(10, 10, 40, 30))


def rows_of(*videos: MadeVideo) -> list[VideoRow]:
    return [VideoRow(n, f"/in/{video.video_id}.mp4", video.video_id, (BOX,)) for n, video in enumerate(videos, 1)]


def make(folder: Path, *more: MadeVideo) -> Storage:
    """Three finished videos, one that failed, one that has only its bank, and more that are not begun."""
    names = [video.video_id for video in (BAD, LATE, *more)]
    storage = write_output(folder, (*VIDEOS, BAD, LATE, *more), unfinished=names)
    write_failure(storage, BAD)
    for suffix in ("safetensors", "json"):
        storage.publish(f"_run/banks/{LATE.units()[0][0]}.{suffix}", b"bank")
    keep_manifest(storage, rows_of(*VIDEOS, BAD, LATE, *more))
    return storage


def files(folder: Path, table: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / table).iterdir()}


def test_what_is_missing_by_how_much_of_it_is_there(tmp_path: Path):
    storage = make(tmp_path, HALF)
    write_shard(storage, HALF, *HALF.units()[1])
    shards = {path.stem for path in (tmp_path / "masks").iterdir()}
    missing = missing_videos(read_plan(storage), {VIDEOS[0].video_id}, shards)
    assert missing == Missing(tuple(video.video_id for video in VIDEOS[1:]), ("half",), ("bad", "late"))
    text = describe(missing)
    assert text.startswith("5 videos of the plan are not named by this command (such as 'bad'): they stay as they are")
    assert "2 have no masks: --forget-missing" in text and "1 have a part of their masks" in text
    assert describe(Missing()) is None and "--forget" not in describe(Missing(("a",)))


def test_what_is_forgotten_leaves_a_sound_and_finished_output(tmp_path: Path):
    storage = make(tmp_path / "out")
    before = files(tmp_path / "out", "masks")
    verdict = verify(storage)
    assert verdict.code == 6 and "--forget-missing" in str(verdict.findings[0])
    said: list[str] = []
    forget_missing(storage, rows_of(*VIDEOS), said.append)
    assert said == ["2 videos without masks that are not in the manifest were taken out of the plan"]
    assert files(tmp_path / "out", "masks") == before
    status, verdict = read_status(storage), verify(storage)
    assert (status.state, status.videos, status.failed, status.left) == ("done", 3, 0, 0)
    assert (verdict.code, verdict.findings, verdict.videos.get("failed")) == (0, (), None)
    assert [row.video_id for row in kept_rows(storage)] == [video.video_id for video in VIDEOS]
    assert compact(storage, Storage(str(tmp_path / "compact"))).videos == 3
    forget_missing(storage, rows_of(*VIDEOS), said.append)
    assert said[-1].startswith("0 videos")


def test_masks_are_never_forgotten(tmp_path: Path):
    """Neither a part of a video's, nor those that a row speaks of although their shard is gone."""
    storage = make(tmp_path, HALF)
    write_shard(storage, HALF, *HALF.units()[1])
    Path(tmp_path / VIDEOS[0].shards()[0]).unlink()
    said: list[str] = []
    forget_missing(storage, rows_of(BAD, LATE), said.append)
    assert said[0].startswith("0 videos") and "1 more are left in it (such as 'short')" in said[1]
    assert "1 have a part of their masks" in said[2]
    assert set(read_plan(storage)["video_id"].to_pylist()) == {v.video_id for v in (*VIDEOS, BAD, LATE, HALF)}
    assert len(files(tmp_path, "videos")) == 4


class Dying(Storage):
    """Dies before the given write or removal."""

    left = 0

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def publish(self, name: str, data: bytes | Path):
        self._step()
        return super().publish(name, data)

    def delete(self, name: str) -> None:
        self._step()
        super().delete(name)


def test_the_same_command_ends_what_a_crash_left(tmp_path: Path):
    """Killed before each of its five steps: nothing is lost on the way, and the next one is finished."""
    for steps in range(6):
        folder = tmp_path / str(steps)
        storage = make(folder)
        masks = files(folder, "masks")
        dying = Dying(str(folder))
        dying.left = steps
        if steps < 5:
            with pytest.raises(KeyboardInterrupt):
                forget_missing(dying, rows_of(*VIDEOS), print)
            assert verify(storage).code == 6
        forget_missing(storage, rows_of(*VIDEOS), print)
        assert verify(storage).code == 0 and files(folder, "masks") == masks
        assert not storage.list("_run/banks") and len(kept_rows(storage)) == 3


def test_what_another_run_plans_meanwhile_is_not_forgotten(tmp_path: Path):
    class Busy(Storage):
        """Another run extends the plan while this one keeps its manifest."""

        def publish(self, name: str, data: bytes | Path) -> Published:
            if name == MANIFEST_NAME:
                write_plan(self, (*VIDEOS, BAD, LATE, MadeVideo("new")))
            return super().publish(name, data)

    make(tmp_path)
    forget_missing(Busy(str(tmp_path)), rows_of(*VIDEOS), print)
    left = set(read_plan(Storage(str(tmp_path)))["video_id"].to_pylist())
    assert left == {video.video_id for video in VIDEOS} | {"new"}


@pytest.fixture
def finished(tmp_path: Path) -> tuple[list[VideoRow], Callable[..., tuple[int, str]]]:
    """Two finished videos and a planned one that does not exist; a run that needs no Ray, as all that it names is
    done."""
    config = replace(CONFIG, group_frames=5, memory_frames=4, burn_in_frames=8)
    rows = [
        VideoRow(n, str(write_video(tmp_path / f"{name}.mp4", 12, size=(48, 64))), name, (BOX,))
        for n, name in enumerate("ab", 1)
    ]
    storage = Storage(str(tmp_path / "out"))
    run_here(storage, rows, config, tmp_path / "scratch")
    third = VideoRow(3, str(tmp_path / "c.mp4"), "c", (BOX,))
    plan_run(storage, [*rows, third], config, {}, set(), print)
    keep_manifest(storage, [*rows, third])

    def again(**more: object) -> tuple[int, str]:
        said: list[str] = []
        return run(RunRequest(storage.url, StandInSegmenters(), **more), config, rows, said.append), "\n".join(said)

    return rows, again


def test_a_run_says_what_it_does_not_name_and_forgets_it_when_asked(tmp_path: Path, finished):
    rows, again = finished
    code, said = again()
    assert code == 0 and "1 videos of the plan are not named by this command (such as 'c')" in said
    assert read_status(Storage(str(tmp_path / "out"))).left == 1
    out = Storage(str(tmp_path / "out"))
    write_progress(out, time=time.strftime(TIME_FORMAT, time.gmtime()), host="elsewhere", pid=1)
    with pytest.raises(OSError, match="has to wait until process 1 on elsewhere has ended"):
        again(forget_missing=True)
    assert read_status(out).left == 1
    out.delete(PROGRESS_NAME)
    code, said = again(forget_missing=True)
    assert code == 0 and "1 videos without masks that are not in the manifest were taken out" in said
    assert "not named" not in said and "not named" not in again()[1]
    storage = Storage(str(tmp_path / "out"))
    assert read_status(storage).state == "done" and verify(storage).code == 0 and len(kept_rows(storage)) == 2
