"""The picture of a comparison: quality against what it costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..rewards.interval import OVERALL
from .compare_table import COSTS, Line

AXES = ("steps", "questions")
"""What quality is held against: drawing, and asking. NFE is a multiple of the steps where all are guided alike."""
MARKERS = "osD^v<>P*Xh"
"""Eleven, for ten colours: no two of the first 110 entries look alike."""


COLUMNS = 4
"""Panels side by side."""


def draw_plot(lines: Sequence[Line], path: Path) -> None:
    """Strict scores with intervals of 95 %, overall and task by task.

    The first panels are overall, over sampling steps, and over calls of judges where there are any; those of the tasks
    follow, over sampling steps.

    Args:
        lines: The entries; one whose cost was not counted is left out of that panel.
        path: PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in AXES if any(line.cost(name) for line in lines)] or [AXES[0]]
    tasks = dict.fromkeys(task for line in lines for evaluation in line.evaluations for task in evaluation)
    panels = [(name, OVERALL) for name in names] + [(AXES[0], task) for task in tasks]
    rows = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(
        rows, COLUMNS, figsize=(4 * COLUMNS, 3.6 * rows + 1.5), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (name, task) in zip(axes.flat, panels, strict=False):
        _panel(axis, lines, name, task)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("strict score, 95 % interval")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=COLUMNS)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(axis: Any, lines: Sequence[Line], name: str, task: str) -> None:
    costs = [line.cost(name, task) if line.drawings(task) else None for line in lines]
    for k, (line, cost) in enumerate(zip(lines, costs, strict=True)):
        score = line.scores("strict").get(task)
        if cost is None or score is None:
            continue
        low, high = (score.mean if end is None else end for end in (score.low, score.high))
        errors = [[score.mean - low], [high - score.mean]]
        # A colour for each, also where others are left out of the panel.
        style = {"fmt": MARKERS[k % len(MARKERS)], "color": f"C{k % 10}", "capsize": 3, "label": line.name}
        axis.errorbar([cost], [score.mean], yerr=errors, **style)
    axis.set_xscale("symlog" if any(not cost for cost in costs) else "log")
    axis.set_title(task, fontsize="medium")
    axis.set_xlabel(f"{COSTS[name]} per drawing")
    axis.grid(alpha=0.3)
