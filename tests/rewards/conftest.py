"""Judges, and the truth they are held against."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `truthful` and `truth`, which runs by hand import too

from truthful import Truthful

from strokes.rewards.judge import JudgeClient


@pytest.fixture
def server() -> Iterator[Truthful]:
    with Truthful() as truthful:
        yield truthful


@pytest.fixture
def judge(server: Truthful) -> Iterator[Callable[..., JudgeClient]]:
    """Makes clients of the server, by changes of its settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(JudgeClient(server.settings(**changes)))
