"""What storage said, as it may be shown: without anything that opens it."""

import pytest

from cluster.stores.storage_errors import clean


@pytest.mark.parametrize(
    "text",
    [
        "Max retries exceeded with url: /c/blob?sv=2022&sig=SECRETSIG%3D&se=2026",
        "GET /c/blob?sig=SECRETSIG failed",
        "<Url>/c/blob?sv=2022&amp;SIG=SECRETSIG</Url>",
        "/webhdfs/v1/a?op=OPEN&delegation=SECRETSIG",
        "/b/a.mp4?X-Amz-Credential=SECRETSIG&X-Amz-Signature=SECRETSIG",
        "https://user:SECRETSIG@host/a?sig=SECRETSIG",
        "{'account_key': 1, 'secret': 'SECRETSIG'}",
    ],
)
def test_secrets_are_left_out(text):
    assert "SECRETSIG" not in clean(OSError(text))


@pytest.mark.parametrize("text", ["design=wide failed", "a sig and its delegation: both", "redelegation=3"])
def test_words_stay(text):
    assert clean(OSError(text)) == text
