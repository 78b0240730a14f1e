"""Models of a few thousand weights gain nothing from threads, and on a busy machine they wait for each other."""

import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Let torch use one thread, where a test of this session has imported it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
