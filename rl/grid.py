"""Cells of a grid of experiments: who is at which, which of them are missing, and where their results are kept.

A cell is an experiment with a seed. It works in a folder that its process holds, and leaves one JSON file.
"""

import fcntl
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Cell = tuple[str, int]
"""Name of an experiment, and a seed."""


def path_of(results: Path, experiment: str, seed: int) -> Path:
    """Where a cell's result is kept."""
    return results / experiment / f"{seed}.json"


def missing(results: Path, experiments: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Cells without a result, the first seed of all experiments first."""
    cells = [(experiment, seed) for seed in seeds for experiment in experiments]
    return [cell for cell in cells if not path_of(results, *cell).exists()]


def children_seconds() -> float:
    """CPU seconds of all subprocesses so far."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


@contextmanager
def claimed(folder: Path, waits: bool = False) -> Iterator[bool]:
    """Whether this process may work in ``folder``: nobody else is at it, or whoever was is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield True
