"""A painter of scenes that plans, errs on purpose, inspects and repairs.

It plans one or two objects per step in reading order, says places only in ``<ins>``, draws with the exact
renderer, inspects what it drew (its own strokes from memory, other people's with the detector), corrects
with REFINE, and stops when the prompt is fulfilled. It takes up any transcript, re-opened, cut or edited.
Without errors and with them, its final canvas fulfils every prompt of the language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..envs.markup import Plan, parse_inspection, parse_plan
from ..envs.protocols import Cost, Reply, Session
from ..envs.scenes.changes import Edit, Thing, apply, compare, graph_of, missing, repairs
from ..envs.scenes.language import describe, describe_edits, parse
from ..envs.scenes.render import SIZE, Object, render
from ..envs.scenes.tasks import Task
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .brush import PLAIN, Canvas, free_cells, mark, scene_of, spoil, things, work
from .detours import detour, plan_error
from .scripted_inspection import inspect
from .scripted_session import ScriptedSession, applicable, edits_of

HARMLESS = Thing("circle", PLAIN, 4)
"""What is drawn for a prompt outside the language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a scripted painter works."""

    error_rate: float = 0.0
    """Share of sketches spoiled on purpose (and repaired)."""
    detour_rate: float = 0.0
    """Share of adding steps that take an announced detour: one more step."""
    plan_error_rate: float = 0.0
    """Share of adding steps whose plan contradicts the prompt (and is written anew)."""
    per_step: tuple[int, int] = (1, 2)
    """Fewest and most objects added per step."""
    max_images: int = 5
    """Sketches aimed at, errors not counted; the paper caps its trajectories at five states."""

    def __post_init__(self) -> None:
        for name in ("error_rate", "detour_rate", "plan_error_rate"):
            rate = getattr(self, name)
            if not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise ValueError(f"Expected {name} in [0, 1], got {rate!r}.")
        low, high = self.per_step
        if not 1 <= low <= high or self.max_images < 1:
            raise ValueError(
                f"Expected per_step of at least 1, fewest first, and max_images of at least 1, got {self.per_step!r} "
                f"and {self.max_images!r}."
            )


TEACHING = Habits(error_rate=0.25, detour_rate=0.25, plan_error_rate=0.1)
"""Habits for demonstrations. Measured on compositions: 2.7 sketches without detours, 3.3 with them, 3.5 with wrong
plans too (the paper has 3.5 images per trajectory); with errors and refinements 4.2 images."""


class ScriptedPainter:
    """The painter as a policy.

    Args:
        habits: By default it makes no mistake and no detour.
    """

    def __init__(self, habits: Habits | None = None) -> None:
        self.habits = habits or Habits()

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> ScriptedSession:
        """A session on an empty or re-opened transcript."""
        return ScriptedSession(transcript, size, np.random.default_rng(np.random.SeedSequence(list(seed))))

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session, of a stage that its mask allows."""
        replies = []
        for session, mask in zip(sessions, masks, strict=True):
            if not isinstance(session, ScriptedSession):
                raise ValueError(f"Expected a session of this painter's start(), got {session!r}.")
            replies.append(Reply(emission=self._emit(session, mask), cost=Cost()))
        return replies

    def close(self, sessions: Sequence[Session]) -> None:
        """Nothing is held."""

    def _emit(self, session: ScriptedSession, mask: np.ndarray) -> Emission:
        wanted = _preferred(session)
        if not mask[wanted]:
            allowed = [stage for stage in Stage if mask[stage]]
            if not allowed:
                raise ValueError("Expected a mask that allows at least one stage, got none.")
            wanted = allowed[0]
        if wanted is Stage.PLAN:
            return Emission(wanted, str(_plan(session, self.habits)))
        if wanted is Stage.SKETCH:
            return Emission(wanted, _sketch(session, self.habits))
        if wanted is Stage.INSPECT:
            return Emission(wanted, str(inspect(session)))
        return Emission(wanted, _refine(session) if wanted is Stage.REFINE else "")


def demonstrate(task: Task | str, rng: np.random.Generator, size: int = SIZE, habits: Habits = TEACHING) -> Transcript:
    """A whole drawing, failures and their repair included; what failed is context only (``loss=False``).

    Args:
        task: A task, or any prompt.
        rng: The only source of randomness.
        size: Side of the canvas in pixels.
        habits: How often the painter errs and takes detours.
    """
    prompt, meta = (task, {}) if isinstance(task, str) else (task.prompt, task.meta)
    transcript = Transcript(prompt=prompt, size=size, meta=meta)
    painter, session = ScriptedPainter(habits), ScriptedSession(transcript, size, rng)
    while transcript.ended is None:
        (reply,) = painter.act([session], [transcript.mask()])
        error = transcript.record(reply.emission)
        assert not error, error
    mark_failures(transcript)
    return transcript


def mark_failures(transcript: Transcript) -> None:
    """Set ``loss=False`` on what an inspection rejected: the image, or the plan where the plan was wrong."""
    accepted = transcript.accepted
    for k, entry in enumerate(accepted):
        if entry.stage is not Stage.INSPECT or parse_inspection(str(entry.content)).refine is None:
            continue
        wrong_plan = k + 1 < len(accepted) and accepted[k + 1].stage is Stage.PLAN
        back = next((e for e in accepted[k::-1] if (e.stage is Stage.PLAN if wrong_plan else e.stage.is_image)), None)
        if back is not None:
            back.loss = False


def _preferred(session: ScriptedSession) -> Stage:
    accepted = session.transcript.accepted
    if not accepted:
        return Stage.PLAN
    last = accepted[-1]
    if last.stage is Stage.PLAN:
        return Stage.SKETCH
    if last.stage is Stage.SKETCH:
        return Stage.INSPECT
    if last.stage is Stage.INSPECT:
        inspection = parse_inspection(str(last.content))
        if inspection.refine is not None:
            return Stage.PLAN if inspection.comment.startswith("the plan") else Stage.REFINE
    return Stage.STOP if _finished(session) else Stage.PLAN


def _finished(session: ScriptedSession) -> bool:
    canvas = session.canvas(session.transcript.canvas)
    if session.graph is None:
        return bool(session.transcript.images)
    return not compare(things(canvas), session.aimed(canvas))


def _plan(session: ScriptedSession, habits: Habits) -> Plan:
    canvas = session.canvas(session.transcript.canvas)
    state, accepted = things(canvas), session.transcript.accepted
    edits: Sequence[Edit] = ()
    if accepted and accepted[-1].stage is Stage.INSPECT:
        asked = edits_of(parse_inspection(str(accepted[-1].content)).refine)
        edits = applicable(state, _coloured(state, asked or ()))
    if not edits:
        edits = _next_edits(session, canvas, habits)
    after = [thing for thing in apply(state, edits) if thing.shape is not None]
    return Plan(describe_edits(edits), describe(graph_of(after)))


def _coloured(state: Sequence[Thing], edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Edits in which everything that is to be drawn has the colour in which it will be: black where that is open."""
    result = []
    for edit in edits:
        drawn = edit.new if edit.kind == "replace" else edit.thing
        assert drawn is not None, edit
        is_new = edit.kind in ("add", "replace") or (edit.kind == "redraw" and not any(map(drawn.matches, state)))
        if is_new and drawn.color is None:
            drawn = replace(drawn, color=PLAIN)
            edit = replace(edit, new=drawn) if edit.kind == "replace" else replace(edit, thing=drawn)
        result.append(edit)
    return tuple(result)


def _next_edits(session: ScriptedSession, canvas: Canvas, habits: Habits) -> Sequence[Edit]:
    state, rng = things(canvas), session.rng
    if session.graph is None:
        return (Edit("redraw" if HARMLESS in state else "add", HARMLESS),)
    todo = repairs(compare(state, session.aimed(canvas)))
    fixes = [edit for edit in todo if edit.kind != "add"]
    adds = [edit for edit in todo if edit.kind == "add"]
    if fixes:
        return fixes
    if not adds:  # complete, yet a plan is asked for: draw something anew that is there
        return (Edit("redraw", state[0]),)
    left = max(1, habits.max_images - len(session.transcript.images))
    low, high = habits.per_step
    num = max(int(rng.integers(low, high + 1)), -(-len(adds) // left))
    now = adds[:num]
    roomy = left > 1 + -(-(len(adds) - len(now)) // high)
    chance, spots = rng.random(), free_cells([*canvas, *(mark(i, session.size) for i in session.aim(canvas))], rng)
    if chance < habits.detour_rate:
        return detour(now, session.graph, spots, rng, adds[num:]) if roomy else now
    if chance < habits.detour_rate + habits.plan_error_rate:
        return plan_error(now, state, session.graph, spots, rng)
    return now


def _sketch(session: ScriptedSession, habits: Habits) -> np.ndarray:
    canvas = session.canvas(session.transcript.canvas)
    plan = parse_plan(str(next(e.content for e in reversed(session.transcript.accepted) if e.stage is Stage.PLAN)))
    edits = applicable(things(canvas), edits_of(plan.ins)) or _from_description(things(canvas), plan.des, session.rng)
    wanted = _worked(session, canvas, edits)
    if session.graph is not None and session.rng.random() < habits.error_rate:
        new = [thing for thing in things(wanted) if thing not in things(canvas)]
        return session.remember(*spoil(wanted, new, session.rng, session.size))
    return session.remember(render(scene_of(wanted, session.size)), wanted)


def _worked(session: ScriptedSession, canvas: Canvas, edits: Sequence[Edit]) -> Canvas:
    ready = {}
    if session.graph is not None:
        ready = {mark(item, session.size).thing: item for item in session.aim(canvas)}
        ready |= {
            edit.thing: at for edit in edits if edit.placeholder and (at := _right(edit.thing, ready)) is not None
        }
    return work(canvas, edits, session.rng, session.size, ready)


def _right(placeholder: Thing, ready: Mapping[Thing, Object]) -> Object | None:
    """Where a thing of a wrong colour is to be drawn: exactly where the right one was laid out."""
    for thing, item in ready.items():
        if (thing.shape, thing.cell) == (placeholder.shape, placeholder.cell) and placeholder.color is not None:
            return replace(item, color=placeholder.color)
    return None


def _from_description(state: Sequence[Thing], des: str, rng: np.random.Generator) -> tuple[Edit, ...]:
    """Additions that bring a canvas closer to a description in other people's words; none if it cannot be read."""
    try:
        lacking = missing(state, parse(des))
    except ValueError:
        return ()
    free = [cell for cell in range(9) if cell not in {thing.cell for thing in state}]
    cells = sorted(int(cell) for cell in rng.permutation(free)[: lacking.total])
    names = [(node.shape, node.color or PLAIN) for node in lacking.nodes for _ in range(node.count)]
    return tuple(Edit("add", Thing(*name, cell)) for name, cell in zip(names, cells, strict=False))


def _refine(session: ScriptedSession) -> np.ndarray:
    canvas = session.canvas(session.transcript.canvas)
    last = session.transcript.accepted[-1]
    asked = parse_inspection(str(last.content)).refine if last.stage is Stage.INSPECT else None
    edits = applicable(things(canvas), edits_of(asked))
    if not edits and session.graph is not None:  # words outside the language: do what is wrong by our own lights
        edits = repairs(f for f in compare(things(canvas), session.aimed(canvas)) if f.kind != "missing")
    refined = _worked(session, canvas, edits)
    return session.remember(render(scene_of(refined, session.size)), refined)
