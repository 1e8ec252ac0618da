"""Input on local disk, memory and S3 (moto): looked up, copied, read."""

import functools
import http.server
import io
import os
import threading

import fsspec
import pytest
from made_servers import serving, web_server

from cluster.source_stats import NOTHING, stat_all
from cluster.stores.source import SourceStat, fetch_source, read_source, stat_source


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    """(write(name, data), url of the folder, options)."""
    if request.param == "local":
        root, options = str(tmp_path / "in"), {}
    elif request.param == "memory":
        root, options = f"memory:/{tmp_path}/in", {}
    else:
        url, options = request.getfixturevalue("s3")
        root = f"{url}/in"

    def write(name, data):
        fs, path = fsspec.core.url_to_fs(f"{root}/{name}", **options)
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, data)

    return write, root, options


def test_version_changes_with_the_contents(place):
    write, root, options = place
    write("a.mp4", b"1234")
    first = stat_source(f"{root}/a.mp4", options)
    assert (first.exists, first.is_dir, first.size) == (True, False, 4) and first.version
    assert stat_source(f"{root}/a.mp4", options) == first
    write("a.mp4", b"5678")
    assert stat_source(f"{root}/a.mp4", options).version != first.version


def test_a_folder_has_the_sum_and_a_version_of_its_listing(place):
    write, root, options = place
    write("clip/1.jpg", b"12")
    write("clip/2.jpg", b"345")
    first = stat_source(f"{root}/clip", options)
    assert (first.exists, first.is_dir, first.size) == (True, True, 5)
    assert stat_source(f"{root}/clip/", options) == first
    write("clip/3.jpg", b"")
    assert stat_source(f"{root}/clip", options).version != first.version


def test_a_missing_source_is_an_answer(place):
    write, root, options = place
    write("a", b"")
    assert stat_source(f"{root}/b.mp4", options) == SourceStat(False, False, None, None)
    assert stat_source(f"{root}/a/b.mp4", options).exists is False


def test_fetching_gives_the_same_bytes(place, tmp_path):
    write, root, options = place
    data = os.urandom(100_000)
    write("a b.mp4", data)
    scratch, seen = tmp_path / "scratch", []
    path = fetch_source(f"{root}/a b.mp4", scratch, options, progress=seen.append)
    assert path.read_bytes() == data == read_source(f"{root}/a b.mp4", options)
    assert path.suffix == ".mp4"
    if scratch.exists():
        assert [p.name for p in scratch.iterdir()] == ["a_b.mp4"] and sum(seen) == len(data)
    else:
        assert str(path) == f"{root}/a b.mp4"


def test_fetching_a_folder_brings_its_images_only(place, tmp_path):
    write, root, options = place
    for number in range(12):
        write(f"clip/{number:05d}.jpg", bytes([number]) * (number + 1))
    write("clip/notes.txt", b"no")
    write("clip/sub/00001.jpg", b"no")
    path = fetch_source(f"{root}/clip", tmp_path / "scratch", options)
    images = sorted(p for p in path.iterdir() if p.suffix == ".jpg")
    assert path.name == "clip" and [p.name for p in images] == [f"{n:05d}.jpg" for n in range(12)]
    assert images[7].read_bytes() == bytes([7]) * 8
    if root.startswith(("s3", "memory")):
        assert not (path / "notes.txt").exists() and not (path / "sub").exists()


def test_missing_files_are_named(place, tmp_path):
    write, root, options = place
    write("a", b"")
    with pytest.raises(FileNotFoundError, match="nope.png cannot be read"):
        read_source(f"{root}/nope.png", options)
    if not root.startswith("/"):
        with pytest.raises(FileNotFoundError, match="nope.mp4 cannot be read"):
            fetch_source(f"{root}/nope.mp4", tmp_path, options)


def test_a_copy_that_breaks_off_is_tried_again_and_never_taken_for_the_file(tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    url = "memory://breaking"
    fsspec.filesystem("memory").pipe_file("/breaking/a.mp4", b"x" * 1000)
    true_open, calls = MemoryFileSystem._open, []

    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise ConnectionResetError("reset by peer")
            return super().read(400)

    def breaking(self, path, **kwargs):
        calls.append(path)
        wrong = {1: Broken(b"x" * 1000), 2: io.BytesIO(b"x" * 400)}
        return wrong.get(len(calls)) or true_open(self, path, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "_open", breaking)
    monkeypatch.setattr("cluster.stores.scratch_copy.time.sleep", lambda seconds: None)
    path = fetch_source(f"{url}/a.mp4", tmp_path / "s")
    assert len(calls) == 3 and path.read_bytes() == b"x" * 1000
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["a.mp4"]

    monkeypatch.setattr(MemoryFileSystem, "_open", lambda self, path, **kwargs: io.BytesIO(b"x" * 400))
    with pytest.raises(OSError, match="400 bytes arrived of 1000"):
        fetch_source(f"{url}/a.mp4", tmp_path / "t")
    assert list((tmp_path / "t").iterdir()) == []


def test_a_source_larger_than_the_scratch_disk_is_said_before_copying(tmp_path, monkeypatch):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/large/a.mp4", b"x" * 1000)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("cluster.stores.source.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="1000 bytes, the scratch disk .* only 10 free; set TMPDIR"):
        fetch_source("memory://large/a.mp4", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_access_is_an_error_and_not_a_missing_video(s3, monkeypatch):
    url, options = s3
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fresh = options | {"skip_instance_cache": True}
    with pytest.raises(PermissionError, match="no credentials were found"):
        stat_source(f"{url}/a.mp4", fresh)


def test_credentials_never_reach_a_message(tmp_path):
    with pytest.raises(OSError) as caught:
        read_source("https://user:hunter2@127.0.0.1:9/a.mp4?sig=hunter2")
    assert "hunter2" not in str(caught.value) and "127.0.0.1:9/a.mp4" in str(caught.value)
    with pytest.raises(OSError, match="nofs:// is not known"):
        fetch_source("nofs://host/a.mp4", tmp_path)


@pytest.fixture
def web(tmp_path):
    """URL of a plain HTTP server on a folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_video_behind_a_signed_http_url(web, tmp_path):
    folder, url = web
    data = os.urandom(300_000)
    (folder / "a.mp4").write_bytes(data)
    signed = f"{url}/a.mp4?sig=hunter2"
    found = stat_source(signed)
    assert (found.exists, found.is_dir, found.size) == (True, False, len(data))
    path = fetch_source(signed, tmp_path / "scratch")
    assert path.name == "a.mp4" and path.read_bytes() == data == read_source(signed)
    assert stat_source(f"{url}/b.mp4").exists is False
    with pytest.raises(FileNotFoundError, match="b.mp4 cannot be read") as caught:
        fetch_source(f"{url}/b.mp4?sig=hunter2", tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (503, ConnectionError, "the server answers 503"),
        (429, ConnectionError, "the server answers 429"),
        (403, PermissionError, "access is denied"),
        (401, PermissionError, "access is denied"),
        (404, FileNotFoundError, "it does not exist"),
        (410, FileNotFoundError, "it does not exist"),
    ],
)
def test_what_a_web_server_refuses_is_not_missing(status, kind, words, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.source_stats.LOOK_AGAIN_SECONDS", (0.0, 0.0, 0.0))
    asked = []

    def refuse(request):
        asked.append(request.command)
        request.send_error(status)

    with serving(web_server(refuse)) as port:
        url = f"http://127.0.0.1:{port}/a.mp4"
        for look in (stat_source, read_source, lambda url: fetch_source(url, tmp_path)):
            if look is stat_source and kind is FileNotFoundError:
                assert stat_source(url) == NOTHING
                continue
            with pytest.raises(kind, match=words) as caught:
                look(url)
            assert url in str(caught.value)
        asked.clear()
        if kind is FileNotFoundError:
            assert stat_all([url], {}) == {url: NOTHING}
        else:
            with pytest.raises(kind):
                stat_all([url], {})
        assert asked.count("GET") == (3 if kind is ConnectionError else 1)


def test_a_moments_outage_of_a_web_server_is_waited_for(monkeypatch):
    monkeypatch.setattr("cluster.source_stats.LOOK_AGAIN_SECONDS", (0.0, 0.0, 0.0))
    asked = []

    def answer(request):
        asked.append(request.command)
        request.send_response(200 if len(asked) > 2 else 503)
        request.send_header("Content-Length", "7")
        request.end_headers()

    with serving(web_server(answer)) as port:
        url = f"http://127.0.0.1:{port}/a.mp4"
        assert stat_all([url], {})[url].size == 7


def test_a_web_server_that_is_not_there_and_a_wrong_option_are_not_missing():
    with pytest.raises(ConnectionError, match="cannot be reached"):
        stat_source("http://127.0.0.1:9/a.mp4")
    with pytest.raises(OSError, match="unexpected keyword argument 'anon'.*Check the URL and the storage options"):
        stat_source("http://127.0.0.1:9/a.mp4", {"anon": True})
