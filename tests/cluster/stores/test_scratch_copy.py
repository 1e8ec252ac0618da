"""Copies from remote storage: told of piece by piece, never of two versions, whatever fsspec's own copying does."""

import os
import threading

import aiohttp
import fsspec
import pytest
from fsspec.config import conf
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.registry import _registry
from made_servers import ftp_server, serving, web_server

from cluster.stores.remote import connect
from cluster.stores.scratch_copy import BLOCK_BYTES, SFTP_REQUESTS, copy_file

SMALL_PARTS = {"default_block_size": 5 << 20}  # s3fs then fetches 40 MB at a time by itself


@pytest.fixture
def bucket(s3):
    """(file system, path in it)."""
    url, options = s3
    return fsspec.core.url_to_fs(f"{url}/a.mp4", **options, **SMALL_PARTS)


def test_an_s3_object_is_told_of_block_by_block(bucket, tmp_path):
    fs, path = bucket
    data, seen = os.urandom(1 << 20) * 30, []
    fs.pipe_file(path, data)
    copy_file(fs, path, tmp_path / "a.mp4", len(data), seen.append)
    assert (tmp_path / "a.mp4").read_bytes() == data
    assert sum(seen) == len(data) and len(seen) == 4 and max(seen) == BLOCK_BYTES


def test_a_small_object_is_one_request(bucket, tmp_path, monkeypatch):
    """An open file asks for its size first; a folder of images would take twice as long."""
    fs, path = bucket
    fs.pipe_file(path, b"a" * 1000)
    asked, call = [], fs._call_s3
    monkeypatch.setattr(fs, "_call_s3", lambda name, *a, **more: asked.append(name) or call(name, *a, **more))
    seen = []
    copy_file(fs, path, tmp_path / "a.png", 1000, seen.append)
    assert asked == ["get_object"] and sum(seen) == 1000 and (tmp_path / "a.png").stat().st_size == 1000


def test_an_s3_object_that_is_replaced_while_it_is_copied_is_never_mixed(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.stores.scratch_copy.time.sleep", lambda seconds: None)
    fs, path = bucket
    before, after = b"a" * (3 * BLOCK_BYTES), b"b" * (3 * BLOCK_BYTES)
    fs.pipe_file(path, before)
    told = []

    def replace_it(count):
        told.append(count)
        if len(told) == 1:
            fs.pipe_file(path, after)

    copy_file(fs, path, tmp_path / "a.mp4", len(before), replace_it)
    assert (tmp_path / "a.mp4").read_bytes() == after and len(told) > 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_an_s3_object_of_another_size_than_listed_is_an_error(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.stores.scratch_copy.time.sleep", lambda seconds: None)
    fs, path = bucket
    fs.pipe_file(path, b"a" * 1000)
    with pytest.raises(OSError, match="1000 bytes arrived of 999"):
        copy_file(fs, path, tmp_path / "a.mp4", 999)
    assert list(tmp_path.iterdir()) == []
    copy_file(fs, path, tmp_path / "a.mp4", None)
    assert (tmp_path / "a.mp4").stat().st_size == 1000


def test_sftp_asks_for_all_of_a_file_and_tells_of_its_blocks(tmp_path, monkeypatch):
    asked, seen, size = [], [], 2 * BLOCK_BYTES + 1

    class SftpFile(MemoryFile):
        def prefetch(self, size, requests):
            asked.append((size, requests))

    class Sftp(MemoryFileSystem):
        """As fsspec's: what it is given goes to the login, which takes nothing but its own."""

        protocol = ("sftp", "ssh")
        store, pseudo_dirs = {}, [""]
        _get_kwargs_from_urls = staticmethod(lambda url: {"host": "host"})

        def __init__(self, host):
            super().__init__()

        def get_file(self, path, target, **kwargs):
            raise AssertionError("it says nothing while it copies")

    monkeypatch.setitem(_registry, "sftp", Sftp)
    fs, path = connect("sftp://host/a.mp4")
    fs.store[path] = SftpFile(fs, path, b"x" * size)
    copy_file(fs, path, tmp_path / "a.mp4", size, seen.append)
    assert (tmp_path / "a.mp4").stat().st_size == size and asked == [(size, SFTP_REQUESTS)]
    assert seen == [BLOCK_BYTES, BLOCK_BYTES, 1]


def test_ftp_is_one_transfer_and_tells_of_its_pieces(tmp_path):
    data, seen = os.urandom(20 << 20), []
    with serving(ftp_server({"a.mp4": data})) as port:
        fs, path = fsspec.core.url_to_fs(f"ftp://127.0.0.1:{port}/a.mp4", skip_instance_cache=True)
        assert fs.info(path)["size"] == len(data)
        copy_file(fs, path, tmp_path / "a.mp4", len(data), seen.append)
    assert (tmp_path / "a.mp4").read_bytes() == data and sum(seen) == len(data) and len(seen) > 1


@pytest.fixture
def slow_web():
    """URL of a video that takes a second, from a server that knows no ranges."""
    pause = threading.Event()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(20 << 20))
        request.end_headers()
        for _ in range(20 if request.command == "GET" else 0):
            request.wfile.write(b"x" * (1 << 20))
            pause.wait(0.05)

    with serving(web_server(answer)) as port:
        yield f"http://127.0.0.1:{port}/a.mp4"


def test_a_web_server_without_ranges_may_take_its_time(slow_web, tmp_path, monkeypatch):
    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=0.5))
    seen = []
    fs, path = connect(slow_web, {"skip_instance_cache": True})
    copy_file(fs, path, tmp_path / "a.mp4", 20 << 20, seen.append)
    assert (tmp_path / "a.mp4").stat().st_size == sum(seen) == 20 << 20 and len(seen) >= 5


@pytest.mark.parametrize("where", ["options", "configuration"])
def test_a_time_limit_that_is_asked_for_counts(slow_web, tmp_path, monkeypatch, where):
    monkeypatch.setattr("cluster.stores.scratch_copy.time.sleep", lambda seconds: None)
    limit = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=0.2)}}
    if where == "configuration":
        monkeypatch.setitem(conf, "http", limit)
    fs, path = connect(slow_web, {"skip_instance_cache": True} | (limit if where == "options" else {}))
    with pytest.raises(TimeoutError):
        copy_file(fs, path, tmp_path / "a.mp4", 20 << 20)
