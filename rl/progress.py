"""Progress: how far a long run is. A bar on a terminal, a plain line per step elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Progress:
    """One plain line per step.

    Args:
        stream: Where to write.
        total: What there is to do, in ``unit``.
        done: How much of it was done before.
        unit: What is counted.
    """

    def __init__(self, stream: TextIO, total: int, done: int = 0, unit: str = "drawings") -> None:
        self.stream, self.total, self.done, self.unit = stream, total, done, unit
        self._begun, self._before = time.perf_counter(), done

    def advance(self, count: int, remark: str) -> None:
        """Another ``count`` are done."""
        self.done += count
        self.show(remark)

    def show(self, remark: str) -> None:
        """Say how far it is."""
        print(f"{self.done}/{self.total} {self.unit}: {remark}, {self.left()}", file=self.stream, flush=True)

    def left(self) -> str:
        """Seconds per unit and the time that is left, in words."""
        seconds = (time.perf_counter() - self._begun) / max(self.done - self._before, 1)
        rest = round(seconds * (self.total - self.done))
        clock = (
            f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}" if rest >= 3600 else f"{rest // 60}:{rest % 60:02}"
        )
        return f"{seconds:.2f} s each, {clock} left"


class Bar(Progress):
    """A bar that stays in its place."""

    def __init__(self, bar: Any, stream: TextIO, total: int, done: int = 0, unit: str = "drawings") -> None:
        super().__init__(stream, total, done, unit)
        self._bar, self._task = bar, bar.add_task(unit, total=total, completed=done, remark="")

    def show(self, remark: str) -> None:
        self._bar.update(self._task, completed=self.done, remark=f"{remark}, {self.left()}")


@contextmanager
def progress(stream: TextIO, total: int, done: int = 0, unit: str = "drawings") -> Iterator[Progress]:
    """The progress that fits ``stream``; a bar needs ``rich``."""
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as RichProgress
        except ImportError:
            pass
        else:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[remark]}"))
            with RichProgress(*columns, console=Console(file=stream)) as bar:
                yield Bar(bar, stream, total, done, unit)
            return
    yield Progress(stream, total, done, unit)
