import os
import pickle
import subprocess
import sys
import textwrap

import av
import numpy as np
import pytest
from framepump import VideoFrames
from made_videos import cut, damage, is_upright, read_number, real_clips, write_silence, write_video

from cluster.frames.video import FrameReader, VideoError, VideoInfo, frame_times, probe_video, working_size

B_FRAMES = {"bf": "3", "g": "12"}
FASTSTART = {"movflags": "+faststart"}


def read(path, *args, **kwargs) -> tuple[list[int], FrameReader]:
    """The numbers seen in the pictures, after checking that they are upright and C-contiguous, and the reader."""
    reader = FrameReader(path, probe_video(path), *args, **kwargs)
    seen = []
    for _, frame in reader:
        assert frame.flags.c_contiguous and frame.flags.writeable and frame.dtype == np.uint8
        assert frame.shape == (*reader.size, 3) and is_upright(frame)
        seen.append(read_number(frame))
    return seen, reader


def error_of(path) -> VideoError:
    """The VideoError that reading `path` to the end raises; it names the file and survives pickling."""
    with pytest.raises(VideoError) as caught:
        for _ in FrameReader(path, probe_video(path)):
            pass
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert path.name in str(error) and str(again) == str(error) and again.error_class == error.error_class
    return error


# Sound videos


def test_an_ordinary_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", 40, options=B_FRAMES, sound=True)
    info = probe_video(path)
    assert info == VideoInfo("video", 96, 128, 0, 30.0, 40, pytest.approx(4 / 3), "h264", "yuv420p", False)
    seen, reader = read(path)
    assert seen == list(range(40)) and reader.decoded == 40 and reader.error is None and reader.image_names is None


@pytest.mark.parametrize(
    ("name", "codec", "size", "pixel_format", "options"),
    [
        ("odd.mp4", "libx264", (241, 321), "yuv444p", {}),
        ("ten.mp4", "libx264", (96, 128), "yuv420p10le", {}),
        ("ten.mkv", "libx265", (96, 128), "yuv420p10le", {"x265-params": "log-level=0"}),
        ("alpha.webm", "libvpx-vp9", (96, 128), "yuva420p", {"cpu-used": "8"}),
        ("alpha.mov", "qtrle", (96, 128), "argb", {}),
        ("lossless.mkv", "ffv1", (97, 131), "yuv422p", {}),
        ("rgb.avi", "rawvideo", (96, 128), "bgr24", {}),
        ("a b ü 日本.mp4", "libx264", (96, 128), "yuv420p", {}),
        ("quo'te\"%d#?.mp4", "libx264", (96, 128), "yuv420p", {}),
    ],
)
def test_odd_sizes_deep_and_rare_pixels_and_names(tmp_path, name, codec, size, pixel_format, options):
    path = write_video(tmp_path / name, 8, codec=codec, size=size, pixel_format=pixel_format, options=options)
    assert (probe_video(path).height, probe_video(path).width) == size
    assert read(path)[0] == list(range(8))
    assert read(path, (48, 64))[0] == list(range(8))


def test_a_grey_video_has_equal_channels(tmp_path):
    path = write_video(tmp_path / "a.mkv", 5, codec="ffv1", pixel_format="gray")
    frames = [frame for _, frame in FrameReader(path, probe_video(path))]
    assert [read_number(frame) for frame in frames] == list(range(5))
    assert all((frame == frame[:, :, :1]).all() for frame in frames)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 40), (40, 1)])
def test_tiny_videos(tmp_path, size):
    path = write_video(tmp_path / "a.mkv", 3, codec="rawvideo", container="avi", size=size, pixel_format="bgr24")
    info = probe_video(path)
    assert (info.height, info.width) == size
    assert [frame.shape for _, frame in FrameReader(path, info)] == [(*size, 3)] * 3


def test_a_wrong_extension_does_not_matter(tmp_path):
    path = write_video(tmp_path / "a.mp4", 6).rename(tmp_path / "a.avi")
    assert read(path)[0] == list(range(6))
    bare = path.rename(tmp_path / "noextension")
    assert read(bare)[0] == list(range(6))


def test_a_gif_and_single_pictures_are_videos(tmp_path):
    gif = write_video(tmp_path / "a.gif", 7, codec="gif", pixel_format="rgb8")
    assert read(gif)[0] == list(range(7))
    for name, codec, pixels in (("a.png", "png", "rgb24"), ("a.jpg", "mjpeg", "yuvj420p"), ("a.bmp", "bmp", "bgr24")):
        picture = write_video(tmp_path / name, [5], codec=codec, pixel_format=pixels, container="image2")
        assert read(picture)[0] == [5], name


def test_a_change_of_resolution_is_scaled_to_the_first(tmp_path):
    first = write_video(tmp_path / "1.ts", 20, options=B_FRAMES)
    second = write_video(tmp_path / "2.ts", list(range(20, 30)), size=(64, 160), options=B_FRAMES)
    path = tmp_path / "a.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert read(path)[0] == list(range(30))


def test_streams_that_appear_on_the_way_do_no_harm(tmp_path):
    first = write_video(tmp_path / "1.ts", 100, options=B_FRAMES)
    second = write_video(tmp_path / "2.ts", list(range(100, 140)), options=B_FRAMES, sound=True)
    path = tmp_path / "a.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    for _ in range(3):
        seen, reader = read(path)
        assert seen == list(range(140)) and reader.error is None and len(frame_times(path)) == 140


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_metadata_is_honoured(tmp_path, clockwise, mirrored):
    def stored(frame):  # the picture as a turned camera stores it
        frame = np.rot90(frame, clockwise // 90)
        return frame[:, ::-1] if mirrored else frame

    # Asserted by eye-readable content (number on top, red block at the lower left), not by the code under test.
    flips = (mirrored and clockwise in (0, 180), mirrored and clockwise in (90, 270))
    path = write_video(tmp_path / "a.mp4", 6, stored=stored, rotation=clockwise, flips=flips)
    info = probe_video(path)
    assert (info.height, info.width, info.rotation, info.mirrored) == (96, 128, clockwise, mirrored)
    assert read(path)[0] == list(range(6))
    assert read(path, (60, 80))[0] == list(range(6))


# Ranges


@pytest.fixture(scope="module", params=["a.mp4", "a.mkv", "a.ts"])
def long_video(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / request.param
    return write_video(path, 330, options={"bf": "3", "g": "50", "preset": "ultrafast"}, size=(48, 64))


@pytest.mark.parametrize(
    ("start", "end", "stride"),
    [
        (0, 5, 1),
        (3, 20, 4),
        (100, 130, 7),
        (300, None, 1),
        (300, 320, 3),
        (257, 330, 70),
        (329, None, 1),
        (0, 999, 100),
    ],
)
def test_ranges_give_the_same_pixels_as_the_whole(long_video, start, end, stride):
    info = probe_video(long_video)
    whole = _whole(long_video)
    for options in ({}, {"threaded": True}, {"seek": False}, {"times": frame_times(long_video)}):
        reader = FrameReader(long_video, info, (24, 32), start, end, stride, **options)
        part = dict(reader)
        assert list(part) == list(range(start, min(end or 330, 330), stride))
        assert all((part[index] == whole[index]).all() for index in part)
        assert reader.decoded == min(end or 330, 330) and reader.error is None


_WHOLE: dict = {}


def _whole(path) -> dict:
    if path not in _WHOLE:
        _WHOLE[path] = dict(FrameReader(path, probe_video(path), (24, 32)))
        assert [read_number(frame) for frame in _WHOLE[path].values()] == list(range(330))
    return _WHOLE[path]


def test_nothing_after_the_end_is_decoded(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, options=B_FRAMES, container_options=FASTSTART)
    cut(path, 0.8)
    seen, reader = read(path, end=20)
    assert seen == list(range(20)) and reader.decoded == 20 and reader.error is None


def test_a_range_past_the_end_names_the_count(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    for start in (20, 500):
        with pytest.raises(VideoError, match="only 20 frames decode") as caught:
            list(FrameReader(path, probe_video(path), start=start))
        assert caught.value.error_class == "zero-frames"


@pytest.mark.parametrize("bad", [{"start": -1}, {"start": 5, "end": 5}, {"stride": 0}])
def test_ranges_without_sense_are_refused(tmp_path, bad):
    path = write_video(tmp_path / "a.mp4", 8)
    with pytest.raises(ValueError, match="a.mp4"):
        FrameReader(path, probe_video(path), **bad)


def test_a_reader_can_be_read_twice_and_left_early(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, options=B_FRAMES)
    reader = FrameReader(path, probe_video(path), (48, 64))
    for index, _ in reader:
        if index == 4:
            break
    assert reader.decoded == 5
    assert [index for index, _ in reader] == list(range(30)) and reader.decoded == 30


def test_pixels_are_those_of_framepump(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10, options=B_FRAMES)
    theirs = list(VideoFrames(str(path)).resized((50, 70)))
    assert all((frame == theirs[index]).all() for index, frame in FrameReader(path, probe_video(path), (50, 70)))


# Damaged videos


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.flv"])
@pytest.mark.parametrize("threaded", [False, True])
def test_a_file_cut_off_yields_its_first_frames(tmp_path, name, threaded):
    path = write_video(tmp_path / name, 60, options=B_FRAMES, container_options=FASTSTART if name == "a.mp4" else None)
    cut(path, 0.6)
    info = probe_video(path)
    reader = FrameReader(path, info, threaded=threaded)
    seen = [read_number(frame) for _, frame in reader]
    assert seen[:20] == list(range(20)) and len(seen) < 60 and reader.decoded == len(seen)
    if name == "a.mp4":
        assert info.frames_declared == 60 and "a.mp4" in reader.error


def test_the_number_of_frames_does_not_depend_on_threads(tmp_path):
    # With frame threads FFmpeg loses the frames in flight where the file breaks off: more cores, fewer frames.
    path = cut(write_video(tmp_path / "a.mp4", 60, options={"g": "12"}, container_options=FASTSTART), 0.7)
    info = probe_video(path)
    plain = [index for index, _ in FrameReader(path, info)]
    assert [index for index, _ in FrameReader(path, info, threaded=True)] == plain
    assert len(plain) > 30


def test_damage_in_the_middle_is_an_error_text_not_an_exception(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as container:
        packet = next(packet for number, packet in enumerate(container.demux(video=0)) if number == 33)
        begin, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    seen, reader = read(path)
    assert seen == list(range(33)) and reader.decoded == 33
    assert reader.error.startswith("a.mp4: decoding ends after 33 frames (")


def test_concealed_damage_gives_the_same_pixels_at_each_run(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, options={"g": "30"}, size=(144, 192))
    for seed, place in enumerate((0.2, 0.5, 0.8)):
        damage(path, place, 20, seed=seed)
    runs = [[frame.tobytes() for _, frame in FrameReader(path, probe_video(path))] for _ in range(4)]
    assert len(runs[0]) > 5 and all(run == runs[0] for run in runs)


# What is no video


def test_bad_files_are_video_errors_of_the_right_class(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", 20)
    data = whole.read_bytes()
    box = data.find(b"moov") - 4
    sound = tmp_path / "sound.m4a"
    with av.open(str(sound), "w", format="mp4") as output:
        write_silence(output, output.add_stream("aac", rate=44100), 1)
    noise = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    inputs = {
        "gone.mp4": (None, "missing"),
        "zero.mp4": (b"", "not-a-video"),
        "text.mp4": (b"this is no video, just words\n" * 40, "not-a-video"),
        "page.mp4": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "not-a-video"),
        "list.m3u8": (b"#EXTM3U\n#EXTINF:1,\nwhole.mp4\n", "not-a-video"),
        "concat.txt": (b"ffconcat version 1.0\nfile whole.mp4\n", "not-a-video"),
        "session.sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not-a-video"),
        "art.ans": (b"\x1b[31mwords\n" * 30, "not-a-video"),
        "noise.mp4": (noise, "not-a-video"),
        "zeros.mp4": (bytes(5000), "not-a-video"),
        "nomoov.mp4": (data[:box], "not-a-video"),
        "onlyhead.mp4": (data[:40], "not-a-video"),
    }
    for name, (content, error_class) in inputs.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert error_of(path).error_class == error_class, name
    assert error_of(sound).error_class == "no-video-stream"


def test_a_song_with_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    picture = write_video(
        tmp_path / "cover.png", [1], codec="png", pixel_format="rgb24", container="image2"
    ).read_bytes()
    with av.open(str(path), "w") as output:
        write_silence(output, output.add_stream("mp3", rate=44100), 1)
    text = b"\x00image/png\x00\x03\x00"
    frame = b"APIC" + len(text + picture).to_bytes(4, "big") + b"\x00\x00" + text + picture
    size = len(frame)
    syncsafe = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    body = path.read_bytes()
    if body.startswith(b"ID3"):
        old = sum(byte << shift for byte, shift in zip(body[6:10], (21, 14, 7, 0), strict=True))
        body = body[10 + old :]
    path.write_bytes(b"ID3\x03\x00\x00" + syncsafe + frame + body)
    error = error_of(path)
    assert error.error_class == "unsupported" and "cover" in str(error)


def test_a_video_stream_without_frames(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height = 64, 48
        write_silence(output, output.add_stream("aac", rate=44100), 0.2)
    assert error_of(path).error_class in ("zero-frames", "no-video-stream", "not-a-video")


def test_all_pictures_damaged(tmp_path):
    path = write_video(tmp_path / "a.avi", 10, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for begin, size in places:
        data[begin : begin + size + 8] = bytes(size + 8)
    path.write_bytes(data)
    assert error_of(path).error_class in ("decode", "zero-frames")


def test_special_files_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert error_of(tmp_path / "pipe.mp4").error_class == "not-a-video"
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    assert error_of(tmp_path / "loop.mp4").error_class == "missing"


def test_a_name_that_is_not_utf8(tmp_path):
    os.rename(write_video(tmp_path / "a.mp4", 3), os.fsencode(tmp_path) + b"/b\xff.mp4")
    [path] = tmp_path.iterdir()
    assert read(path)[0] == [0, 1, 2]
    path.write_bytes(b"nothing of use\n" * 100)
    with pytest.raises(VideoError, match="text file") as caught:
        probe_video(path)
    str(caught.value).encode()  # can be printed and stored


def test_an_enormous_size_in_the_header_is_refused_without_memory(tmp_path):
    path = write_video(tmp_path / "a.png", [1], codec="png", pixel_format="rgb24", container="image2")
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(data)
    script = """
        import resource, sys
        from pathlib import Path
        from cluster.frames.video import VideoError, probe_video
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        try:
            probe_video(Path(sys.argv[1]))
        except VideoError as error:
            print(error.error_class)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() in ("unsupported", "decode", "not-a-video"), done.stderr


def test_errors_have_a_known_class():
    with pytest.raises(ValueError, match="odd"):
        VideoError("a.mp4", "odd", "reason")


# Working size


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((1080, 1920), 480, (480, 853)),
        ((1920, 1080), 480, (853, 480)),
        ((480, 854), 480, (480, 854)),
        ((240, 320), 480, (240, 320)),
        ((481, 481), 480, (480, 480)),
        ((720, 1280), 240, (240, 427)),
        ((540, 961), 480, (480, 854)),
        ((2, 5), 1, (1, 3)),
        ((1, 5000), 480, (1, 5000)),
    ],
)
def test_working_size(size, resolution, expected):
    assert working_size(*size, resolution) == expected
    assert all(type(side) is int for side in working_size(np.int64(size[0]), np.int64(size[1]), resolution))


def test_working_size_refuses_nothing():
    for bad in ((0, 5, 10), (5, 5, 0)):
        with pytest.raises(ValueError, match="positive"):
            working_size(*bad)


@pytest.mark.real_clips
def test_a_real_clip_is_the_same_as_images_and_as_video():
    folder = real_clips()
    images, video = folder / "xmem2_chair" / "frames", folder / "videos" / "xmem2_chair.mp4"
    size = working_size(480, 720, 240)
    as_images = dict(FrameReader(images, probe_video(images), size))
    as_video = dict(FrameReader(video, probe_video(video), size))
    assert list(as_images) == list(as_video) == list(range(60))
    for index in (0, 30, 59):
        assert np.abs(as_images[index].astype(int) - as_video[index]).mean() < 6
