"""What the cells of the comparison say: lines of its table, and differences between methods.

Differences are strict, drawing by drawing of the same task, seed and noise, with intervals of 95 % over prompts; beside
them each seed's own, for another training may move a figure further than other prompts do. What cannot come out
otherwise by construction is not among them: PARM by the truth against best of the same N by the truth.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..rewards.interval import OVERALL
from .compare_table import Line
from .compare_training import Learnt, averaged
from .comparison_cells import Cells, check
from .reproduction_tables import differences

JUDGE = "the mini-world's truth, strict; training by its soft score or by the verifier, or as said under trained by"
FINDINGS: Sequence[tuple[str, str, str]] = (
    ("in strokes, against one image", "sft-inspect", "one-shot"),
    ("with the inspect loop, against without", "sft-inspect", "sft"),
    ("in strokes, against best of N at its cost", "sft-inspect", "best-of-like-strokes"),
    ("the same, N chosen among by the truth", "sft-inspect", "best-of-like-strokes-oracle"),
    ("in strokes, against PARM at its cost", "sft-inspect", "parm-like-strokes"),
    ("the same, PARM asking the truth", "sft-inspect", "parm-like-strokes-oracle"),
    ("in strokes, against best of 3 images", "sft-inspect", "best-of-3"),
    ("the same, chosen by the truth", "sft-inspect", "best-of-3-oracle"),
    ("in strokes, against best of 20 images", "sft-inspect", "best-of-20"),
    ("the same, chosen by the truth", "sft-inspect", "best-of-20-oracle"),
    ("in strokes, against PARM with 20 images", "sft-inspect", "parm-20"),
    ("the same, PARM asking the truth", "sft-inspect", "parm-20-oracle"),
    ("looks on the way, beside the outcome", "parm-20", "best-of-20"),
    (
        "giving up by the likelier word, against drawing on by a sampled one",
        "parm-pruned-20",
        "parm-20",
    ),
    ("giving up what is rejected, both asking the truth", "parm-pruned-20-oracle", "parm-20-oracle"),
    ("giving up, and beginning more at the cost of 20", "parm-pruned-like-20", "parm-20"),
    ("the same, both asking the truth", "parm-pruned-like-20-oracle", "parm-20-oracle"),
    ("giving up and beginning more, against best of 20", "parm-pruned-like-20", "best-of-20"),
    ("the trained verifier against the truth, PARM", "parm-20", "parm-20-oracle"),
    ("the trained verifier against the truth, best of 20", "best-of-20", "best-of-20-oracle"),
    ("DPO, against its start", "dpo", "sft-inspect"),
    ("two rounds of DPO, against one", "dpo-iterative", "dpo"),
    ("PARM's guidance with a gradient, against none", "dpo-guided", "dpo-iterative"),
    ("joint GRPO, against its start", "joint-stages", "sft-inspect"),
    ("joint GRPO by the outcome alone, against its start", "joint-outcome", "sft-inspect"),
    ("credit by stages, against the outcome alone", "joint-stages", "joint-outcome"),
    ("the verifier's outcome as the reward, against the start", "parm-outcome", "sft-inspect"),
    ("potential beside the outcome, same verifier and credit", "parm-potential", "parm-outcome"),
    ("the trained verifier against the truth, as a reward", "parm-potential", "parm-potential-oracle"),
    ("images on the forward process, against their start", "nft", "sft-inspect"),
    ("the same, against GRPO", "nft", "joint-stages"),
    ("joint GRPO, against iterative DPO", "joint-stages", "dpo-iterative"),
    ("search in strokes, against PARM, both at 20 images", "sft-search", "parm-20"),
    ("search in strokes, against one drawing in strokes", "sft-search", "sft-inspect"),
    ("search in strokes against best of 20, both by the truth", "sft-search-oracle", "best-of-20-oracle"),
    ("beam over stages, 4 begun, against one drawing", "beam", "sft-inspect"),
    ("beam over stages, 4 begun, against PARM with 20 images, both by the truth", "beam-oracle", "parm-20-oracle"),
    ("beam over stages, against PARM in strokes, 4 begun, by the truth", "beam-oracle", "parm-strokes-oracle"),
    ("corrections by the truth's words, beside PARM in strokes", "parm-plus-oracle", "parm-strokes-oracle"),
    ("words sampled, against the likeliest", "sft-sampled", "sft-inspect"),
    ("the same, after GRPO", "joint-stages-sampled", "joint-stages"),
    ("search after GRPO, against GRPO", "joint-stages-search", "joint-stages"),
    ("GRPO under search, against search", "joint-stages-search", "sft-search"),
    ("search after GRPO, against PARM, both at 20 images", "joint-stages-search", "parm-20"),
)
"""What the comparison is about, as first minus second."""


def lines_of(cells: Cells) -> list[Line]:
    """A line of the table for every method that has cells.

    Raises:
        ValueError: Cells that were made differently, and do not belong into one table.
    """
    check(cells)
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
    lines = [
        "Strict differences, first minus second, of the seeds that both have; intervals over prompts, as above.",
        "",
    ]
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
