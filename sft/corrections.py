"""Corrections: what to say of a wrong step where the painter's own words are not the best, or are not at hand.

The painter corrects a plan by what it would have drawn itself. Where somebody else's plan only breaks a relation, that
can mean to take away what is right and to draw it anew; one thing moved is enough. And of real pictures the words are
a critic's, brought into the form of an inspection.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..envs.markup import Inspection
from ..envs.scenes.changes import Edit, Thing, apply, broken, plan_faults
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import Report, describe_report
from ..rewards.critics import Judgement

FOLLOWS = "the sketch follows the plan"
"""How an inspection begins that finds nothing wrong; in the mini-world and in the words of critics alike."""
COMPLETE = describe_report(Report(complete=True))
"""All of it where nothing is missing either."""
_BRACKETS = str.maketrans("<>", "\u2039\u203a")
"""Angle brackets are structure; in a critic's words they become look-alikes."""


def moved(
    before: Sequence[Thing], seen: Sequence[Thing], graph: Graph, held: Sequence[Thing], rng: np.random.Generator
) -> Edit | None:
    """The move, or else the swap, after which a plan that broke relations is true to its prompt.

    Args:
        before: The state before the plan.
        seen: The state it led to.
        graph: What the prompt asks for.
        held: Announced placeholders, which stay.
        rng: Chooses the place.
    """
    nodes = [node for part in broken(seen, graph) for node in part.nodes]
    ends = [thing for thing in seen if thing not in held and any(thing.fits(node) for node in nodes)]
    ends.sort(key=lambda thing: thing in before)  # what is new goes first
    taken = {thing.cell for thing in seen}
    free = [int(cell) for cell in rng.permutation(9) if cell not in taken]
    edits = [Edit("move", thing, replace(thing, cell=cell)) for thing in ends for cell in free]
    edits += [Edit("swap", a, b) for k, a in enumerate(ends) for b in ends[k + 1 :]]
    return next((e for e in edits if not plan_faults(before, apply(seen, [e]), graph, held)), None)


def inspection_of(judgement: Judgement) -> Inspection | None:
    """A critic's words on a plan or a sketch as an inspection; ``None``: there is no verdict, or it cannot be acted on.

    What is right is explained; what is wrong is explained and corrected.
    """
    explanation, correction = (one_line(text) for text in (judgement.explanation, judgement.correction))
    if judgement.is_right is None:
        return None
    if judgement.is_right:
        return Inspection(explanation if explanation.startswith(FOLLOWS) else f"{FOLLOWS}; {explanation}".rstrip("; "))
    return Inspection(explanation, correction) if explanation and correction else None


def one_line(text: str) -> str:
    """Words on one line, without structure and without a final period."""
    return " ".join(text.translate(_BRACKETS).split()).rstrip(". ")
