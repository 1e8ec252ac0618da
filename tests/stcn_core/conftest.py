"""Fixtures of the core's tests."""

import made_memory
import pytest


@pytest.fixture
def everything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every readable element has some weight: keys of one frame are small. With a top-k of READ_ALL."""
    monkeypatch.setattr(made_memory, "_small", True)
