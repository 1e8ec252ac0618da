"""What a unit opens is what was planned: a source that was replaced in between fails it, in words that are true."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from made_runs import published, workbench
from made_videos import numbered_frame, write_video
from PIL import Image

from cluster.config_lock import SettingsRefused
from cluster.heartbeat import Heartbeat
from cluster.plan import Unit
from cluster.planning import plan_run
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, UnitFailed, annotate_unit
from cluster.workbench import Workbench
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

CONFIG = RunConfig(
    "stand-in", "0" * 64, segment_frames=10, recent_frames=2, group_frames=5, memory_frames=4, burn_in_frames=8
)
Work = Callable[[Unit], UnitDone | UnitFailed]


def row_of(video: str) -> VideoRow:
    return VideoRow(1, video, "v", (Prompt(frame=0, object_id=1, box=(4, 4, 20, 20)),))


def plan(storage: Storage, video: str, options: dict | None = None) -> list[Unit]:
    done = set(published(storage).published)
    return plan_run(storage, [row_of(video)], CONFIG, options or {}, done, print)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "out"))


@pytest.fixture
def bench(storage: Storage, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(storage, CONFIG, tmp_path / "scratch") as bench:
        yield bench


@pytest.fixture
def work(bench: Workbench) -> Work:
    return lambda unit: annotate_unit(unit, bench, Heartbeat())


def refused(answer: UnitDone | UnitFailed, words: str) -> None:
    """A failure of the environment: nothing is marked as failed for many of these, and one video is tried again."""
    assert isinstance(answer, UnitFailed), answer
    assert (answer.error_class, answer.stage) == ("gone", "fetch")
    assert "was replaced since the run was planned" in answer.message and words in answer.message


def test_a_file_of_another_size_is_not_annotated_and_the_same_command_plans_it_anew(
    storage: Storage, work: Work, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "v.mp4", 12)
    (unit,) = plan(storage, str(video))
    write_video(video, 17)
    refused(work(unit), f"it had {unit.source.size} bytes and has {video.stat().st_size}")
    assert storage.list("masks") == {}
    (again,) = plan(storage, str(video))
    done = work(again)
    assert again.unit_id != unit.unit_id and isinstance(done, UnitDone) and done.frames == 17


def test_a_folder_of_images_with_one_more_is_another(storage: Storage, work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(numbered_frame(number)).save(folder / f"{number}.png")
    (unit,) = plan(storage, str(folder))
    (folder / "4.png").write_bytes((folder / "3.png").read_bytes())
    refused(work(unit), f"it had {unit.source.size} bytes")


def test_a_file_that_was_only_touched_is_the_same(storage: Storage, work: Work, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 12)
    (unit,) = plan(storage, str(video))
    os.utime(video, ns=(1, 1))
    assert isinstance(work(unit), UnitDone)


def test_a_whole_copy_is_used_where_nobody_can_say_more(
    storage: Storage, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer too many must not throw away the copy of a long video."""

    def busy(*_: object) -> None:
        raise OSError("503: slow down")

    (unit,) = plan(storage, str(write_video(tmp_path / "v.mp4", 12)))
    monkeypatch.setattr("cluster.open_video.stat_source", busy)
    assert isinstance(work(unit), UnitDone)


def test_an_object_of_the_same_size_and_another_etag_is_another(
    storage: Storage, bench: Workbench, work: Work, tmp_path: Path, s3: tuple[str, dict]
) -> None:
    url, bench.input_options = f"{s3[0]}/v.mp4", s3[1]
    fs, path = fsspec.core.url_to_fs(url, **s3[1])
    data = write_video(tmp_path / "v.mp4", 12).read_bytes()
    fs.pipe_file(path, data)
    (unit,) = plan(storage, url, s3[1])
    middle = len(data) // 2
    fs.pipe_file(path, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    refused(work(unit), "its etag or modification time changed")
    fs.pipe_file(path, data)
    assert isinstance(work(unit), UnitDone)
    # A server that says nothing about versions.
    unknown = replace(unit, source=replace(unit.source, version=None))
    fs.pipe_file(path, data + b"\0" * 8)
    refused(work(unknown), "bytes and has")
    unknown = replace(unit, source=replace(unit.source, size=None, version=None))
    assert isinstance(work(unknown), UnitDone)


def test_segments_are_all_of_one_content(storage: Storage, bench: Workbench, work: Work, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 120)
    burn_in, first, second, *_ = plan(storage, str(video))
    assert isinstance(work(burn_in), UnitDone) and isinstance(work(first), UnitDone)
    bench.put_away()  # as another actor would find it
    write_video(video, 130)
    refused(work(second), "or, where it has published masks, says what to do")
    with pytest.raises(SettingsRefused, match=r"v: the file's size changed from [\s\S]* --output with --reuse"):
        plan(storage, str(video))
