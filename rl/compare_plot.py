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


def draw_plot(lines: Sequence[Line], path: Path) -> None:
    """Strict scores with intervals of 95 % over sampling steps, and over calls of judges where there are any.

    Args:
        lines: The entries; one whose cost was not counted is left out of that panel.
        path: PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in AXES if any(line.cost(name) for line in lines)] or [AXES[0]]
    figure, axes = pyplot.subplots(
        1, len(names), figsize=(6 * len(names), 5), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, name in zip(axes.flat, names, strict=True):
        _panel(axis, lines, name)
    axes.flat[0].set_ylabel("strict score, 95 % interval")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(axis: Any, lines: Sequence[Line], name: str) -> None:
    for k, line in enumerate(lines):
        cost, score = line.cost(name), line.scores("strict")[OVERALL]
        if cost is None or score is None:
            continue
        low, high = (score.mean if end is None else end for end in (score.low, score.high))
        errors = [[score.mean - low], [high - score.mean]]
        label = f"{line.name} (oracle)" if "oracle" in line.searcher else line.name
        axis.errorbar([cost], [score.mean], yerr=errors, fmt=MARKERS[k % len(MARKERS)], capsize=3, label=label)
    axis.set_xscale("symlog" if any(not line.cost(name) for line in lines) else "log")
    axis.set_xlabel(f"{COSTS[name]} per drawing")
    axis.grid(alpha=0.3)
