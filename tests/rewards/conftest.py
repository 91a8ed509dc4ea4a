"""Judges, and the truth they are held against."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `truthful` and `truth`, which runs by hand import too

from truthful import Truthful


@pytest.fixture
def server() -> Iterator[Truthful]:
    with Truthful() as truthful:
        yield truthful
