"""Verdicts: GenEval's official rule on the mini-world, and stricter and softer ones beside it.

Strict and soft are harder here than those of ``rewards.geneval``: whatever was not asked for counts against a canvas,
of any class, because here everything on it can be seen and named; on a photo other things are bound to be there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .clauses import broken
from .places import relative_position
from .render import SHAPES

THRESHOLD = 0.3
"""Least score of a detection that counts, in all tasks (GenEval's .9 for counting makes up for the double
detections of COCO detectors; measured here, .3 loses fewer true counts)."""


class Seen(Protocol):
    """What a verdict reads of a detection (``detect.Detection`` is one)."""

    @property
    def shape(self) -> str: ...
    @property
    def color(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def box(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How well a canvas fulfils a prompt."""

    correct: bool
    """GenEval's official rule: every include clause met by the most confident objects of its class, no exclude
    clause met. Surplus objects are forgiven."""
    strict: bool
    """Exactly the objects asked for, nothing unexplained, all relations hold."""
    soft: float
    """Mean of the atomic checks minus 0.1 per unexplained component, in [0, 1]."""
    reasons: tuple[str, ...] = ()
    """What is wrong, in the words of GenEval's evaluator; empty if and only if ``strict``."""


def verdict(detections: Sequence[Seen], meta: Mapping[str, Any]) -> Verdict:
    """Judge what was detected on a canvas.

    Args:
        detections: Everything on the canvas, unknown things included.
        meta: GenEval-style metadata (``Graph.to_meta``).
    """
    sure = [d for d in sorted(detections, key=lambda d: -d.score) if d.shape in SHAPES and d.score > THRESHOLD]
    reasons, atoms = list[str](), list[float]()
    seen = {shape: [d for d in sure if d.shape == shape] for shape in {d.shape for d in sure}}
    correct = not broken(meta, seen, lambda _, found: [d.color for d in found])
    groups = []
    for clause in meta["include"]:
        group = [d for d in sure if d.shape == clause["class"] and clause.get("color") in (None, d.color)]
        groups.append(group)
        atoms += _atoms(clause, sure, group, groups if "position" in clause else None, reasons)
    wanted = {c["class"]: sum(o["count"] for o in meta["include"] if o["class"] == c["class"]) for c in meta["include"]}
    explained = sum(min(count, sum(d.shape == shape for d in sure)) for shape, count in wanted.items())
    surplus = len(detections) - explained
    if surplus:
        reasons.append(f"expected nothing else, found {surplus} more")
    soft = sum(atoms) / len(atoms) if atoms else 1.0
    return Verdict(
        correct=correct, strict=not reasons, soft=min(1.0, max(0.0, soft - 0.1 * surplus)), reasons=tuple(reasons)
    )


def _atoms(
    clause: Mapping[str, Any],
    sure: Sequence[Seen],
    group: Sequence[Seen],
    groups: Sequence[Sequence[Seen]] | None,
    reasons: list[str],
) -> Iterator[float]:
    name, count = clause["class"], clause["count"]
    found = sum(d.shape == name for d in sure)
    yield min(found, count) / count
    if found < count:
        reasons.append(f"expected {name}>={count}, found {found}")
    if "color" in clause:
        yield min(len(group), count) / count
        if len(group) != count and found >= count:
            reasons.append(f"expected {count} {clause['color']} {name}, found {len(group)}")
    if groups is not None:
        rel, target = clause["position"]
        pairs = [(a, b) for a in group[:count] for b in groups[target]]
        held = sum(rel in relative_position(a.box, b.box) for a, b in pairs)
        yield held / len(pairs) if pairs else 0.0
        if not pairs or held < len(pairs):
            reasons.append(
                f"expected {name} {rel} target, found none" if not pairs else f"expected {name} {rel} target"
            )
