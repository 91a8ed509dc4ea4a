"""What the cells of the comparison say: lines of its table, and differences between methods.

Differences are strict, drawing by drawing of the same task, seed and noise, with intervals of 95 % over prompts; beside
them each seed's own, for another training may move a figure further than other prompts do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..rewards.interval import OVERALL
from .compare_table import Line
from .compare_training import Learnt, averaged
from .reproduction_tables import differences

Cells = Mapping[str, Sequence[Mapping[str, Any]]]
"""Cells by method, one for each seed."""
JUDGE = "the mini-world's truth, strict; training by its soft score or by the verifier"
FINDINGS: Sequence[tuple[str, str, str]] = (
    ("drawing in strokes beats drawing at once", "sft-inspect", "one-shot"),
    ("the inspect loop helps", "sft-inspect", "sft"),
    ("strokes beat best of N at 131 steps' worth", "sft-inspect", "best-of-131"),
    ("strokes beat best of N at 1000 steps' worth", "sft-inspect", "best-of-1000"),
    ("strokes beat PARM at 1000 steps' worth", "sft-inspect", "parm"),
    ("strokes beat PARM with a perfect verifier", "sft-inspect", "parm-oracle"),
    ("looking on the way helps, beside the outcome", "parm", "best-of-1000"),
    ("the same, with a perfect verifier", "parm-oracle", "best-of-1000-oracle"),
    ("pruning costs no quality", "parm-pruned", "parm"),
    ("the same, with a perfect verifier", "parm-pruned-oracle", "parm-oracle"),
    ("a trained verifier does what a perfect one does", "parm", "parm-oracle"),
    ("DPO helps", "dpo", "sft-inspect"),
    ("a second round helps DPO", "dpo-iterative", "dpo"),
    ("guidance with a gradient helps iterative DPO", "dpo-guided", "dpo-iterative"),
    ("joint GRPO helps", "joint-stages", "sft-inspect"),
    ("credit by stages beats the outcome alone", "joint-stages", "joint-outcome"),
    ("PARM's potential as a reward beats the outcome alone", "parm-potential", "joint-outcome"),
    ("the same, with a perfect verifier", "parm-potential-oracle", "joint-outcome"),
    ("images learn better on the forward process", "nft", "joint-stages"),
    ("joint GRPO beats iterative DPO", "joint-stages", "dpo-iterative"),
    ("search helps after GRPO", "joint-stages-search", "joint-stages"),
    ("GRPO helps under search", "joint-stages-search", "sft-search"),
    ("GRPO and search beat PARM", "joint-stages-search", "parm"),
)
"""What the comparison is about, as first minus second."""


def lines_of(cells: Cells) -> list[Line]:
    """A line of the table for every method that has cells.

    Raises:
        ValueError: The cells have several starts, and do not belong into one table.
    """
    starts = {cell["start"] for group in cells.values() for cell in group}
    if len(starts) > 1:
        raise ValueError(f"Expected cells of one start, got {len(starts)}; take away those of the others.")
    return [
        Line(
            name=name,
            evaluations=[cell["evaluation"] for cell in group],
            searcher=group[0]["searcher"],
            learnt=averaged([Learnt(**cell["learnt"]) for cell in group]),
        )
        for name, group in cells.items()
        if group
    ]


def findings(cells: Cells) -> str:
    """The differences that can be told, as Markdown."""
    lines = ["Strict differences, first minus second:", ""]
    lines += ["| | seeds | overall | of the seeds |", "|---|---:|---|---|"]
    for words, first, second in FINDINGS:
        found, seeds = differences(*([_strict(cell) for cell in cells.get(name, ())] for name in (first, second)))
        overall = found.get(OVERALL)
        if overall is None:
            continue
        ends = "" if overall.low is None else f" [{overall.low:+.3f}, {overall.high:+.3f}]"
        own = ", ".join(f"{each:+.3f}" for each in seeds)
        lines.append(f"| {words} (`{first}` - `{second}`) | {len(seeds)} | {overall.mean:+.3f}{ends} | {own} |")
    return "\n".join(lines)


def _strict(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell as ``differences`` reads it."""
    pairs = {task: list(zip(of["prompts"], of["strict"], strict=True)) for task, of in cell["evaluation"].items()}
    return {"seed": cell["seed"], "strict": pairs}
