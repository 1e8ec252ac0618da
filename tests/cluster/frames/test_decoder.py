"""Decoding in a child process: the answers of decoding in this one, and no crash, hang, zombie or leak."""

import contextlib
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from made_processes import descendants
from made_videos import cut, damage, numbered_frame, read_number, write_video
from PIL import Image

import cluster.frames.decoder
from cluster.frames.decoder import Decoder, DecoderCrash, DecoderStall
from cluster.frames.video import FrameReader, VideoError, frame_times, probe_video

ROOT = Path(__file__).parents[3]
GROUPS = {"bf": "3", "g": "10", "preset": "ultrafast"}
CASES = ("sound.mp4", "rotated.mp4", "damaged.mp4", "cut.mkv", "cut.mp4", "cut.ts", "long.mp4", "images", "bad-images",
         "text.mp4", "missing.mp4", "a\udcff'\n.mp4")  # fmt: skip
RANGES = ({}, {"size": (24, 32)}, {"start": 7, "end": 20, "stride": 3}, {"start": 290}, {"start": 100_000})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    sound = write_video(folder / "sound.mp4", 40, options=GROUPS)
    write_video(folder / "rotated.mp4", 20, options=GROUPS, rotation=90, stored=lambda f: np.rot90(f))
    write_video(folder / "long.mp4", 320, size=(48, 64), options=GROUPS)
    damage(sound, 0.4, 6000, folder / "damaged.mp4")
    faststart = write_video(
        folder / "fast.mp4", 40, options=GROUPS, container_options={"movflags": "+faststart"}, sound=True
    )
    cut(faststart, 0.6, folder / "cut.mp4")
    for suffix in ("mkv", "ts"):
        cut(write_video(folder / f"whole.{suffix}", 40, options=GROUPS), 0.6, folder / f"cut.{suffix}")
    for name in ("images", "bad-images"):
        (folder / name).mkdir()
        for number in range(12):
            Image.fromarray(numbered_frame(number)).save(folder / name / f"{number}.png")
    (folder / "bad-images" / "8.png").write_bytes(b"no picture")
    (folder / "text.mp4").write_text("#EXTM3U\n")
    (folder / "a\udcff'\n.mp4").write_bytes(sound.read_bytes())
    return folder


@pytest.fixture(scope="module")
def shared() -> Decoder:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def faulty(monkeypatch) -> "pytest.MonkeyPatch":
    monkeypatch.setattr(cluster.frames.decoder, "CHILD", "made_decoder_child")
    return monkeypatch


def outcome(step) -> tuple:
    try:
        return "answer", step()
    except VideoError as error:
        return type(error), error.error_class, str(error)


def seen(frames) -> tuple:
    """Indices, a hash of the pixels, and how it ended."""
    digest, indices = hashlib.sha256(), []

    def step():
        for index, frame in frames:
            assert frame.dtype == np.uint8 and frame.flags.c_contiguous and frame.flags.writeable
            indices.append(index)
            digest.update(repr(frame.shape).encode() + frame.tobytes())
        return len(indices)

    ended = outcome(step)
    return ended, indices, digest.hexdigest(), frames.decoded, frames.error


@pytest.mark.parametrize("name", CASES)
def test_the_answers_of_decoding_in_this_process(inputs, shared, name):
    path = inputs / name
    here, there = outcome(lambda: probe_video(path)), outcome(lambda: shared.probe(path))
    assert here == there
    mine, its = outcome(lambda: frame_times(path)), outcome(lambda: shared.frame_times(path))
    if mine[0] == "answer" and mine[1] is not None:
        for field in ("pts", "time_s"):
            a, b = getattr(mine[1], field), getattr(its[1], field)
            assert np.array_equal(a, b) and a.dtype == b.dtype
        assert (mine[1].seekable, mine[1].hidden) == (its[1].seekable, its[1].hidden)
    else:
        assert mine == its
    if here[0] != "answer":
        return
    times = mine[1] if mine[0] == "answer" else None
    for chosen in RANGES:
        expected = seen(FrameReader(path, here[1], **chosen))
        assert seen(shared.frames(path, here[1], **chosen)) == expected
        assert seen(shared.frames(path, here[1], **chosen, times=times)) == expected
        assert seen(shared.frames(path, here[1], **chosen, seek=False))[1] == expected[1]
    assert seen(FrameReader(path, here[1]))[1], "the case has frames to compare"


def test_times_on_disk_are_those_in_memory_and_leave_no_file(inputs, shared, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.frames.decoder, "COPY_BYTES", 100)
    for name in ("sound.mp4", "cut.ts", "long.mp4"):
        here, there = shared.frame_times(inputs / name), shared.frame_times(inputs / name, tmp_path)
        assert len(here) == len(there) > 0
        assert np.array_equal(here.pts, there.pts) and np.array_equal(here.time_s, there.time_s)
        assert (here.seekable, here.hidden, here.end_s) == (there.seekable, there.hidden, there.end_s)
    assert not list(tmp_path.iterdir())
    assert shared.frame_times(inputs / "images", tmp_path) is None


def test_cases_are_what_they_are_named_after(inputs, shared):
    errors = {name: shared.frames(inputs / name, shared.probe(inputs / name)) for name in CASES[:9]}
    for frames in errors.values():
        for _ in frames:
            pass
    assert {name for name, frames in errors.items() if frames.error} >= {"damaged.mp4", "cut.mp4", "bad-images"}
    assert errors["sound.mp4"].decoded == 40 and errors["cut.ts"].decoded < 40
    with pytest.raises(ValueError, match="start must be"):
        shared.frames(inputs / "sound.mp4", shared.probe(inputs / "sound.mp4"), start=5, end=5)


def test_a_second_iteration_gives_the_same(inputs, shared):
    frames = shared.frames(inputs / "sound.mp4", shared.probe(inputs / "sound.mp4"))
    assert seen(frames) == seen(frames)


def test_leaving_early_keeps_the_child_for_the_next_request(inputs, shared):
    path = inputs / "long.mp4"
    info, pid = shared.probe(path), shared.pid
    for wanted in range(30):
        frames = shared.frames(path, info)
        for index, frame in frames:
            assert read_number(frame) == index
            if index == wanted:
                break
        assert frames.decoded == wanted + 1 and frames.error is None
    assert shared.probe(path) == info and shared.pid == pid


def test_a_later_request_ends_the_frames_before_it(inputs, shared):
    path = inputs / "sound.mp4"
    info = shared.probe(path)
    first = iter(shared.frames(path, info))
    assert next(first)[0] == 0
    later = shared.frames(inputs / "rotated.mp4", shared.probe(inputs / "rotated.mp4"))
    taken = [next(iterator := iter(later))[0]]
    with pytest.raises(RuntimeError, match="sound.mp4: a later request"):
        next(first)
    first.close()
    taken += [index for index, _ in iterator]
    assert taken == list(range(20)), "and the later one goes on undisturbed"
    with Decoder() as decoder:
        open_one = iter(decoder.frames(path, info))
        next(open_one)
    with pytest.raises(RuntimeError, match="closing the decoder"):
        next(open_one)


def test_a_ring_of_one_slot_and_larger_frames_after_small_ones(inputs, monkeypatch):
    monkeypatch.setattr(cluster.frames.decoder, "RING_BYTES", 1)
    path = inputs / "sound.mp4"
    with Decoder(depth=1) as decoder:
        info = decoder.probe(path)
        for size in ((24, 32), (96, 128), (400, 300), (10, 10)):
            assert seen(decoder.frames(path, info, size)) == seen(FrameReader(path, info, size))


def test_a_segmentation_fault_is_told_and_the_next_request_works(inputs, faulty):
    path = inputs / "sound.mp4"
    faulty.setenv("STCN_TEST_FAULT", "segv:23")
    with Decoder() as decoder:
        info = decoder.probe(path)
        first, got = decoder.pid, []
        with pytest.raises(DecoderCrash) as caught:
            for index, frame in decoder.frames(path, info):
                assert read_number(frame) == index
                got.append(index)
        assert got == list(range(23)), "frames before the crash still count"
        assert caught.value.signal == "SIGSEGV" and caught.value.error_class == "decoder-crash"
        message = str(caught.value)
        assert "sound.mp4" in message and "after frame 22" in message and "Segmentation fault" in message
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.signal, again.path) == (message, "SIGSEGV", str(path))
        assert decoder.pid is None and not Path(f"/proc/{first}").exists()
        assert decoder.probe(path) == info and decoder.pid != first
        assert [index for index, _ in decoder.frames(path, info, end=23)] == list(range(23))


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_killed_by_a_signal_from_outside(inputs, number):
    path = inputs / "long.mp4"
    with Decoder(depth=2) as decoder:
        info = decoder.probe(path)
        with pytest.raises(DecoderCrash) as caught:
            for index, _ in decoder.frames(path, info):
                if index == 5:
                    os.kill(decoder.pid, getattr(signal, number))
        assert caught.value.signal == number
        for _ in range(5):
            os.kill(decoder_started(decoder, path), signal.SIGKILL)
            assert decoder.probe(path) == info, "a child that died between requests is no video's fault"


def decoder_started(decoder: Decoder, path: Path) -> int:
    decoder.probe(path)
    return decoder.pid


def test_a_stopped_child_is_a_stall(inputs):
    path = inputs / "long.mp4"
    with Decoder(stall_seconds=1, depth=2) as decoder:
        info = decoder.probe(path)
        first = decoder.pid
        with pytest.raises(DecoderStall, match="no progress for 1 s while decoding the frame after frame") as caught:
            for index, _ in decoder.frames(path, info):
                if index == 5:
                    os.kill(first, signal.SIGSTOP)
                    began = time.monotonic()
        assert time.monotonic() - began < 30  # not the minute that is allowed otherwise
        assert caught.value.error_class == "decoder-stall" and not Path(f"/proc/{first}").exists()
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        os.kill(decoder_started(decoder, path), signal.SIGSTOP)
        assert decoder.probe(path) == info, "a child that stopped between requests is no video's fault"


def test_a_spin_that_holds_the_gil_is_a_stall_also_while_skipping(inputs, faulty):
    path = inputs / "sound.mp4"
    faulty.setenv("STCN_TEST_FAULT", "spin:12")
    with Decoder(stall_seconds=1) as decoder:
        info = decoder.probe(path)
        with pytest.raises(DecoderStall, match="after frame 11"):
            for _ in decoder.frames(path, info):
                pass
        assert [index for index, _ in decoder.frames(path, info, end=12)] == list(range(12))


def test_skipping_far_takes_longer_than_a_stall_and_is_none(inputs, faulty):
    faulty.setenv("STCN_TEST_FAULT", "slow:-1")
    path = inputs / "long.mp4"
    with Decoder(stall_seconds=1.2) as decoder:
        info = decoder.probe(path)
        began, counted = time.monotonic(), []
        decoder.progress = counted.append
        assert [index for index, _ in decoder.frames(path, info, start=150, end=155)] == list(range(150, 155))
        assert time.monotonic() - began > 3
        assert len(counted) > 2 and counted == sorted(set(counted)) and 0 < counted[0] and counted[-1] <= 155


def test_seeking_announces_the_frames_it_passes_in_silence(inputs):
    calls = []
    path = inputs / "long.mp4"
    reader = FrameReader(path, probe_video(path), start=300, progress=lambda *call: calls.append(call))
    assert [index for index, _ in reader] == list(range(300, 320))
    announced = calls.index((0, 320))
    assert announced >= 320, "after the calls for the packets whose times are read"
    assert calls[announced + 1 :] == [(index + 1, 0) for index in range(300, 320)]


def test_a_seek_has_the_time_that_its_frames_need(inputs, faulty):
    faulty.setenv("STCN_TEST_FAULT", "blind:-1")
    path = inputs / "long.mp4"
    with Decoder(stall_seconds=1) as decoder:
        info = decoder.probe(path)
        assert [index for index, _ in decoder.frames(path, info, start=300)] == list(range(300, 320))
        faulty.setattr(cluster.frames.decoder, "BLIND_FRAMES_PER_SECOND", 1e9)
        with pytest.raises(DecoderStall, match="reaching the first frame"):
            list(decoder.frames(path, info, start=300))


def test_a_consumer_slower_than_a_stall_is_none(inputs):
    path = inputs / "sound.mp4"
    with Decoder(stall_seconds=1, depth=2) as decoder:
        info = decoder.probe(path)
        for index, _ in decoder.frames(path, info):
            if index in (0, 20):
                time.sleep(1.5)
        assert index == 39


def test_what_the_child_prints_stops_nothing_and_does_not_grow(inputs, faulty):
    path = inputs / "sound.mp4"
    faulty.setenv("STCN_TEST_FAULT", "print:3")
    with Decoder() as decoder:
        info = decoder.probe(path)
        for _ in range(4):
            assert [index for index, _ in decoder.frames(path, info)] == list(range(40))
        time.sleep(0.6)
        decoder.frame_times(path)
        assert os.fstat(decoder._child._printed).st_size < 8 << 20


@pytest.mark.parametrize(
    ("fault", "message"), [("start-exit", "exit code 1.*no such library"), ("start-hang", "silent")]
)
def test_a_child_that_does_not_start(inputs, faulty, fault, message):
    faulty.setenv("STCN_TEST_FAULT", fault)
    with Decoder(start_seconds=60 if fault == "start-exit" else 0.5) as decoder:
        with pytest.raises(RuntimeError, match=message):
            decoder.probe(inputs / "sound.mp4")
        assert decoder.pid is None


def test_nothing_leaks_over_many_requests_and_deaths(inputs):
    path = inputs / "sound.mp4"

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, children = open_files(), set(descendants(os.getpid()))
    with Decoder(depth=4) as decoder:
        info = decoder.probe(path)
        during = open_files()
        for number in range(200):
            for index, _ in decoder.frames(path, info, (24, 32), end=20):
                if index == number % 10:
                    break
            if number % 4 == 0:
                with contextlib.suppress(DecoderCrash):
                    for index, _ in decoder.frames(path, info, (24, 32)):
                        if index == 1:
                            os.kill(decoder.pid, signal.SIGKILL)
        decoder.probe(path)
        assert open_files() <= during  # connections that earlier tests have left are closed at any time
        assert len(set(descendants(os.getpid())) - children) == 1
    assert open_files() <= before
    assert set(descendants(os.getpid())) <= children
    with pytest.raises(RuntimeError, match="closed"):
        decoder.probe(path)


def memory(pid: int | str, field: str) -> int:
    """Bytes of a field of /proc/PID/status."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def test_memory_stays_flat_here_and_in_the_child(tmp_path):
    path = write_video(tmp_path / "many.mp4", 1200, size=(240, 320), options=GROUPS)
    with Decoder() as decoder:
        info = decoder.probe(path)
        marks = []
        for index, _ in decoder.frames(path, info):
            if index in (300, 1190):
                marks.append((memory("self", "RssAnon"), memory(decoder.pid, "RssAnon"), memory(decoder.pid, "VmRSS")))
    for early, late in zip(*marks, strict=True):
        assert late < early + (6 << 20), "900 frames of 230 kB are 200 MB"


PARENT = """
    import os, signal, sys, threading, time
    from pathlib import Path
    from cluster.frames.decoder import Decoder
    decoder, path = Decoder(), Path(sys.argv[1])
    # Started by a thread that ends: the child lives as long as the process.
    starter = threading.Thread(target=decoder.probe, args=(path,))
    starter.start(), starter.join(), time.sleep(0.2)
    frames = iter(decoder.frames(path, decoder.probe(path)))
    for _ in range(10):
        next(frames)
    if sys.argv[2] == "stopped":
        os.kill(decoder.pid, signal.SIGSTOP)
    print(decoder.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("state", ["waiting", "stopped", "spinning"])
def test_the_child_dies_with_its_parent(inputs, tmp_path, state):
    script = textwrap.dedent(PARENT)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    if state == "spinning":
        script = script.replace("import Decoder\n", "import Decoder\nimport cluster.frames.decoder as d\n"
                                "d.CHILD = 'made_decoder_child'\n", 1)  # fmt: skip
        environment["STCN_TEST_FAULT"] = "spin:15"
    command = [sys.executable, "-c", script, str(inputs / "sound.mp4"), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as parent:
        try:
            child = int(parent.stdout.readline())
            time.sleep(0.5)
            assert alive(child)
        finally:
            parent.kill()
    deadline = time.monotonic() + 30  # before the parent would have ended by itself
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_found_through_sys_path_alone_and_from_any_folder(inputs, tmp_path):
    """Also where the working folder has a `cluster` of its own; and the child loads nothing heavy."""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "__init__.py").write_text("raise SystemExit('the wrong cluster')")
    script = f"import sys; sys.path = [{str(ROOT)!r}] + [p for p in sys.path if p]\n" + textwrap.dedent("""
        from pathlib import Path
        from cluster.frames.decoder import Decoder
        with Decoder() as decoder:
            decoder.probe(Path(sys.argv[1]))
            maps = Path(f"/proc/{decoder.pid}/maps").read_text()
        print([name for name in ("torch", "pyarrow", "ray", "aiohttp") if f"/{name}/" in maps])
    """)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(inputs / "sound.mp4")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_signals_meant_for_the_parent_do_not_end_the_child(inputs, shared):
    info, pid = shared.probe(inputs / "sound.mp4"), shared.pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert shared.probe(inputs / "sound.mp4") == info and shared.pid == pid
