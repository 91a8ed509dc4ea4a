"""The paper's tables 4 to 7 beside ours, from the cells that are there, and what they say about its findings.

Scores are strict, on the 756 held-out tasks of the mini-world; intervals are of 95 %, over prompts, with the drawings
of all seeds of a prompt drawn together (``rewards.interval``). They say how far another set of prompts would move the
figure, not another training: for that the seeds' own scores stand beside them. Seeds share base and data.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..rewards.interval import OVERALL, Interval, intervals
from .reproduction_cells import EXPERIMENTS

Records = Mapping[str, Sequence[Mapping[str, Any]]]
"""Cells by experiment, one for each seed."""
Pairs = dict[str, list[tuple[str, float | None]]]
"""(prompt, value) of each task."""
COLUMNS = ("counting", "colors", "position", "color_attr", "composition", OVERALL)


class Row(NamedTuple):
    """A row of one of the paper's tables."""

    words: str
    experiment: str
    paper: Mapping[str, float]
    """The paper's GenEval scores (screenshots of its tables 4 to 7)."""


def _paper(*scores: float) -> dict[str, float]:
    """A row of the paper's tables 5 to 7: counting, in table 7 alone, then colours, positions and two colours."""
    return dict(zip(COLUMNS[4 - len(scores) : 4], scores, strict=True))


TABLES: Mapping[str, Sequence[Row]] = {
    "Table 4: the process against its baselines": (
        Row("Planner (oracle words, base model draws and edits)", "table4/planner", {OVERALL: 0.60}),
        Row("Inspector (oracle eyes, base model draws and edits)", "table4/inspector", {OVERALL: 0.80}),
        Row("at once, trained as long on the same prompts and final images", "table4/one-shot", {}),
        Row("the same, best of N at the steps of ours, oracle judge", "table4/best-of-n", {}),
        Row("ours", "table7/both", {OVERALL: 0.83}),
    ),
    "Table 5: diverse edits and self-critique": (
        Row("additions only", "table5/additive", _paper(0.81, 0.58, 0.50)),
        Row("+ self-critique", "table5/additive-critique", _paper(0.84, 0.61, 0.53)),
        Row("diverse edits", "table7/multi-turn", _paper(0.82, 0.67, 0.62)),
        Row("+ self-critique (ours)", "table7/both", _paper(0.87, 0.72, 0.69)),
    ),
    "Table 6: where critique comes from": (
        Row("none", "table7/multi-turn", _paper(0.82, 0.67, 0.62)),
        Row("+ scene graph corrections", "table6/symbolic", _paper(0.83, 0.70, 0.67)),
        Row("+ self-sampling (ours)", "table7/both", _paper(0.87, 0.72, 0.69)),
    ),
    "Table 7: the two constraints": (
        Row("multi-turn only", "table7/multi-turn", _paper(0.61, 0.84, 0.66, 0.62)),
        Row("+ instruction-intermediate conflict", "table7/conflict", _paper(0.62, 0.85, 0.71, 0.65)),
        Row("+ image-instruction alignment", "table7/alignment", _paper(0.73, 0.86, 0.69, 0.65)),
        Row("both (ours)", "table7/both", _paper(0.75, 0.87, 0.72, 0.69)),
    ),
}
FINDINGS: Sequence[tuple[str, str, str]] = (
    ("diverse edits help, without critique", "table7/multi-turn", "table5/additive"),
    ("diverse edits help, with critique", "table7/both", "table5/additive-critique"),
    ("critique helps, with diverse edits", "table7/both", "table7/multi-turn"),
    ("critique helps, without them", "table5/additive-critique", "table5/additive"),
    ("self-sampled critique beats symbolic", "table7/both", "table6/symbolic"),
    ("conflict data help beside alignment", "table7/both", "table7/alignment"),
    ("alignment data help beside conflict", "table7/both", "table7/conflict"),
    ("critique helps where multi-turn data are seen as often", "table7/both-longer", "table7/multi-turn"),
    ("the process beats drawing at once, same training", "table7/both", "table4/one-shot"),
    ("the same, additions only", "table5/additive", "table4/one-shot"),
    ("the process beats best of N, same sampling steps", "table7/both", "table4/best-of-n"),
    ("the same, additions only", "table5/additive", "table4/best-of-n"),
)
"""What the paper finds, and what it leaves open (critique at equal multi-turn data, and the last four), as first minus
second."""


def tables(results: Path) -> str:
    """All tables and findings, as Markdown, of the cells below ``results``."""
    records = read(results)
    parts = [_table(title, rows, records) for title, rows in TABLES.items()]
    return "\n\n".join([*parts, _findings(records), _conduct(records)])


def read(results: Path) -> Records:
    """The cells that are there."""
    found = {name: sorted((results / name).glob("*.json")) for name in EXPERIMENTS}
    return {name: [json.loads(path.read_text()) for path in paths] for name, paths in found.items() if paths}


def scores(cells: Sequence[Mapping[str, Any]]) -> dict[str, Interval | None]:
    """Strict scores of an experiment, all seeds together, by task, and "overall"."""
    pairs: Pairs = {}
    for cell in cells:
        for task, values in cell["strict"].items():
            pairs.setdefault(task, []).extend((prompt, value) for prompt, value in values)
    return intervals(pairs)


def differences(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Interval | None], list[float]]:
    """First minus second, drawing by drawing of the seeds that both have; and each seed's difference overall."""
    pairs: Pairs = {}
    seeds = []
    by_seed = {cell["seed"]: cell for cell in second}
    for cell in first:
        if cell["seed"] not in by_seed:
            continue
        mine: Pairs = {}
        for task, values in cell["strict"].items():
            theirs = by_seed[cell["seed"]]["strict"][task]
            assert [prompt for prompt, _ in values] == [prompt for prompt, _ in theirs], task
            mine[task] = [
                (prompt, None if a is None or b is None else a - b)
                for (prompt, a), (_, b) in zip(values, theirs, strict=True)
            ]
            pairs.setdefault(task, []).extend(mine[task])
        overall = intervals(mine, resamples=1)[OVERALL]
        assert overall is not None
        seeds.append(overall.mean)
    return intervals(pairs), seeds


def _table(title: str, rows: Sequence[Row], records: Records) -> str:
    lines = [f"## {title}", "", f"| | seeds | {' | '.join(COLUMNS)} | of the seeds | steps |"]
    lines.append(f"|---|---:|{'---|' * (len(COLUMNS) + 2)}")
    for row in rows:
        cells = records.get(row.experiment, ())
        paper = [f"{row.paper[name]:.2f}" if name in row.paper else "" for name in COLUMNS]
        if cells:
            found = scores(cells)
            steps = np.mean([_overall(cell)["steps"] for cell in cells])
            own = ", ".join(f"{_overall(cell)['strict']['mean']:.3f}" for cell in cells)
            words = " | ".join(_short(found.get(name)) for name in COLUMNS)
            lines.append(f"| {row.words} (`{row.experiment}`) | {len(cells)} | {words} | {own} | {steps:.1f} |")
        else:
            lines.append(f"| {row.words} (`{row.experiment}`) | 0 |{' |' * (len(COLUMNS) + 2)}")
        if row.paper:
            lines.append(
                f"| *the paper, GenEval* | | {' | '.join(f'*{each}*' if each else '' for each in paper)} | | |"
            )
    return "\n".join(lines)


def _findings(records: Records) -> str:
    lines = ["## The findings", "", f"| | seeds | {' | '.join(COLUMNS)} | of the seeds |"]
    lines.append(f"|---|---:|{'---|' * (len(COLUMNS) + 1)}")
    for words, first, second in FINDINGS:
        found, seeds = differences(records.get(first, ()), records.get(second, ()))
        if seeds:
            cells = " | ".join(_short(found.get(name), signed=True) for name in COLUMNS)
            own = ", ".join(f"{each:+.3f}" for each in seeds)
            lines.append(f"| {words} (`{first}` - `{second}`) | {len(seeds)} | {cells} | {own} |")
    return "\n".join(lines)


def _conduct(records: Records) -> str:
    """How the scores came about: truth of plans and sketches, what inspections and refinements did, and training."""
    names = "plans true | sketches true | precision | recall | refinements | helped | hurt | images"
    lines = ["## How they came about", ""]
    lines.append(f"| | {names} | million tokens | minutes of training |")
    lines.append(f"|---|{'---:|' * 10}")
    for experiment, cells in records.items():
        every = [_means(cell) for cell in cells]
        means = [[value for value in column if value is not None] for column in zip(*every, strict=True)]
        shown = ["" if not column else f"{np.mean(column):.2f}" for column in means]
        lines.append(f"| `{experiment}` | {' | '.join(shown)} |")
    return "\n".join(lines)


def _means(cell: Mapping[str, Any]) -> list[float | None]:
    evaluation, training = cell["evaluation"], cell.get("training")
    conduct, looked, redone = evaluation["conduct"], evaluation["inspections"], evaluation["refinements"]
    overall = next(row for row in conduct if row["task"] == OVERALL)
    return [
        *(overall[name] for name in ("plans", "sketches")),
        *(looked[name] for name in ("precision", "recall")),
        *(redone[name] for name in ("judged", "helped", "hurt")),
        _overall(cell)["images"],
        training["tokens"] / 1e6 if training else None,
        training["seconds"] / 60 if training else None,
    ]


def _overall(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(row for row in cell["evaluation"]["rows"] if row["task"] == OVERALL)


def _short(interval: Interval | None, signed: bool = False) -> str:
    if interval is None:
        return ""
    texts = [f"{value:+.3f}" if signed else f"{value:.3f}" for value in interval if value is not None]
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"
