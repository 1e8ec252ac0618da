"""One thread for torch: the tests share their cores, and a fixed thread count makes sums repeat bit by bit."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
