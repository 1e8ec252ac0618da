"""Manifest, videos and masks on S3 (moto in server mode): the same rows as on local disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from made_corpus import annotate, read_rows, rows_hash, write_checkpoint, write_corpus
from moto.server import ThreadedMotoServer

BUCKET = "annotate-corpus"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("ACCESS_KEY_ID", "test"),
        ("SECRET_ACCESS_KEY", "very-secret"),
        ("DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    yield f"http://{host}:{port}"
    server.stop()


def test_s3_in_and_out_gives_the_rows_of_local_disk(endpoint: str, tmp_path: Path):
    manifest, checkpoint = write_corpus(tmp_path, videos=2), write_checkpoint(tmp_path)
    local = annotate(manifest, tmp_path / "out", checkpoint)
    assert local.returncode == 0, local.stderr
    s3 = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True)
    s3.mkdir(BUCKET)
    for file in tmp_path.iterdir():
        if file.is_file():
            s3.put_file(str(file), f"{BUCKET}/in/{file.name}")
    urls = (f"s3://{BUCKET}/in/manifest.jsonl", f"s3://{BUCKET}/out", f"s3://{BUCKET}/in/tiny.safetensors")
    remote = annotate(*urls, AWS_ENDPOINT_URL=endpoint)
    assert remote.returncode == 0, remote.stderr
    assert "very-secret" not in remote.stderr + remote.stdout
    assert rows_hash(read_rows(f"{BUCKET}/out/masks", s3)) == rows_hash(read_rows(tmp_path / "out"))
    for plan in s3.find(f"{BUCKET}/out/_run"):
        assert b"very-secret" not in s3.cat_file(plan)
    again = annotate(*urls, AWS_ENDPOINT_URL=endpoint)
    assert again.returncode == 0 and "0 to do" in again.stderr, again.stderr


def test_an_unreachable_bucket_is_refused_with_its_name(endpoint: str, tmp_path: Path):
    manifest, checkpoint = write_corpus(tmp_path, videos=1), write_checkpoint(tmp_path)
    done = annotate(manifest, "s3://no-such-bucket/out", checkpoint, AWS_ENDPOINT_URL=endpoint)
    assert done.returncode == 2 and "no-such-bucket" in done.stderr


def test_storage_that_does_not_answer_may_be_tried_again(endpoint: str, tmp_path: Path):
    """No argument is wrong, and nothing is begun."""
    manifest, checkpoint = write_corpus(tmp_path, videos=1), write_checkpoint(tmp_path)
    for output, more in (("s3://bucket/out", ()), (tmp_path / "out", ("--address", "127.0.0.1:9"))):
        done = annotate(manifest, output, checkpoint, *more, AWS_ENDPOINT_URL="http://127.0.0.1:9")
        assert done.returncode == 4, done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
