"""The table of a comparison: how good every entry is, task by task, and what a drawing of it costs.

Scores have intervals of 95 %, over prompts, with the drawings of all seeds of a prompt drawn together
(``rewards.interval``); beside them stands every seed's own score. "Overall" is the unweighted mean of the tasks, as in
GenEval, of costs as of scores.
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
LEARNT = ("drawings learnt from", "examples learnt from", "training minutes")
LEGEND = (
    "Overall figures, of scores and of costs, are unweighted means of the tasks. Intervals are of 95 %, over prompts, "
    "all drawings of a prompt together: they hold what other prompts of the same tasks would change, and leave out "
    "what another training, another start or another noise would; for that, every seed's own score stands beside them "
    "(overall; by task, too, seeds can be further apart than an interval is wide, above all where each seed has a "
    "verifier of its own). Costs are means per drawing, with all that a search drew or gave up for it. NFE: network "
    "evaluations, guidance branches counted one by one. Decodes: latents made visible, looks at unfinished images "
    "among them. Judge calls: questions that a search put to its verifier, whoever answered; remote calls: requests "
    "to servers. Seconds: wall time, on the machine that drew. Training: beyond the checkpoint that all share; "
    "drawings made for it and judged, and labelled examples, of which one drawing gives several: the two do not add "
    "up. Names that end in *-oracle*: the search is judged by the same truth as the table, which no user has. Of "
    "these best-of-N alone is an upper bound, of choosing among the same N drawings. PARM that asks the truth is told "
    "what an unfinished image shows, and not how it will end: it is consistent, and no forecast."
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

    def of_the_seeds(self, name: str) -> list[float | None]:
        """A score "overall", of each seed."""
        found = []
        for evaluation in self.evaluations:
            pairs = {task: list(zip(of["prompts"], of[name], strict=True)) for task, of in evaluation.items()}
            overall = intervals(pairs, resamples=1)[OVERALL]
            found.append(None if overall is None else overall.mean)
        return found

    def cost(self, name: str, task: str = OVERALL) -> float | None:
        """A mean per drawing, overall the unweighted mean of the tasks; ``None``: not counted."""
        if task == OVERALL:
            tasks = dict.fromkeys(each for evaluation in self.evaluations for each in evaluation)
            return _mean([self.cost(name, each) for each in tasks])
        found = [evaluation[task] for evaluation in self.evaluations if task in evaluation]
        parts = [(each[name], len(each["prompts"])) for each in found]
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
    words = ["entry", "seeds", *SCORES, "strict, of the seeds", *COSTS.values(), *LEARNT, "searched by", "trained by"]
    rows = [_row(line) for line in lines]
    parts = [_table(words, rows), f"Judged by: {judged_by}. {LEGEND}"]
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
    names += [*COSTS, "training_drawings", "training_examples", "training_seconds", "searched_by", "trained_by"]
    text = StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        scores = {name: line.scores(name) for name in SCORES}
        for task in scores[SCORES[0]]:
            row: dict[str, Any] = {"entry": line.name, "task": task, "seeds": len(line.evaluations)}
            row |= {"drawings": line.drawings(task), "searched_by": line.searcher, "trained_by": line.learnt.judge}
            row |= {f"training_{name}": getattr(line.learnt, name) for name in ("drawings", "examples", "seconds")}
            for name in SCORES:
                mean, low, high = scores[name][task] or (None, None, None)
                row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
            writer.writerow(row | {name: line.cost(name, task) for name in COSTS})
    return text.getvalue()


def _row(line: Line) -> list[str]:
    scores = [_shown(line.scores(name)[OVERALL]) for name in SCORES]
    costs = [_number(line.cost(name)) for name in COSTS]
    learnt = line.learnt
    counts = ["-" if each is None else f"{each}" for each in (learnt.drawings, learnt.examples)]
    minutes = "-" if learnt.seconds is None else f"{learnt.seconds / 60:.1f}"
    judges = [line.searcher or "-", learnt.judge or "-"]
    seeds = ", ".join("-" if each is None else f"{each:.3f}" for each in line.of_the_seeds("strict"))
    return [line.name, f"{len(line.evaluations)}", *scores, seeds, *costs, *counts, minutes, *judges]


def _cost_of(line: Line, name: str, task: str) -> float | None:
    return line.cost(name, task) if line.drawings(task) else None


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _shown(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"
