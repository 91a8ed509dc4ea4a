"""The table of a comparison: how good every entry is, task by task, and what a drawing of it costs.

Scores have intervals of 95 %, over prompts, with the drawings of all seeds of a prompt drawn together
(``rewards.interval``); "overall" is the unweighted mean of the tasks, as in GenEval. Costs are means over all drawings.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from ..rewards.interval import OVERALL, Interval, intervals
from .compare_training import Learnt
from .drawings import Drawing

SCORES = ("strict", "official")
COSTS = {
    "steps": "sampling steps",
    "nfe": "NFE",
    "decodes": "decodes",
    "tokens": "text tokens",
    "questions": "judge calls",
    "calls": "remote calls",
    "remote_tokens": "remote tokens",
    "seconds": "seconds",
}
"""What drawings cost, by names of ``Drawing``, and in words."""
LEGEND = (
    "Means per drawing, with all that a search drew or gave up for it. NFE: network evaluations, guidance branches "
    "counted one by one. Decodes: latents made visible, looks at unfinished images among them. Judge calls: questions "
    "that a search put to its verifier, whoever answered; remote calls: requests to servers. Seconds: wall time, on "
    "the machine that drew. Training: beyond the checkpoint that all share. *Oracle*: the search was judged by the "
    "same truth as the table, which no user has; it is an upper bound."
)

Measured = Mapping[str, Mapping[str, Any]]
"""Drawings of an evaluation as plain data: of each task the lists "prompts", those of ``SCORES``, and of ``COSTS`` the
means."""


def measured(drawings: Sequence[Drawing]) -> dict[str, dict[str, Any]]:
    """What a table needs of an evaluation."""
    tasks: dict[str, list[Drawing]] = {drawing.task: [] for drawing in drawings}
    for drawing in sorted(drawings, key=lambda each: (each.prompt_id, each.seed)):
        tasks[drawing.task].append(drawing)
    found: dict[str, dict[str, Any]] = {}
    for task, group in tasks.items():
        found[task] = {"prompts": [drawing.prompt_id for drawing in group]}
        found[task] |= {name: [getattr(drawing, name) for drawing in group] for name in SCORES}
        found[task] |= {name: _mean([getattr(drawing, name) for drawing in group]) for name in COSTS}
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry."""

    name: str
    evaluations: Sequence[Measured]
    """One for each seed."""
    searcher: str
    """Who judged its search; "": it does not search."""
    learnt: Learnt
    """For one seed, on average."""

    def scores(self, name: str) -> dict[str, Interval | None]:
        """A score of every task, and "overall"."""
        pairs: dict[str, list[tuple[str, float | None]]] = {}
        for evaluation in self.evaluations:
            for task, found in evaluation.items():
                pairs.setdefault(task, []).extend(zip(found["prompts"], found[name], strict=True))
        return intervals(pairs)

    def cost(self, name: str, task: str = OVERALL) -> float | None:
        """A mean per drawing; ``None``: not counted."""
        parts = [
            (found[name], len(found["prompts"]))
            for evaluation in self.evaluations
            for each, found in evaluation.items()
            if task in (OVERALL, each)
        ]
        if any(value is None for value, _ in parts):
            return None
        return float(np.average([value for value, _ in parts], weights=[num for _, num in parts]))

    def drawings(self, task: str = OVERALL) -> int:
        """How many there are, of all seeds."""
        groups = (evaluation[each] for evaluation in self.evaluations for each in evaluation if task in (OVERALL, each))
        return sum(len(found["prompts"]) for found in groups)


def to_markdown(lines: Sequence[Line], judged_by: str) -> str:
    """All tables.

    Args:
        lines: The entries.
        judged_by: Whose verdicts the scores are.
    """
    words = ["entry", "seeds", *SCORES, *COSTS.values(), "training samples", "training minutes", "searched by"]
    rows = [_row(line) for line in lines]
    parts = [_table([*words, "trained by"], rows), f"Judged by: {judged_by}. {LEGEND}"]
    tasks = list(dict.fromkeys(task for line in lines for evaluation in line.evaluations for task in evaluation))
    for name in SCORES:
        by_task = [(line.name, line.scores(name)) for line in lines]
        rows = [[entry, *(_shown(found.get(task)) for task in tasks)] for entry, found in by_task]
        parts.append(f"{name.capitalize()} score by task:\n\n{_table(['entry', *tasks], rows)}")
    rows = [[line.name, *(_number(_cost_of(line, "steps", task)) for task in tasks)] for line in lines]
    parts.append(f"Sampling steps by task:\n\n{_table(['entry', *tasks], rows)}")
    return "\n\n".join(parts)


def to_csv(lines: Sequence[Line]) -> str:
    """A row for every entry and task, "overall" among them."""
    names = ["entry", "task", "seeds", "drawings", *(f"{s}{end}" for s in SCORES for end in ("", "_low", "_high"))]
    names += [*COSTS, "training_samples", "training_seconds", "searched_by", "trained_by"]
    text = StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        scores = {name: line.scores(name) for name in SCORES}
        for task in scores[SCORES[0]]:
            row: dict[str, Any] = {"entry": line.name, "task": task, "seeds": len(line.evaluations)}
            row |= {"drawings": line.drawings(task), "searched_by": line.searcher, "trained_by": line.learnt.judge}
            row |= {"training_samples": line.learnt.samples, "training_seconds": line.learnt.seconds}
            for name in SCORES:
                mean, low, high = scores[name][task] or (None, None, None)
                row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
            writer.writerow(row | {name: line.cost(name, task) for name in COSTS})
    return text.getvalue()


def _row(line: Line) -> list[str]:
    scores = [_shown(line.scores(name)[OVERALL]) for name in SCORES]
    costs = [_number(line.cost(name)) for name in COSTS]
    learnt = line.learnt
    samples = "-" if learnt.samples is None else f"{learnt.samples}"
    minutes = "-" if learnt.seconds is None else f"{learnt.seconds / 60:.1f}"
    judges = [line.searcher or "-", learnt.judge or "-"]
    return [line.name, f"{len(line.evaluations)}", *scores, *costs, samples, minutes, *judges]


def _cost_of(line: Line, name: str, task: str) -> float | None:
    return line.cost(name, task) if line.drawings(task) else None


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _shown(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"
