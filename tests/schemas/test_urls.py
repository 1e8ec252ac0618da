"""URLs as they are shown: all that tells them apart, nothing that opens them."""

import pytest

from schemas.urls import parent, public_url, stem, uncached

ACCOUNT = "account.dfs.core.windows.net"


@pytest.mark.parametrize("scheme", ["abfs", "abfss", "az", "wasbs", "ABFSS"])
def test_an_azure_container_is_no_login(scheme):
    url = f"{scheme}://container@{ACCOUNT}/out/a.mp4"
    assert public_url(url) == url
    assert public_url(f"{url}?sig=secret") == url
    assert public_url(f"'{url}' and {url}: gone") == f"'{url}' and {url}: gone"
    assert public_url(f"zip://a.mp4::{url}") == f"zip://a.mp4::{url}"
    assert (parent(url), stem(url)) == (f"{scheme}://container@{ACCOUNT}/out", "a")


@pytest.mark.parametrize(
    "url",
    ["abfs://user:secret@host/a", "abfs://user:p@secret@host/a", "abfs://secret@word@host/a", "abfs://:secret@host/a"],
)
def test_a_password_in_an_azure_url_is_one(url):
    assert public_url(url) == "abfs://host/a"


@pytest.mark.parametrize("scheme", ["https", "s3", "sftp", "xabfs", "not-abfs"])
def test_other_logins_are_left_out(scheme):
    assert (
        public_url(f"{scheme}://secret@host/a and {scheme}://user:secret@host/b")
        == f"{scheme}://host/a and {scheme}://host/b"
    )
    assert public_url("/a@b/c.mp4") == "/a@b/c.mp4"


def test_sftp_is_told_nothing_of_listings():
    """Its file system hands every option that it does not know on to the login, which fails."""
    assert uncached("sftp://host/out") == {} and uncached("ssh://host/out") == {}
    assert uncached("s3://bucket/out") == uncached("/out") == {"use_listings_cache": False}
