"""Observers: generations as a person sees them, samples on the terminal and filmstrips of the best and the worst."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from ..agents.trajectory import Trajectory
from ..envs.report import write_report


def _ranked(trajectories: Sequence[Trajectory]) -> list[int]:
    """Numbers of the judged ones, the best first."""
    totals = {k: t.score.total for k, t in enumerate(trajectories) if t.score and t.score.total is not None}
    return sorted(totals, key=lambda k: -totals[k])  # type: ignore[operator]


class SampleTable:
    """The best and the worst drawings of a generation, a line each; a table where ``rich`` has a terminal."""

    def __init__(self, every: int, num: int = 4, stream: TextIO = sys.stdout) -> None:
        """Args:

        every: Optimizer steps between two tables.
        num: Drawings in one.
        stream: Where to.
        """
        self.every, self.num, self.stream = every, num, stream

    def on_rollouts(
        self, step: int, trajectories: Sequence[Trajectory], credits: Sequence[np.ndarray]
    ) -> Mapping[str, float]:
        """Print every so many steps."""
        ranked = _ranked(trajectories)
        if step % self.every or not ranked:
            return {}
        half = max(1, self.num // 2)
        rows = [_row(trajectories[k], credits[k]) for k in [*ranked[:half], *ranked[half:][-half:]]]
        if self.stream.isatty():
            self._table(step, rows)
        else:
            for row in rows:
                print("  ".join(row), file=self.stream, flush=True)
        return {}

    def _table(self, step: int, rows: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.table import Table

        table = Table("reward", "advantages", "images", "prompt", "words", title=f"step {step}: the best and the worst")
        for row in rows:
            table.add_row(*row)
        Console(file=self.stream).print(table)


def _row(trajectory: Trajectory, credit: np.ndarray) -> list[str]:
    transcript = trajectory.transcript
    words = " / ".join(str(entry.content) for entry in transcript.emissions if isinstance(entry.content, str))
    total = trajectory.score.total if trajectory.score else None
    advantages = " ".join(f"{value:+.1f}" for value in credit)
    return [f"{total:.2f}", advantages, str(len(transcript.images)), transcript.prompt, words[:160]]


class Filmstrips:
    """One page of the best and the worst drawings, every so many steps."""

    def __init__(self, folder: str | Path, every: int, num: int = 4) -> None:
        """Args:

        folder: Gets ``<step>.html``, the step with six digits.
        every: Optimizer steps between two pages.
        num: Drawings of each kind.
        """
        self.folder, self.every, self.num = Path(folder), every, num

    def on_rollouts(
        self, step: int, trajectories: Sequence[Trajectory], credits: Sequence[np.ndarray]
    ) -> Mapping[str, float]:
        """Write a page every so many steps."""
        ranked = _ranked(trajectories)
        if step % self.every or not ranked:
            return {}
        chosen = [*ranked[: self.num], *ranked[self.num :][-self.num :]]
        write_report(
            [trajectories[k].transcript for k in chosen],
            self.folder / f"{step:06d}.html",
            title=f"Step {step}: the best and the worst drawings",
            costs=[trajectories[k].cost for k in chosen],
        )
        return {}
