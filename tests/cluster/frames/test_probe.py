"""Probing in children: container facts of local and remote videos, whatever is wrong with some of them."""

import io
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
from made_processes import descendants
from made_servers import serving, web_server
from made_videos import cut, numbered_frame, write_video
from PIL import Image

import cluster.frames.probe
from cluster.frames.probe import Probe, probe_sources
from cluster.frames.probe_child import probe, probe_remote

SOUND = Probe(30, 128, 96, 30.0, 1.0, "h264")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("probed")
    write_video(folder / "sound.mp4", 30)
    write_video(folder / "fast.mp4", 30, container_options={"movflags": "+faststart"})
    write_video(folder / "plain.mkv", 30)
    write_video(folder / "turned.mp4", 30, rotation=90)
    cut(folder / "sound.mp4", 0.5, folder / "cut.mp4")
    (folder / "text.mp4").write_text("<html>not found</html>")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "images").mkdir()
    for number in range(12):
        Image.fromarray(numbered_frame(number)).save(folder / "images" / f"{number}.png")
    (folder / "nothing").mkdir()
    return folder


NAMES = (
    "sound.mp4",
    "fast.mp4",
    "plain.mkv",
    "turned.mp4",
    "cut.mp4",
    "text.mp4",
    "empty.mp4",
    "images",
    "missing.mp4",
)


def check(found: dict[str, Probe], base: str) -> None:
    assert list(found) == [f"{base}/{name}" for name in NAMES]
    by_name = {url.rpartition("/")[2]: probe for url, probe in found.items()}
    assert by_name["sound.mp4"] == by_name["fast.mp4"] == SOUND
    mkv = by_name["plain.mkv"]
    assert (mkv.frames, mkv.width, mkv.height, mkv.fps, mkv.codec, mkv.error) == (30, 128, 96, 30.0, "h264", None)
    assert (by_name["turned.mp4"].width, by_name["turned.mp4"].height) == (96, 128)
    assert by_name["images"] == Probe(12, 128, 96, None, None, "png")
    for name, words in {
        "cut.mp4": "cannot be opened as a video",
        "text.mp4": "is a text file",
        "empty.mp4": "is empty",
        "missing.mp4": "does not exist",
    }.items():
        error = by_name[name].error
        assert f"{base}/{name}" in error and words in error
        assert by_name[name] == Probe(error=error), "nothing else is known"


def test_local_files_and_folders(folder):
    check(probe_sources([f"{folder}/{name}" for name in NAMES], children=2), str(folder))
    assert "without images" in probe_sources([f"{folder}/nothing"])[f"{folder}/nothing"].error


def test_the_same_over_s3_without_a_copy(folder, s3):
    """Also: only parts of a large file are read, and credentials stay out of command lines and environments."""
    base, options = s3
    remote = fsspec.filesystem("s3", **options, skip_instance_cache=True, use_listings_cache=False)
    for name in NAMES[:-1]:
        remote.put(str(folder / name), f"{base}/in/{name}", recursive=True)
    with (folder / "large.mkv").open("wb") as large:
        large.write((folder / "plain.mkv").read_bytes())
        large.write(os.urandom(12 << 20))
    remote.put_file(str(folder / "large.mkv"), f"{base}/in/large.mkv")
    for name in [name for name in os.environ if name.startswith("AWS_ACCESS") or name.startswith("AWS_SECRET")]:
        os.environ.pop(name)
    options = {**options, "key": "testing", "secret": "very-secret"}
    seen, done = set(), threading.Event()

    def watch():
        while not done.is_set():
            for child in descendants(os.getpid()):
                for what in ("cmdline", "environ"):
                    try:
                        seen.add(Path(f"/proc/{child}/{what}").read_bytes())
                    except OSError:
                        continue
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        check(probe_sources([f"{base}/in/{name}" for name in NAMES], options, children=2), f"{base}/in")
        url = f"{base}/in/large.mkv"
        assert probe_sources([url], options)[url].width == 128
        wrong = probe_sources(["s3://no-such-bucket/a.mp4"], options)["s3://no-such-bucket/a.mp4"]
        assert "no-such-bucket" in wrong.error and "very-secret" not in wrong.error
    finally:
        done.set()
        watcher.join()
    assert any(b"cluster.frames.probe_child" in line for line in seen)
    assert not any(b"very-secret" in line for line in seen)


def test_ranged_reads_take_a_part_of_a_large_file(folder):
    """Counted by a file system of this process, with the child's own function."""
    memory = fsspec.filesystem("memory")
    head, noise = (folder / "fast.mp4").read_bytes(), os.urandom(20 << 20)
    memory.pipe_file("/large.mp4", head + (len(noise) + 8).to_bytes(4, "big") + b"free" + noise)
    read = []

    class Counting:
        info = staticmethod(memory.info)

        @staticmethod
        def open(path, mode, **_):
            file = memory.open(path, mode)
            return CountingFile(file.getvalue(), read)

    info = probe_remote(Counting, "/large.mp4", "memory://large.mp4")
    assert (info.width, info.frames_declared) == (128, 30)
    assert sum(read) < 1 << 20


class CountingFile(io.BytesIO):
    def __init__(self, data: bytes, read: list[int]):
        super().__init__(data)
        self.read_bytes = read

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes.append(len(data))
        return data


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setattr(cluster.frames.probe, "CHILD", "made_probe_child")
    return monkeypatch


def test_crashes_and_hangs_are_answers(folder, tmp_path, faulty):
    before, children = len(os.listdir("/proc/self/fd")), set(descendants(os.getpid()))
    names = ["a.mp4", "segv-1.mp4", "b.mp4", "hang-1.mp4", "exit.mp4", "c.mp4", "segv-2.mp4", "hang-2.mp4", "d.mp4"]
    for name in names:
        shutil.copy(folder / "sound.mp4", tmp_path / name)
    began = time.monotonic()
    found = probe_sources([f"{tmp_path}/{name}" for name in names], children=2, deadline_seconds=5)
    assert time.monotonic() - began < 120  # not the ten minutes of one hang
    assert [Path(url).name for url in found] == names
    for url, answer in found.items():
        name = Path(url).name
        if len(name) == 5:
            assert answer == SOUND
        else:
            words = {"segv": "SIGSEGV", "hang": "no answer for 5 s", "exit": "exit code 3"}[name[:4]]
            assert url in answer.error and words in answer.error and answer.frames is None
    # Not ==: connections that earlier tests have left are closed at any time.
    assert len(os.listdir("/proc/self/fd")) <= before
    assert set(descendants(os.getpid())) <= children


def test_storage_that_never_answers_is_given_up(faulty):
    faulty.setattr(cluster.frames.probe, "HANGS_IN_A_ROW", 3)
    found = probe_sources([f"/hang-{number}.mp4" for number in range(100)], children=3, deadline_seconds=0.5)
    assert len(found) == 100 and all(probe.error for probe in found.values())
    assert sum("not probed: 3 videos in a row" in probe.error for probe in found.values()) >= 90


def test_children_that_do_not_start_are_an_answer(faulty):
    faulty.setenv("STCN_TEST_FAULT", "start-exit")
    found = probe_sources(["/a.mp4", "/b.mp4"], children=1)
    assert all("did not start" in probe.error and "no such library" in probe.error for probe in found.values())


def test_many_small_files_with_progress_lines(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.frames.probe, "SAY_SECONDS", 0.5)
    urls = [f"{tmp_path}/{number}.mp4" for number in range(2000)]
    for url in urls:
        os.link(folder / "sound.mp4", url)
    (tmp_path / "7.mp4").unlink()
    lines = []
    found = probe_sources([*urls, urls[0]], say=lines.append)
    assert list(found) == urls and sum(probe == SOUND for probe in found.values()) == 1999
    assert lines and all(" of 2000 videos probed, " in line for line in lines)


def test_nothing_to_probe_starts_nothing(faulty):
    faulty.setenv("STCN_TEST_FAULT", "start-exit")
    assert probe_sources([]) == {}
    with pytest.raises(ValueError, match="positive"):
        probe_sources(["/a.mp4"], children=0)


def test_s3fs_is_imported_only_for_s3(folder):
    script = f"""
import sys
sys.argv = ["x"]
from cluster.frames.probe_child import probe
assert probe({str(folder / "sound.mp4")!r}, {{}})["frames"] == 30
print([name for name in ("s3fs", "aiobotocore", "torch", "ray", "pyarrow") if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_web_server_that_is_out_of_order_is_not_a_missing_video():
    with serving(web_server(lambda request: request.send_error(503))) as port:
        with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}/a.mp4 cannot be probed: the server answers 503"):
            probe(f"http://127.0.0.1:{port}/a.mp4", {})
