"""Clauses: what GenEval's metadata asks of an image, and the benchmark's rule for whether it is there.

The rule of D. Ghosh, H. Hajishirzi, L. Schmidt, GenEval (2023, arXiv 2310.11513; github.com/djghosh13/geneval), which
holds for any detector: the mini-world's verdicts and the benchmark itself both take it from here.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Protocol, TypeVar

from .graph import RELATIONS
from .places import DEAD_ZONE, relative_position

COLOR_NAMES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
"""GenEval's ten colours, in its order."""


class Boxed(Protocol):
    """What the rule reads of an object."""

    @property
    def box(self) -> Sequence[float]: ...


Seen = TypeVar("Seen", bound=Boxed)


def broken(
    meta: Mapping[str, Any],
    objects: Mapping[str, Sequence[Seen]],
    colors: Callable[[str, Sequence[Seen]], Sequence[str]],
    dead_zone: float = DEAD_ZONE,
) -> list[str]:
    """The clauses that an image does not meet, one reason each; it is correct if and only if there is none.

    Every include clause has to be met by the ``count`` most confident objects of its class alone: surplus objects are
    forgiven, and a wrong one among them is not made good by a less confident right one. No exclude clause may be met.

    Args:
        meta: GenEval's metadata.
        objects: The objects that count, by class, most confident first.
        colors: Class and objects to the colours of these; asked only where enough objects are there.
        dead_zone: GenEval's position threshold.
    """
    reasons, groups = list[str](), list[Sequence[Seen] | None]()
    for clause in meta.get("include", ()):
        found = objects.get(clause["class"], ())[: clause["count"]]
        reason = fault(clause, found, groups, colors, dead_zone)
        groups.append(None if reason else found)
        reasons += [reason] if reason else []
    for clause in meta.get("exclude", ()):
        number = len(objects.get(clause["class"], ()))
        if number >= clause["count"]:
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {number}")
    return reasons


def fault(
    clause: Mapping[str, Any],
    found: Sequence[Seen],
    groups: Sequence[Sequence[Seen] | None],
    colors: Callable[[str, Sequence[Seen]], Sequence[str]],
    dead_zone: float,
) -> str:
    """Why an include clause is not met, in the benchmark's words; "" where it is."""
    name, count = clause["class"], clause["count"]
    if len(found) < count:
        return f"expected {name}>={count}, found {len(found)}"
    if "color" in clause:
        wanted, seen = clause["color"], list(colors(name, found))
        if seen.count(wanted) < count:
            there = ", ".join(f"{seen.count(color)} {color}" for color in COLOR_NAMES if color in seen)
            return f"expected {wanted} {name}>={count}, found {seen.count(wanted)} {wanted}; and {there}"
    if "position" in clause:
        rel, target = clause["position"]
        others = groups[target]
        if others is None:
            return f"no target for {name} to be {rel}"
        for one, other in product(found, others):
            held = relative_position(one.box, other.box, dead_zone=dead_zone)
            if rel not in held:
                return f"expected {name} {rel} target, found {' and '.join(r for r in RELATIONS if r in held)} target"
    return ""
