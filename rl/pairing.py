"""Pairing: two evaluations of the same prompts and seeds, drawing against drawing.

Both sides draw every prompt with the same noise seeds, so that what is left between them is the policy. Intervals
are those of ``rewards.summary.compare``: whole prompts are drawn with replacement, task by task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..rewards.interval import Interval
from ..rewards.summary import METRICS, Comparison, compare
from .drawings import Drawing
from .evaluation_folder import EvaluationFolder

HARD = ("position", "color_attr", "composition")
"""Relations and bound colours: where drawing in strokes is meant to win."""
SAME = ("benchmark.name", "split", "size")
"""Settings without which two evaluations say nothing about each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two evaluations."""

    folder: str
    policy: str
    drawings: int
    steps: float
    """Mean sampling steps per drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The differences of two evaluations, first minus second."""

    sides: tuple[Side, Side]
    comparisons: Mapping[str, Comparison]
    """By metric. Rows are the tasks, "overall", and the mean of ``HARD`` where both drew some of it."""
    notes: tuple[str, ...] = ()
    """What the reader should know about the two."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "sides": [{name: getattr(side, name) for name in side.__slots__} for side in self.sides],
            "comparisons": {metric: comparison.to_dict() for metric, comparison in self.comparisons.items()},
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """The table of differences."""
        names = [f"{side.policy} in {side.folder} ({side.steps:.1f} sampling steps per drawing)" for side in self.sides]
        lines = [f"First: {names[0]}.", f"Second: {names[1]}.", ""]
        lines += [f"| task | pairs | prompts | {' | '.join(METRICS)} |", "|---|---:|---:|---|---|---|"]
        for rows in zip(*(self.comparisons[metric].rows for metric in METRICS), strict=True):
            cells = " | ".join(_signed(row.difference) for row in rows)
            lines.append(f"| {rows[0].task} | {rows[0].pairs} | {rows[0].prompts} | {cells} |")
        return "\n".join([*lines, "", "First minus second, with intervals of 95 %.", *self.notes])


def pair(first: str, second: str) -> Pairing:
    """Compare what two folders hold.

    Raises:
        ValueError: A folder without an evaluation, two of different benchmarks, splits or sizes, or nothing in common.
    """
    folders = (EvaluationFolder(first), EvaluationFolder(second))
    settings = [folder.settings() for folder in folders]
    drawings = (folders[0].drawings(), folders[1].drawings())
    for key in SAME:
        if (values := [_at(each, key) for each in settings])[0] != values[1]:
            raise ValueError(f"Expected two evaluations of the same {key}, got {values[0]!r} and {values[1]!r}.")
    notes = []
    if settings[0]["seed"] != settings[1]["seed"]:
        notes.append("They had different seeds: prompts are paired, noise is not.")
    comparisons = {metric: _compare(*drawings, metric) for metric in METRICS}
    if unpaired := comparisons["strict"].unpaired:
        notes.append(f"Without a judged partner: {unpaired} drawings.")
    sides = [
        Side(
            folder=name,
            policy=str(_at(each, "policy.name")),
            drawings=len(group),
            steps=float(np.mean([drawing.steps for drawing in group])),
        )
        for name, each, group in zip((first, second), settings, drawings, strict=True)
    ]
    return Pairing(sides=(sides[0], sides[1]), comparisons=comparisons, notes=tuple(notes))


def _compare(first: Sequence[Drawing], second: Sequence[Drawing], metric: str) -> Comparison:
    """All tasks, "overall", and the mean of the hard ones."""
    every = compare(first, second, metric=metric)
    if not {row.task for row in every.rows} & set(HARD):
        return every
    hard = compare(*([d for d in side if d.task in HARD] for side in (first, second)), metric=metric).rows[-1]
    return replace(every, rows=(*every.rows, replace(hard, task=", ".join(HARD))))


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _signed(difference: Interval) -> str:
    mean, low, high = (None if value is None else f"{value:+.3f}" for value in difference)
    return f"{mean}" if low is None else f"{mean} [{low}, {high}]"
