"""What benches share: their figures are printed beside how fast this machine is at the same moment."""

import time
from collections.abc import Callable

import numpy as np
import pytest


def calibration() -> float:
    """Rounds per second of a loop of plain Python and small NumPy calls, as environment and painter are made of."""
    grid, start = np.arange(48 * 48 * 3, dtype=np.float32), time.process_time()
    for k in range(2000):
        float((grid * (k % 7)).sum())
        sum(range(200))
    return 2000 / (time.process_time() - start)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Prints a figure, what is wanted of it, and the calibration."""

    def say(figure: str, wanted: str = "") -> None:
        with capsys.disabled():
            print(f"\n{figure} ({f'wanted {wanted}; ' if wanted else ''}calibration {calibration():,.0f})")

    return say
