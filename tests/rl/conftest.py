"""Runs of ``strokes-rl`` on the smallest shipped model."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from strokes.rl.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))  # for `small`, which processes started by tests import too

from small import settings


@pytest.fixture
def small() -> Callable[..., Settings]:
    return settings
