"""The picture of a comparison: quality against what it costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..rewards.interval import OVERALL
from .compare_policy import ORACLE, SUFFIX
from .compare_table import COSTS, Line

AXES = ("steps", "questions")
"""What quality is held against: drawing, and asking. NFE is a multiple of the steps where all are guided alike."""
MARKERS = "osD^v<>P*Xh"
"""Eleven, for ten colours: no two of the first 110 methods look alike."""
COLUMNS = 4
"""Panels side by side; one of the whole takes the room of two."""
TICKS = (1, 2, 5)
"""Of every power of ten."""


def draw_plot(lines: Sequence[Line], path: Path) -> None:
    """Strict scores with intervals of 95 %, overall and task by task.

    The first panels, twice as wide, are overall, over sampling steps, and over calls of judges where there are any;
    those of the tasks follow, over sampling steps. Hollow: searched by the truth; the same mark, filled: the same
    search by another judge. Scores overall begin where the lowest interval does, those of tasks at 0.

    Args:
        lines: The entries; one whose cost was not counted is left out of that panel.
        path: PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in AXES if any(line.cost(name) for line in lines)] or [AXES[0]]
    tasks = list(dict.fromkeys(task for line in lines for evaluation in line.evaluations for task in evaluation))
    rows = 1 + -(-len(tasks) // COLUMNS)
    figure = pyplot.figure(figsize=(4 * COLUMNS, 3.6 * rows + 2.5), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS, height_ratios=[1.3, *[1] * (rows - 1)])
    places = [(grid[0, 2 * k : 2 * k + 2], name, OVERALL) for k, name in enumerate(names)]
    places += [(grid[1 + k // COLUMNS, k % COLUMNS], AXES[0], task) for k, task in enumerate(tasks)]
    for place, name, task in places:
        axis = figure.add_subplot(place)
        _panel(axis, lines, name, task)
        axis.set_ylim(None if task == OVERALL else -0.03, 1.03)
        if place.is_first_col():
            axis.set_ylabel("strict score, 95 % interval")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=COLUMNS)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(axis: Any, lines: Sequence[Line], name: str, task: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    costs = [line.cost(name, task) if line.drawings(task) else None for line in lines]
    methods = list(dict.fromkeys(map(_method, lines)))
    for line, cost in zip(lines, costs, strict=True):
        score = line.scores("strict").get(task)
        if cost is None or score is None:
            continue
        low, high = (score.mean if end is None else end for end in (score.low, score.high))
        errors = [[score.mean - low], [high - score.mean]]
        k = methods.index(_method(line))  # the same in all panels, also where others are left out
        style = {"fmt": MARKERS[k % len(MARKERS)], "color": f"C{k % 10}", "elinewidth": 0.8, "label": line.name}
        if line.searcher == ORACLE:
            style["markerfacecolor"] = "white"
        axis.errorbar([cost], [score.mean], yerr=errors, **style)
    if any(not cost for cost in costs):
        axis.set_xscale("symlog", subs=TICKS)
    else:
        axis.set_xscale("log", subs=TICKS)
        axis.xaxis.set_major_locator(LogLocator(subs=TICKS))
        axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_title(task, fontsize="medium")
    axis.set_xlabel(f"{COSTS[name]} per drawing")
    axis.grid(alpha=0.3)


def _method(line: Line) -> str:
    """What shares one mark: a search, whoever judges it; learning by the truth is none, and has its own."""
    return line.name.removesuffix(SUFFIX) if line.searcher == ORACLE else line.name
