"""Conduct: how drawings came about, task by task, beside how good they are.

Plans, sketches, inspections and refinements are held against the truth of the mini-world: what the prompt and the
plan ask for, and what the detector sees.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..rewards.interval import OVERALL
from ..rewards.summary import Inspections, Refinements, Summary, summarise
from .drawings import Drawing

HEADER = (
    "| task | plans true | sketches true | inspections | precision | recall "
    "| refinements | helped | hurt | unchanged | repaired | illegal "
    "| images | steps | NFE | tokens | calls | remote tokens | seconds |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """One task, or all drawings together. Shares are in [0, 1], ``None`` where there is nothing to share."""

    task: str
    plans: float | None
    """Share of plans that are true to prompt and canvas."""
    sketches: float | None
    """Share of sketches that are exactly as planned."""
    inspections: Inspections
    refinements: Refinements
    """By the soft score of the canvas before and after."""
    repaired: float | None
    """Share of refinements that brought the canvas closer to its plan: what they were asked for."""
    illegal: float | None
    """Share of emissions that were illegal."""
    images: float
    """Means per drawing, here and below."""
    steps: float
    """Sampling steps."""
    nfe: float
    """Network evaluations."""
    tokens: float
    """Text tokens sampled."""
    calls: float
    """Calls of remote models."""
    remote_tokens: float
    """Tokens that these read and wrote."""
    seconds: float
    """Wall time: of the table alone, for it differs from run to run."""

    def __str__(self) -> str:
        seen, done = self.inspections, self.refinements
        cells: list[float | int | None] = [
            *(self.plans, self.sketches, seen.judged, seen.precision, seen.recall),
            *(done.judged, done.helped, done.hurt, done.unchanged, self.repaired, self.illegal),
        ]
        shown = ["-" if c is None else f"{c}" if isinstance(c, int) else f"{c:.3f}" for c in cells]
        costs = [f"{self.images:.2f}", f"{self.steps:.1f}", f"{self.nfe:.1f}", f"{self.tokens:.1f}"]
        costs += [f"{self.calls:.2f}", f"{self.remote_tokens:.0f}", f"{self.seconds:.2f}"]
        return f"| {' | '.join([self.task, *shown, *costs])} |"


def conducts(drawings: Sequence[Drawing]) -> tuple[Conduct, ...]:
    """One for each task in order of appearance, then "overall", over all drawings."""
    tasks: dict[str, list[Drawing]] = {}
    for drawing in drawings:
        tasks.setdefault(drawing.task, []).append(drawing)
    return tuple(_conduct(task, group) for task, group in [*tasks.items(), (OVERALL, drawings)])


def _conduct(task: str, group: Sequence[Drawing]) -> Conduct:
    counts = summarise(group, resamples=1)  # of inspections and refinements; nobody reads its intervals
    return Conduct(
        task=task,
        plans=_mean([plan == 1 for drawing in group for plan in drawing.plans]),
        sketches=_mean([sketch > 1 - 1e-9 for drawing in group for sketch in drawing.sketches]),
        inspections=counts.inspections,
        refinements=counts.refinements,
        repaired=_mean([repair > 0 for drawing in group for repair in drawing.repairs]),
        illegal=_mean([k < drawing.illegal for drawing in group for k in range(drawing.emissions)]),
        images=counts.rows[-1].images,
        steps=counts.rows[-1].steps,
        nfe=_mean([drawing.nfe for drawing in group]) or 0.0,
        tokens=_mean([drawing.tokens for drawing in group]) or 0.0,
        calls=_mean([drawing.calls for drawing in group]) or 0.0,
        remote_tokens=_mean([drawing.remote_tokens for drawing in group]) or 0.0,
        seconds=_mean([drawing.seconds for drawing in group]) or 0.0,
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All that is said of a policy: two tables."""

    summary: Summary
    conducts: tuple[Conduct, ...]
    seen: frozenset[str]
    """Tasks whose prompts training draws too."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the same however often the drawing was interrupted."""
        rows = [{key: value for key, value in asdict(each).items() if key != "seconds"} for each in self.conducts]
        return {**self.summary.to_dict(), "conduct": rows, "seen": sorted(self.seen)}

    def to_markdown(self) -> str:
        """Both tables; tasks whose prompts training draws too are marked."""
        rows = tuple(replace(row, task=self._marked(row.task)) for row in self.summary.rows)
        conducts = [str(replace(conduct, task=self._marked(conduct.task))) for conduct in self.conducts]
        return "\n".join([replace(self.summary, rows=rows).to_markdown(), "", HEADER, *conducts])

    def _marked(self, task: str) -> str:
        return f"{task} (seen)" if task in self.seen else task


def evaluation(drawings: Sequence[Drawing]) -> Evaluation:
    """The tables of some drawings.

    Args:
        drawings: At least one; no two of the same task, prompt and seed.
    """
    seen = frozenset(drawing.task for drawing in drawings if drawing.seen)
    return Evaluation(summary=summarise(drawings), conducts=conducts(drawings), seen=seen)
