"""Cells of a grid of experiments: who is at which, which of them are missing, and where their results are kept.

A cell is an experiment with a seed. It works in a folder that its process holds, and leaves one JSON file. What it is
made of are commands, each of which goes on where it stood. A ``Bench`` says what its cells are; ``run`` is the command
line of all grids that have one.
"""

import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..envs.files import replacing

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


class Failed(Exception):
    """A command of a cell ended with an error; ``args[0]`` is its exit code."""


def command(module: str, *words: str) -> None:
    """Run ``python -m module words``; ``Failed`` unless it ends well."""
    print(" ".join(("python -m", module, *words)), flush=True)
    if code := subprocess.run([sys.executable, "-m", module, *words], check=False).returncode:
        raise Failed(code)


class Bench(Protocol):
    """Where the cells of one grid and one size of model are worked on."""

    @property
    def experiments(self) -> Sequence[str]: ...

    @property
    def seeds(self) -> Sequence[int]: ...

    @property
    def results(self) -> Path:
        """Folder of the results."""
        ...

    def folder(self, experiment: str, seed: int) -> Path:
        """A cell's own."""
        ...

    def result(self, experiment: str, seed: int) -> dict[str, Any]:
        """Make a cell and read what came of it, as plain data."""
        ...

    def write(self) -> str:
        """Write the tables of the cells that are there; the text of them."""
        ...


def run(benches: Mapping[str, Bench], arguments: Sequence[str]) -> int:
    """The command line ``[size=name] [tables | experiment seed]``; the exit code, 0 if it did what was asked.

    Args:
        benches: By size; the first one where none is said.
        arguments: Without any, the next missing cell is run.
    """
    words = list(arguments)
    name = words.pop(0).removeprefix("size=") if words and words[0].startswith("size=") else next(iter(benches))
    if name not in benches:
        return _fail(f"Expected size to be one of {', '.join(benches)}, got {name!r}.")
    bench = benches[name]
    if words == ["tables"]:
        print(bench.write())
        return 0
    if len(words) == 2 and words[0] in bench.experiments and words[1].isdecimal():
        code = _cell(bench, words[0], int(words[1]))
        return 1 if code is None else code
    if words:
        known = ", ".join(bench.experiments)
        return _fail(f"Expected nothing, `tables`, or one of {known} and a seed, got {' '.join(words)}.")
    for experiment, seed in missing(bench.results, bench.experiments, bench.seeds):
        if (code := _cell(bench, experiment, seed)) is not None:
            return code
    print("every cell is there, or somebody is at it")
    return 0


def _cell(bench: Bench, experiment: str, seed: int) -> int | None:
    """Run a cell; its exit code, or ``None`` where somebody else is at it."""
    folder = bench.folder(experiment, seed)
    with claimed(folder) as mine:
        if not mine:
            print(f"somebody is at {experiment} {seed}", file=sys.stderr)
            return None
        print(f"cell {experiment} {seed} in {folder}", flush=True)
        try:
            record = bench.result(experiment, seed)
        except Failed as failure:
            return int(failure.args[0])
        with replacing(path_of(bench.results, experiment, seed)) as partial:
            partial.write_text(json.dumps(record) + "\n")
    bench.write()
    return 0


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1
