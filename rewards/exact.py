"""ExactCritic: the questions of critics answered from what the detector sees and the controlled language says."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..envs.markup import parse_plan
from ..envs.scenes.changes import Fault, Thing, assign, compare, filled, missing, repairs
from ..envs.scenes.detect import detect
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import Report, describe, describe_edits, describe_report, parse_edits
from ..envs.scenes.tasks import verdict
from .critics import Judgement, Query
from .review import Order, Walk, graph_of_task, things_seen

NOT_UNDERSTOOD = "not in the language of the scenes"


class ExactCritic:
    """A critic of the mini-world that is never wrong.

    It knows what a remote judge is told and no more, so that the two can be held against each other: a plan is judged
    on the canvas before it and on the earlier instructions. No verdict: prompts that are not of the world.
    """

    def judge(self, queries: Sequence[Query]) -> list[Judgement]:
        """One judgement for each query, by probabilities of 0 and 1."""
        by_kind = {"plan": _plan, "sketch": _sketch, "outcome": _outcome}
        return [by_kind[query.kind](query) for query in queries]


def _plan(query: Query) -> Judgement:
    graph = graph_of_task(query.prompt, query.meta)
    if graph is None:
        return Judgement(p_yes=None, explanation=NOT_UNDERSTOOD)
    seen = _seen(query.before)
    walk = Walk(graph, _size(query), seen, placeholders=_announced(query.earlier, seen), refining=query.is_corrected)
    is_right = walk.plan(query.plan) == 1
    if is_right:
        return Judgement(p_yes=1.0, explanation="the plan is true to the prompt")
    if walk.order is None:
        return Judgement(p_yes=0.0, explanation=NOT_UNDERSTOOD)
    faults = walk.order.faults
    words = describe_report(Report(faults=faults)) if faults else "instruction, description and canvas disagree"
    return Judgement(p_yes=0.0, explanation=words, correction=_corrected(faults))


def _sketch(query: Query) -> Judgement:
    if query.prompt and graph_of_task(query.prompt, query.meta) is None:
        return Judgement(p_yes=None, explanation=NOT_UNDERSTOOD)
    order = order_of(query.plan, _seen(query.before), _size(query))
    if order is None or query.canvas is None:
        return Judgement(p_yes=0.0, explanation=NOT_UNDERSTOOD)
    seen = _seen(query.canvas)
    if not order.errors(seen):
        return Judgement(p_yes=1.0, explanation="the sketch follows the plan")
    faults = compare(seen, filled(order.wanted, seen))
    words = describe_report(Report(faults=faults)) if faults else "the sketch breaks a relation of the plan"
    return Judgement(p_yes=0.0, explanation=words, correction=describe_edits(repairs(faults)) if faults else "")


def _outcome(query: Query) -> Judgement:
    graph = graph_of_task(query.prompt, query.meta)
    if graph is None or query.canvas is None:
        return Judgement(p_yes=None, explanation=NOT_UNDERSTOOD)
    meta: Mapping[str, object] = query.meta if "include" in query.meta else graph.to_meta()
    judged = verdict(detect(query.canvas), meta)
    seen = _seen(query.canvas)
    lacking, spare = missing(seen, graph), [Fault("extra", seen[k]) for k in assign(seen, graph)[1]]
    edits = [describe_edits(repairs(spare))] if spare else []
    edits += [f"add {describe(lacking)}"] if lacking.nodes else []
    return Judgement(p_yes=float(judged.strict), explanation="; ".join(judged.reasons), correction="; ".join(edits))


def order_of(plan: str, seen: Sequence[Thing], size: int) -> Order | None:
    """What a plan asks for on a canvas; ``None`` where it is not in the language.

    Args:
        plan: ``<ins>…</ins><des>…</des>``.
        seen: The canvas before it.
        size: Side of the canvas in pixels.
    """
    walk = Walk(Graph(()), size, tuple(seen))
    walk.plan(plan)
    return walk.order


def _seen(canvas: np.ndarray | None) -> tuple[Thing, ...]:
    return () if canvas is None else things_seen(detect(canvas), canvas.shape[0])


def _size(query: Query) -> int:
    return next((image.shape[0] for image in query.images), 0)


def _announced(plans: Sequence[str], seen: Sequence[Thing]) -> tuple[Thing, ...]:
    """What is on the canvas because an earlier plan announced it as a placeholder."""
    things = list[Thing]()
    for plan in plans:
        try:
            edits = parse_edits(parse_plan(plan).ins)
        except ValueError:
            continue
        things += [edit.new or edit.thing for edit in edits if edit.placeholder]
    return tuple(thing for thing in dict.fromkeys(things) if thing in seen)


def _corrected(faults: Sequence[Fault]) -> str:
    """The edits that undo what a plan does wrong; "" where words for it are wanting."""
    turned = [Fault("extra", f.seen) for f in faults if f.kind == "unasked"]
    turned += [Fault("missing", wanted=f.wanted) for f in faults if f.kind == "dropped"]
    return describe_edits(repairs(turned)) if turned else ""
