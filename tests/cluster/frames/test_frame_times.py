import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from made_videos import copy_packets, read_number, real_clips, write_video

import cluster.frames.frame_times
from cluster.frames.container import open_video
from cluster.frames.frame_times import NO_STAMP, frame_times, times_from_stamps
from cluster.frames.video import FrameReader, VideoError, probe_video

B_FRAMES = {"bf": "3", "g": "12"}
HEVC = {"x265-params": "log-level=0:bframes=4:keyint=20:min-keyint=20:open-gop=1"}


def numbers(path) -> list[int]:
    return [read_number(frame) for _, frame in FrameReader(path, probe_video(path))]


def decoded_seconds(path) -> list[float]:
    """Times of the frames as a full decode gives them: the truth that demuxing has to meet."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stamps = [frame.pts for frame in container.decode(stream)]
        return [float((stamp - stamps[0]) * stream.time_base) for stamp in stamps]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", B_FRAMES),
        ("a.mkv", "libx264", B_FRAMES),
        ("a.ts", "libx264", B_FRAMES),
        ("a.mov", "libx264", B_FRAMES),
        ("a.flv", "libx264", B_FRAMES),
        ("a.avi", "libx264", B_FRAMES),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.mp4", "libx265", HEVC),
        ("a.webm", "libvpx-vp9", {"cpu-used": "8", "lag-in-frames": "16"}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.gif", "gif", {}),
    ],
)
def test_index_i_of_the_reader_is_shown_at_time_i(tmp_path, name, codec, options):
    path = write_video(
        tmp_path / name, 40, codec=codec, options=options, rate=25, pixel_format="rgb8" if codec == "gif" else "yuv420p"
    )
    times = frame_times(path)
    assert numbers(path) == list(range(40))
    assert times.time_s == pytest.approx(np.arange(40) / 25, abs=0.0011)
    if path.suffix != ".avi":  # which has no presentation timestamps; FFmpeg makes up wrong ones for B-frames
        assert times.time_s == pytest.approx(decoded_seconds(path), abs=1e-9)
    assert times.pts.dtype == np.int64 and times.time_s.dtype == np.float64 and times.seekable


def test_sixty_frames_a_second(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, rate=60)
    assert frame_times(path).time_s.tolist() == [number / 60 for number in range(30)]


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_a_variable_frame_rate_and_a_late_start(tmp_path, name):
    ticks = (50 + np.cumsum(np.random.default_rng(0).integers(1, 9, 40))).tolist()
    path = write_video(tmp_path / name, 40, times=ticks, options=B_FRAMES)
    assert numbers(path) == list(range(40))
    assert frame_times(path).time_s == pytest.approx((np.array(ticks) - ticks[0]) / 30, abs=0.0011)


def test_packets_hidden_by_an_edit_list_do_not_count(tmp_path):
    path = write_video(tmp_path / "a.mp4", 40, options=B_FRAMES)
    data = bytearray(path.read_bytes())
    entry = data.find(b"elst") + 12
    duration, first, rate = struct.unpack(">Iii", data[entry : entry + 12])
    frame_ticks = 512
    data[entry : entry + 12] = struct.pack(">Iii", 650, first + 8 * frame_ticks, rate)  # 20 frames from number 8 on
    path.write_bytes(data)
    times = frame_times(path)
    assert numbers(path) == list(range(8, 28))
    assert times.time_s == pytest.approx(np.arange(20) / 30)
    assert not times.seekable and duration > 650
    assert probe_video(path).frames_declared - times.hidden == 20


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("part", [0.2, 0.5])
def test_a_broadcast_recording_cut_in_the_middle_starts_at_the_first_frame_that_decodes(tmp_path, codec, part):
    options = HEVC if codec == "libx265" else {"bf": "3", "g": "20", "x264-params": "open-gop=1:scenecut=0"}
    path = write_video(tmp_path / "a.ts", 60, codec=codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[int(len(data) * part) // 188 * 188 :])
    shown, times = numbers(path), frame_times(path)
    assert shown == list(range(shown[0], 60)) and 0 < shown[0] < 60
    assert times.time_s == pytest.approx(np.arange(len(shown)) / 30)


def test_leading_pictures_without_their_reference_do_not_count(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", 60, codec="libx265", options=HEVC)
    path = copy_packets(whole, tmp_path / "a.mp4", first=20)
    shown, times = numbers(path), frame_times(path)
    assert shown == list(range(shown[0], 60))
    assert times.time_s == pytest.approx(np.arange(len(shown)) / 30)
    assert probe_video(path).frames_declared - times.hidden == len(shown)


def test_two_recordings_in_one_file_go_on_without_a_jump(tmp_path):
    first = write_video(tmp_path / "1.ts", 20, options=B_FRAMES)
    second = write_video(tmp_path / "2.ts", list(range(20, 45)), options=B_FRAMES)
    path = tmp_path / "a.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    times = frame_times(path)
    assert numbers(path) == list(range(45))
    assert times.time_s == pytest.approx(np.arange(45) / 30)
    assert times.pts[20] == times.pts[0] and not times.seekable


def test_vp8_references_that_are_never_shown_do_not_count(tmp_path):
    whole = write_video(tmp_path / "whole.webm", 20, codec="libvpx", options={"g": "40"})
    path = tmp_path / "a.webm"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(old.streams.video[0])):
            if packet.dts is None:
                continue
            data = bytearray(bytes(packet))
            if number == 7:
                data[0] &= ~0x10  # show_frame = 0
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = packet.is_keyframe
            new.mux(copy)
    shown, times = numbers(path), frame_times(path)
    assert shown == [number for number in range(20) if number != 7]
    assert times.time_s == pytest.approx(np.array(shown) / 30, abs=0.0011)
    assert not times.seekable and times.hidden == 1


def test_a_raw_stream_is_counted_at_its_rate(tmp_path):
    path = write_video(tmp_path / "a.h264", 40, options=B_FRAMES, rate=30)
    times = frame_times(path)
    assert numbers(path) == list(range(40))
    assert times.pts.tolist() == list(range(40)) and times.time_s == pytest.approx(np.arange(40) / 30)


def test_a_cut_file_has_the_times_of_what_is_left(tmp_path):
    path = write_video(tmp_path / "a.mkv", 60, options=B_FRAMES)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    shown, times = numbers(path), frame_times(path)
    assert 20 < len(shown) < 60 and len(shown) <= len(times)
    assert times.time_s[: len(shown)] == pytest.approx(np.array(shown) / 30, abs=0.0011)


def test_folders_have_no_times_and_sound_has_no_frames(tmp_path):
    assert frame_times(tmp_path) is None
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as output:
        output.mux(output.add_stream("aac", rate=44100).encode())
    with pytest.raises(VideoError):
        frame_times(tmp_path / "a.m4a")


def test_the_frame_at_a_time_is_the_last_at_or_before_it():
    times = times_from_stamps([0, 10, 30, 33], [0, 10, 30, 33], Fraction(1, 10), Fraction(10))
    assert [times.frame_at(second) for second in (0, 0.99, 1, 2.9, 3.0, 3.25, 3.3, 4.0)] == [0, 0, 1, 1, 2, 2, 3, 3]
    for outside in (-0.01, 5.0, float("nan")):
        with pytest.raises(ValueError, match="outside the video"):
            times.frame_at(outside)


def test_thirds_of_a_second_are_exact():
    times = times_from_stamps(list(range(100)), list(range(100)), Fraction(1, 30), None)
    assert times.time_s[33] == 1.1 and times.frame_at(1.1) == 33


def test_missing_timestamps_fall_back_to_decoding_order_and_then_to_counting():
    by_dts = times_from_stamps([NO_STAMP, 3, NO_STAMP], [2, 0, 1], Fraction(1, 2), None)
    assert by_dts.time_s.tolist() == [0, 0.5, 1] and not by_dts.seekable
    counted = times_from_stamps([NO_STAMP, 3], [NO_STAMP, 0], Fraction(1, 2), Fraction(5))
    assert counted.time_s.tolist() == [0, 0.2] and not counted.seekable


def test_doubled_and_negative_timestamps_cannot_be_sought():
    for pts in ([0, 1, 1, 2], [-1, 0, 1]):
        times = times_from_stamps(pts, list(range(len(pts))), Fraction(1), None)
        assert len(times) == len(pts) and not times.seekable


@pytest.mark.parametrize("step", [1, 2, 7])
def test_arithmetic_in_steps_gives_what_one_step_gives(monkeypatch, step):
    """Jumps, doubled stamps and stamps that are not known lie on and beside the places where a step ends."""
    draw = np.random.default_rng(0)
    cases = []
    for _ in range(60):
        dts = np.cumsum(draw.choice([0, 1, 2, 3], 14, p=[0.04, 0.4, 0.3, 0.26]))
        dts[7:] -= draw.choice([0, 0, 30])
        pts = np.concatenate([draw.permutation(part) for part in np.split(dts + draw.integers(0, 2), [7])])
        dts[draw.random(14) < 0.2] = NO_STAMP
        cases.append((pts, dts, Fraction(1, 30), None, draw.choice([None, int(np.sort(pts[:7])[2])])))
    whole = [times_from_stamps(pts.copy(), *rest) for pts, *rest in cases]
    monkeypatch.setattr(cluster.frames.frame_times, "AT_A_TIME", step)
    for one, case in zip(whole, cases, strict=True):
        times = times_from_stamps(*case)
        assert times.pts.tolist() == one.pts.tolist() and times.time_s.tolist() == one.time_s.tolist()
        assert (times.seekable, times.hidden) == (one.seekable, one.hidden)
    assert {one.seekable for one in whole} == {True, False} and any(one.hidden for one in whole)


@pytest.mark.real_clips
def test_a_real_file_of_60_frames_a_second():
    path = real_clips() / "videos" / "sam2_720px_dark.mp4"
    times = frame_times(path)
    with open_video(path) as (container, stream):
        truth = [float((frame.pts or 0) * stream.time_base) for frame in container.decode(stream)]
    assert len(times) == 1016 and times.time_s == pytest.approx(np.array(truth) - truth[0], abs=1e-9)


def test_without_keyframes_nearby_a_video_cannot_be_sought_at_a_bounded_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.frames.frame_times, "MAX_KEYFRAME_GAP", 40)
    options = {"preset": "ultrafast", "sc_threshold": "0"}
    for group, seekable in ((41, True), (60, False)):
        path = write_video(tmp_path / f"{group}.mp4", 120, options={**options, "g": str(group)})
        packets = []
        assert frame_times(path, packets.append).seekable is seekable
        assert packets == list(range(120))
