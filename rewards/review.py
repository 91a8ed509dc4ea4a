"""Review: a transcript of the mini-world walked through, every emission held against the truth.

The truth is what the detector sees on each canvas and what prompt, plans and inspections say in the
controlled language. Nothing here is a model; the same walk gives rewards and the audit of an evaluation.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..envs.markup import parse_inspection, parse_plan
from ..envs.scenes.changes import (
    Edit,
    Fault,
    Thing,
    apply,
    assign,
    broken,
    compare,
    filled,
    missing,
    plan_faults,
)
from ..envs.scenes.detect import detect
from ..envs.scenes.detection import UNKNOWN, Detection
from ..envs.scenes.graph import Graph
from ..envs.scenes.language import parse, parse_edits, parse_report, supported
from ..envs.scenes.layout import cell_of
from ..envs.scenes.tasks import Verdict, verdict
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript

NOT_JUDGED = "not judged"
_parse = functools.lru_cache(4096)(parse)
_parse_edits = functools.lru_cache(4096)(parse_edits)
_supported = functools.lru_cache(4096)(supported)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What is true of a transcript."""

    verdict: Verdict | None
    """Of the canvas as it stands; ``None``: not judged."""
    steps: tuple[Mapping[str, float | None], ...]
    """Per emission its stage's term; empty for STOP, for illegal emissions and for those from outside."""
    inspections: tuple[tuple[bool, bool], ...] = ()
    """For each judged inspection: whether it asked for a refinement, and whether there was a fault."""
    refinements: tuple[float, ...] = ()
    """For each judged refinement: its improvement in [-1, 1]."""
    reasons: tuple[str, ...] = ()
    """Why the canvas is not what was asked for; ("not judged",) for prompts outside the language."""


def review(transcript: Transcript) -> Review:
    """Walk through a transcript; prompts outside the world's language are not judged."""
    graph = graph_of_task(transcript.prompt, transcript.meta)
    if graph is None:
        steps = tuple({} if _skipped(e) else {e.stage.name.lower(): None} for e in transcript.emissions)
        return Review(verdict=None, steps=steps, reasons=(NOT_JUDGED,))
    walk = Walk(graph, transcript.size)
    for entry in transcript.emissions:
        walk.take(entry)
    canvas = transcript.canvas
    if canvas is None and transcript.ended is None:
        return Review(verdict=None, steps=tuple(walk.steps), reasons=("nothing drawn yet",))
    meta = transcript.meta if "include" in transcript.meta else graph.to_meta()
    judged = verdict(() if canvas is None else detect(canvas), meta)  # ended without an image: a blank canvas
    return Review(
        verdict=judged,
        steps=tuple(walk.steps),
        inspections=tuple(walk.inspections),
        refinements=tuple(walk.refinements),
        reasons=judged.reasons,
    )


def graph_of_task(prompt: str, meta: Mapping[str, Any]) -> Graph | None:
    """What is asked for, by GenEval-style ``meta`` if there is some, else the prompt; ``None``: not of this world."""
    try:
        if "include" in meta:
            return Graph.from_meta(meta)
        return _parse(prompt) if _supported(prompt) else None
    except (ValueError, KeyError, TypeError, IndexError):  # metadata of other benchmarks, or none at all
        return None


def things_seen(detections: Sequence[Detection], size: int) -> tuple[Thing, ...]:
    """Detections as words name them, in reading order; what is unknown is a blot."""
    things = [
        Thing(None, None, cell_of(*d.center, size))
        if d.shape == UNKNOWN
        else Thing(d.shape, d.color, cell_of(*d.center, size))
        for d in detections
    ]
    return tuple(sorted(things, key=lambda thing: thing.cell or 0))


def _skipped(entry: Entry) -> bool:
    return bool(entry.error) or entry.outside or entry.stage is Stage.STOP


@dataclass(slots=True, kw_only=True)
class Order:
    """A plan in force."""

    wanted: tuple[Thing, ...]
    """The state the plan asks for, places included where they are known."""
    described: Graph
    """What its ``<des>`` says."""
    faults: tuple[Fault, ...]
    """Where it contradicts the prompt."""
    sound: bool
    """Whether instruction, description and the canvas before agree."""
    idle: bool
    """It changes nothing: whatever follows is neither rewarded nor punished, else idling would pay."""

    def errors(self, seen: Sequence[Thing]) -> int:
        """What a canvas gets wrong: faults, and relations that do not hold."""
        return len(compare(seen, filled(self.wanted, seen))) + len(broken(seen, self.described))

    def quality(self, seen: Sequence[Thing]) -> float:
        """1 for a canvas as planned, falling to 0."""
        parts = max(len(self.wanted), len(seen)) + len(self.described.edges)
        return 1.0 if not parts else max(0.0, 1 - self.errors(seen) / parts)


@dataclass(slots=True)
class Walk:
    """Where a drawing stands."""

    graph: Graph
    size: int
    seen: tuple[Thing, ...] = ()
    before_plan: tuple[Thing, ...] = ()
    order: Order | None = None
    placeholders: tuple[Thing, ...] = ()
    refining: bool = False
    steps: list[Mapping[str, float | None]] = field(default_factory=list)
    inspections: list[tuple[bool, bool]] = field(default_factory=list)
    refinements: list[float] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        """Judge one emission and move on."""
        if isinstance(entry.content, np.ndarray) and entry.outside and not entry.error:
            self.seen = self._look(entry.content)
        if _skipped(entry):
            self.steps.append({})
            return
        judge = {
            Stage.PLAN: self.plan,
            Stage.SKETCH: self._sketch,
            Stage.INSPECT: self._inspect,
            Stage.REFINE: self._refine,
        }[entry.stage]
        self.steps.append({entry.stage.name.lower(): judge(entry.content)})

    def _look(self, canvas: Any) -> tuple[Thing, ...]:
        return things_seen(detect(canvas), self.size)

    def plan(self, text: Any) -> float:
        corrects, self.refining = self.refining, False
        # what a rejected plan did not ask for may go: it is no loss
        rejected = self.order.wanted if corrects and self.order else None
        self.before_plan = self.seen if rejected is None else tuple(t for t in self.seen if t in rejected)
        order = self._order(text)
        self.order = order
        if order is None:
            return 0.0
        order.idle = order.idle and not corrects
        return float(order.sound and not order.faults and not order.idle)

    def _order(self, text: str) -> Order | None:
        """The plan in terms of the world; ``None`` where it is not in the language."""
        try:
            plan = parse_plan(text)
            edits, described = _parse_edits(plan.ins), _parse(plan.des)
        except ValueError:
            return None
        try:
            wanted, sound = apply(self.seen, edits), True
        except ValueError:  # names what is not on the canvas: all that stands is the description
            wanted, sound = self.seen, False
        _, spare = assign(wanted, described)
        if spare or missing(wanted, described).nodes:
            wanted, sound = _undrawn(described, edits, self.seen), False
        earlier, self.placeholders = self.placeholders, _placeholders(self.placeholders, edits, wanted)
        held = (*earlier, *self.placeholders)
        faults = plan_faults(self.before_plan, wanted, self.graph, held)
        sound = sound and not broken(wanted, described)
        idle = Counter(wanted) == Counter(self.seen)
        return Order(wanted=wanted, described=described, faults=faults, sound=sound, idle=idle)

    def _sketch(self, canvas: Any) -> float | None:
        self.seen = self._look(canvas)
        return None if self.order is None or self.order.idle else self.order.quality(self.seen)

    def _inspect(self, text: Any) -> float | None:
        try:
            inspection = parse_inspection(text)
        except ValueError:  # in records made elsewhere; the environment calls it illegal
            return 0.0
        asks = inspection.refine is not None
        self.refining = asks
        order = self.order
        if order is None or order.idle:
            return None
        faulty = bool(order.faults) or order.errors(self.seen) > 0
        self.inspections.append((asks, faulty))
        if asks != faulty:
            return 0.0
        if inspection.refine is not None:
            return 1.0 if self._fixes(inspection.refine, order) else 0.5
        return 1.0 if self._truly(inspection.comment) else 0.5

    def _fixes(self, refine: str, order: Order) -> bool:
        """Whether carrying out a correction leaves nothing to correct."""
        try:
            after = apply(self.seen, _parse_edits(refine))
        except ValueError:
            return False
        if order.faults:
            return not plan_faults(self.before_plan, after, self.graph, self.placeholders)
        return order.errors(after) == 0

    def _truly(self, comment: str) -> bool:
        """Whether an inspection that finds no fault says truly what is still to be done."""
        try:
            said = parse_report(comment)
        except ValueError:
            return False
        lacking = missing([thing for thing in self.seen if thing not in self.placeholders], self.graph)
        if said.faults or not said.judged or said.complete != (not lacking.nodes and not self.placeholders):
            return False
        pending = len(said.pending) == len(self.placeholders) and all(
            any(thing.matches(held) for held in self.placeholders) for thing in said.pending
        )
        return _alike(said.missing, lacking) and (pending or not said.pending)

    def _refine(self, canvas: Any) -> float | None:
        before, self.seen = self.seen, self._look(canvas)
        if self.order is None or self.order.idle:
            return None
        if self.order.faults:  # redrawn against a plan that was wrong: the prompt is what counts
            change = _fit(self.seen, self.graph) - _fit(before, self.graph)
        else:
            change = self.order.quality(self.seen) - self.order.quality(before)
        change = 0.0 if abs(change) < 1e-9 else change
        self.refinements.append(change)
        return change


def _undrawn(described: Graph, edits: Sequence[Edit], seen: Sequence[Thing]) -> tuple[Thing, ...]:
    """A description as things, in places where they are or where the instruction puts them."""
    known, result = [*seen, *(edit.new or edit.thing for edit in edits)], list[Thing]()
    for node in described.nodes:
        for _ in range(node.count):
            thing = next((other for other in known if other.fits(node)), None)
            if thing is not None:
                known.remove(thing)
            result.append(thing or Thing(node.shape, node.color))
    return tuple(result)


def _placeholders(earlier: Sequence[Thing], edits: Sequence[Edit], wanted: Sequence[Thing]) -> tuple[Thing, ...]:
    """What is there on announced detours, now and from before."""
    announced = [edit.new or edit.thing for edit in edits if edit.placeholder]
    return tuple(thing for thing in dict.fromkeys((*earlier, *announced)) if thing in wanted)


def _alike(said: Graph | None, lacking: Graph) -> bool:
    """Whether what is said to be missing is missing; saying nothing is no lie."""
    kinds = [{(n.shape, n.color, n.count) for n in graph.nodes} for graph in (said or lacking, lacking)]
    return kinds[0] == kinds[1]


def _fit(seen: Sequence[Thing], graph: Graph) -> float:
    """How much of a prompt is on a canvas, and nothing else: in [0, 1]."""
    taken, spare = assign(seen, graph)
    parts = max(graph.total, len(seen)) + len(graph.edges)
    errors = max(graph.total - len(taken), len(spare)) + len(broken(seen, graph))
    return max(0.0, 1 - errors / parts) if parts else 1.0
