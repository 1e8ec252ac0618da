"""One thread for torch: the tests share their cores, and a fixed thread count makes sums repeat bit by bit.

Every test draws the same random numbers, whichever tests the process has run before: files are shared out by time.
"""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before fixtures of any scope are made."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
