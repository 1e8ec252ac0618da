"""The publish protocol on local disk, S3 (moto) and memory: whole files, once, whatever dies."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_corpus import ROOT

from cluster.stores import object_publish, posix_publish
from cluster.stores.storage import Storage


@pytest.fixture(params=["local", "file", "s3", "memory", "no-links"])
def storage(request, tmp_path, monkeypatch):
    if request.param == "s3":
        url, options = request.getfixturevalue("s3")
        return Storage(f"{url}/out", options)
    if request.param == "no-links":

        def refuse(source, target):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(posix_publish.os, "link", refuse)
    prefix = {"file": "file://", "memory": "memory:/"}.get(request.param, "")
    return Storage(f"{prefix}{tmp_path}/out")


def test_probe_says_in_one_line_what_the_storage_can_do(storage):
    probe = storage.probe()
    assert probe.message.startswith(storage.url) and "\n" not in probe.message
    assert probe.shared == (probe.kind != "memory")
    if probe.kind == "local":
        assert probe.exclusive == ("hard link" in probe.message and "no hard links" not in probe.message)
    else:
        assert probe.exclusive
    assert storage.list() == {} and storage.list("_run/tmp") == {}


@pytest.mark.parametrize("as_file", [False, True])
def test_publish_is_created_then_same_then_replaced(storage, tmp_path, as_file):
    def finished(data):
        if not as_file:
            return data
        path = tmp_path / "finished"
        path.write_bytes(data)
        return path

    first, second = b"a" * 1000, b"b" * 2000
    done = storage.publish("masks/u.parquet", finished(first))
    assert (done.outcome, done.size, done.sha256) == ("created", 1000, hashlib.sha256(first).hexdigest())
    assert storage.publish("masks/u.parquet", finished(first)).outcome == "same"
    assert storage.publish("masks/u.parquet", finished(second)).outcome == "replaced"
    assert storage.read("masks/u.parquet") == second
    assert storage.list("masks") == {"masks/u.parquet": 2000}
    assert storage.list("_run/tmp") == {}
    assert not as_file or (tmp_path / "finished").exists()


def test_reading_listing_and_deleting(storage):
    storage.publish("masks/b.parquet", b"12")
    storage.publish("masks/a.parquet", b"1")
    storage.publish("masks2/c.parquet", b"")
    assert list(storage.list("masks")) == ["masks/a.parquet", "masks/b.parquet"]
    assert storage.list("masks/") == storage.list("masks")
    assert storage.list() == {"masks/a.parquet": 1, "masks/b.parquet": 2, "masks2/c.parquet": 0}
    assert storage.list("nothing") == {}
    assert storage.exists("masks/a.parquet") and not storage.exists("masks/z") and not storage.exists("masks")
    with storage.open_input("masks/b.parquet") as file:
        file.seek(1)
        assert file.read() == b"2"
    storage.delete("masks/b.parquet")
    storage.delete("masks/b.parquet")
    assert not storage.exists("masks/b.parquet")
    with pytest.raises(FileNotFoundError, match="masks/b.parquet"):
        storage.read("masks/b.parquet")


def test_listing_shows_what_another_client_wrote(storage):
    other = pickle.loads(pickle.dumps(storage))
    storage.publish("a/1", b"1")
    assert list(storage.list("a")) == ["a/1"]
    other.publish("a/2", b"2")
    assert list(storage.list("a")) == ["a/1", "a/2"] and storage.exists("a/2")


def test_first_writer_wins_create(storage):
    assert storage.create("_run/config.json", b"first")
    assert not storage.create("_run/config.json", b"second")
    assert storage.read("_run/config.json") == b"first"


def test_only_one_of_many_writers_creates(storage):
    if not storage.probe().exclusive:
        pytest.skip("without hard links two writers of the same instant may both succeed, as documented")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: storage.create("lock", str(number).encode()), range(8)))
    assert sum(made) == 1
    assert storage.read("lock") == str(made.index(True)).encode()


def test_a_published_parquet_file_reads_from_the_storage(storage, tmp_path):
    table = pa.table({"a": list(range(100))})
    pq.write_table(table, tmp_path / "x.parquet")
    storage.publish("t/x.parquet", tmp_path / "x.parquet")
    with storage.open_input("t/x.parquet") as file:
        assert pq.ParquetFile(file).read().equals(table)


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a//b", "a/", "a\\b", "./a", "a\0b"])
def test_names_stay_inside_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="inside the output folder"):
        Storage(str(tmp_path)).publish(name, b"")


def test_relative_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = Storage("out")
    monkeypatch.chdir("/")
    storage.publish("a", b"1")
    assert (tmp_path / "out/a").read_bytes() == b"1" and storage.url == str(tmp_path / "out")


def test_no_credentials_in_texts():
    storage = Storage("memory://user:secret@host/out?token=secret", {"password": "secret"})
    assert "secret" not in repr(storage) + storage.url + str(storage)
    with pytest.raises(FileNotFoundError) as caught:
        storage.read("a")
    assert "secret" not in str(caught.value)


def test_a_forked_child_has_its_own_connection(s3):
    storage = Storage(f"{s3[0]}/out", s3[1])
    storage.publish("a", b"parent")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=storage.publish, args=("b", b"child"))
    child.start()
    child.join(30)
    assert child.exitcode == 0 and storage.read("b") == b"child"


def test_memory_is_seen_by_one_process_only(tmp_path):
    storage = Storage(f"memory:/{tmp_path}")
    storage.publish("a", b"1")
    code = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).exists('a'))"
    found = subprocess.run([sys.executable, "-c", code, pickle.dumps(storage).hex()], capture_output=True, text=True)
    assert found.stdout.strip() == "False" and not storage.probe().shared


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from cluster.stores import posix_publish
from cluster.stores.storage import Storage

stage, out, data = sys.argv[1:4]
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
if stage == "writing":
    def slow(data):
        yield b"x" * 1000
        die()
    posix_publish.blocks = slow
elif stage == "synced":
    posix_publish.os.link = die
elif stage == "linked":
    posix_publish._sync_folder = die
    Path.unlink = die
Storage(out).publish("masks/u.parquet", Path(data))
"""


@pytest.mark.parametrize(("stage", "visible"), [("writing", False), ("synced", False), ("linked", True)])
def test_sigkill_in_a_publish_leaves_nothing_or_everything_and_the_retry_succeeds(tmp_path, stage, visible):
    data = tmp_path / "data"
    data.write_bytes(os.urandom(300_000))
    out = tmp_path / "out"
    found = subprocess.run([sys.executable, "-c", KILLED, stage, str(out), str(data)], cwd=ROOT, timeout=60)
    assert found.returncode == -signal.SIGKILL
    storage = Storage(str(out))
    assert storage.list() == ({"masks/u.parquet": 300_000} if visible else {})
    assert len(storage.list("_run/tmp")) == 1
    assert storage.publish("masks/u.parquet", data).outcome == ("same" if visible else "created")
    assert storage.read("masks/u.parquet") == data.read_bytes()


UPLOAD = """
import sys
from pathlib import Path
from cluster.stores.storage import Storage
storage = Storage(sys.argv[1], {"endpoint_url": sys.argv[2]})
print("ready", flush=True)
storage.publish("masks/u.parquet", Path(sys.argv[3]))
print("done", flush=True)
"""


def test_sigkill_in_a_large_upload_leaves_nothing_and_the_retry_succeeds(s3, tmp_path, monkeypatch):
    """Multipart upload of 160 MB, killed when the server has received parts of it."""
    data = tmp_path / "data"
    with open(data, "wb") as file:
        file.truncate(160 << 20)
    url, options = s3
    storage = Storage(url, options)
    command = [sys.executable, "-c", UPLOAD, url, options["endpoint_url"], str(data)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    bucket = url.removeprefix("s3://")
    for _ in range(3000):
        uploads = storage._fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", [])
        if uploads:
            break
        time.sleep(0.01)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    assert uploads and storage.list() == {} and not storage.exists("masks/u.parquet")
    assert storage.publish("masks/u.parquet", data).outcome == "created"
    assert storage.list() == {"masks/u.parquet": 160 << 20}


def test_an_exception_while_a_shard_is_written_publishes_nothing(storage, tmp_path):
    """A Parquet writer closes cleanly on an exception and leaves a valid, short file: only finished files are given."""
    path = tmp_path / "shard.parquet"
    with pytest.raises(RuntimeError, match="decoder"):
        with pq.ParquetWriter(path, pa.schema([("a", pa.int64())])) as writer:
            writer.write_table(pa.table({"a": [1]}))
            raise RuntimeError("decoder")
    assert pq.read_table(path).num_rows == 1  # the trap is real
    assert storage.list() == {}


def test_two_writers_that_meet_are_told(storage, monkeypatch):
    """Both see the name free, and write; one is told that it replaced the other's bytes, or that they are equal."""
    exclusive = storage.probe().exclusive
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:

        def write(data):
            barrier.wait()
            return storage.publish("masks/u", data).outcome

        outcomes = sorted(pool.map(write, [b"1" * 9, b"1" * 9]))
    assert outcomes == ["created", "same"] or (not exclusive and outcomes == ["created", "created"])
    assert storage.read("masks/u") == b"1" * 9


def test_a_file_is_published_without_reading_it_whole(tmp_path):
    path = tmp_path / "data"
    with open(path, "wb") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    done = Storage(str(tmp_path / "out")).publish("a", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.size == 200 << 20 and peak < 40 << 20


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(posix_publish.os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full.*Free some space"):
        storage.publish("masks/a", b"1")
    assert storage.list() == {} and storage.list("_run/tmp") == {}


def test_stale_temporary_files_are_swept_by_the_probe(tmp_path):
    folder = tmp_path / "_run/tmp"
    folder.mkdir(parents=True)
    (folder / "old").write_bytes(b"1")
    (folder / "new").write_bytes(b"1")
    os.utime(folder / "old", (time.time() - 2 * 86400,) * 2)
    probe = Storage(str(tmp_path)).probe()
    assert probe.swept == 1 and "removed 1" in probe.message
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_a_store_without_exclusive_create_is_noticed_and_used(s3, monkeypatch):
    """Some S3-compatible stores ignore If-None-Match, some refuse it: both still publish exactly once."""
    storage = Storage(f"{s3[0]}/ignoring", s3[1])
    put = object_publish.ObjectPublisher._put
    monkeypatch.setattr(object_publish.ObjectPublisher, "_put", lambda self, path, data, **mode: put(self, path, data))
    probe = storage.probe()
    assert not probe.exclusive and "no exclusive create" in probe.message
    storage = pickle.loads(pickle.dumps(storage))
    assert [storage.publish("a", data).outcome for data in (b"1", b"1", b"2")] == ["created", "same", "replaced"]

    def refuse(self, path, data, **mode):
        if mode:
            raise OSError(38, "A header you provided implies functionality that is not implemented")
        put(self, path, data)

    monkeypatch.setattr(object_publish.ObjectPublisher, "_put", refuse)
    storage = Storage(f"{s3[0]}/refusing", s3[1])
    assert [storage.publish("a", data).outcome for data in (b"1", b"1", b"2")] == ["created", "same", "replaced"]
    assert not storage.probe().exclusive


def test_another_backend_goes_by_rename(tmp_path):
    """A backend that is neither disk nor object store never shows a growing file under its final name."""
    storage = Storage("dir://out", {"target_protocol": "file", "path": str(tmp_path)})
    probe = storage.probe()
    assert probe.kind == "other" and not probe.exclusive
    assert [storage.publish("m/a", data).outcome for data in (b"1", b"1", b"2")] == ["created", "same", "replaced"]
    assert storage.read("m/a") == b"2" and storage.list() == {"m/a": 1}


def test_errors_name_the_url_and_the_remedy(s3, tmp_path, monkeypatch):
    url, options = s3
    with pytest.raises(FileNotFoundError, match="s3://no-such-bucket-at-all/out .*bucket does not exist.*Create it"):
        Storage("s3://no-such-bucket-at-all/out", options).probe()
    with pytest.raises(OSError, match="Write s3://bucket/out"):
        Storage("s3:/bucket/out")
    with pytest.raises(OSError, match="names no bucket"):
        Storage("s3://")
    with pytest.raises(OSError, match="foo:// is not known"):
        Storage("foo://x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="a file and a folder are mixed up"):
        Storage(str(tmp_path / "file")).probe()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(PermissionError, match="no credentials were found.*AWS_ACCESS_KEY_ID"):
        Storage(f"{url}/out", options).probe()


def test_a_lost_connection_is_not_a_missing_file(s3, monkeypatch):
    """`exists` decides what a resume does again: it must not say no where it could not look."""
    storage = Storage(f"{s3[0]}/out", s3[1])

    def lost(path, **kwargs):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(storage._fs, "info", lost)
    with pytest.raises(OSError, match="cannot be read: the storage cannot be reached"):
        storage.exists("_run/config.json")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="Check owner and mode"):
        Storage(str(tmp_path / "out")).probe()


def test_reports_are_kept_out_of_the_tables(storage, tmp_path, monkeypatch):
    """By full URLs, by paths that go round, and by relative ones."""
    monkeypatch.chdir(tmp_path)
    near = [f"{storage.url}/report.html", f"{storage.url}/masks.html", f"{storage.url}/masks2/report.html"]
    for url in near:
        storage.keep_out(url, ("masks", "_run/banks"))
    among = [f"{storage.url}/masks/report.html", f"{storage.url}/_run/banks/a/report.html", f"{storage.url}/masks"]
    if storage.local:
        among += ["out/masks/r.html", f"file://{tmp_path}/out/masks/r.html", f"{tmp_path}/out/videos/../masks/r.html"]
    for url in among:
        with pytest.raises(ValueError, match="lies among the files of the table"):
            storage.keep_out(url, ("masks", "_run/banks"))


def test_whether_a_url_lies_in_the_output(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.holds(storage.url) and storage.holds(f"{storage.url}/") and storage.holds(f"{storage.url}/a/b")
    assert storage.holds(f"{storage.url}/masks/a", "masks") and not storage.holds(f"{storage.url}/masks", "videos")
    for other in (f"{storage.url}-2", storage.url.rsplit("/", 1)[0], "s3://elsewhere/out", "memory://elsewhere"):
        assert not storage.holds(other)
    if storage.local:
        (tmp_path / "link").symlink_to(storage.url)
        assert storage.holds("out/davis") and storage.holds(str(tmp_path / "link" / "davis"))
