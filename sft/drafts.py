"""Drafts: exact drawings of the scripted painter up to a random step, where somebody goes on.

What is to be inspected is one plan or one sketch. What came before it is right and is context: the painter's rounds as
in multi-turn generation, announced detours included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..agents.brush import things
from ..agents.scripted import Habits, ScriptedPainter
from ..agents.scripted_session import ScriptedSession
from ..envs.scenes.changes import Thing
from ..envs.scenes.tasks import Task
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from ..rewards.critics import Query, queries_of
from ..rewards.review import Walk
from .multi_turn import careful

BATCH = 64
"""Drafts that advance together; part of what fixes the result."""


@dataclass(slots=True, eq=False)
class Draft:
    """A drawing in the painter's hands."""

    task: Task
    session: ScriptedSession
    habits: Habits
    step: int
    """Number of the round that is open."""
    at: int
    """Index of its plan among the emissions."""
    before: tuple[Thing, ...]
    """What is on the canvas before it."""
    held: tuple[Thing, ...]
    """What announced detours left there for now."""

    @property
    def transcript(self) -> Transcript:
        """The drawing."""
        return self.session.transcript

    def paint(self, *stages: Stage, loss: bool, habits: Habits | None = None) -> Entry:
        """The painter's next emission, of one of ``stages``, with other habits than its own where they are given."""
        painter = ScriptedPainter(habits or self.habits)
        (reply,) = painter.act([self.session], [mask_of(*stages)])
        error = self.transcript.record(reply.emission, loss=loss)
        assert not error, error
        return self.transcript.emissions[-1]

    def reconsider(self) -> None:
        """Have the painter think anew of what it works towards: somebody else decided what is on the canvas."""
        self.session.target = None

    def go_on(self) -> None:
        """What follows where nothing is wrong, or no longer: the painter's next plan, or the end.

        It is learnt, or a model would not know what to do after an inspection or a refinement.
        """
        self.paint(Stage.PLAN, Stage.STOP, loss=True)

    def is_true(self, judged: Stage) -> bool:
        """Whether all that follows what is judged, its PLAN or SKETCH, is wholly true; refinements aside."""
        walk = Walk(self.task.graph, self.transcript.size, self.before, placeholders=self.held)
        entries = self.transcript.emissions[self.at :]
        for entry in entries:
            walk.take(entry)
        first = [entry.stage for entry in entries].index(judged) + 1
        steps = zip(entries[first:], walk.steps[first:], strict=True)
        return all(v == 1.0 for entry, terms in steps if entry.stage is not Stage.REFINE for v in terms.values())


def begin(task: Task, rng: np.random.Generator, size: int, detour_rate: float, until: Stage) -> Draft:
    """A drawing up to where ``until``, PLAN or SKETCH, comes next in a round chosen at random; nothing bears loss.

    Args:
        task: What is to be drawn.
        rng: The only source of randomness.
        size: Side of the canvas in pixels.
        detour_rate: Share of adding steps that are announced detours.
        until: PLAN or SKETCH.
    """
    habits = careful(rng, detour_rate)
    session = ScriptedSession(Transcript(prompt=task.prompt, size=size, meta=task.meta), size, rng)
    whole, painter = session.transcript, ScriptedPainter(habits)
    while whole.ended is None:
        (reply,) = painter.act([session], [whole.mask()])
        error = whole.record(reply.emission, loss=False)
        assert not error, error
    plans = [k for k, entry in enumerate(whole.emissions) if entry.stage is Stage.PLAN]
    step = int(rng.integers(len(plans)))
    at = plans[step]
    session.transcript = whole.cut(at)  # what it remembers of its canvases stays
    before, held = things(session.canvas(session.transcript.canvas)), session.placeholders()
    session.transcript = whole.cut(at + (until is Stage.SKETCH))
    return Draft(task, session, habits, step, at, before, held)


def begin_batch(
    tasks: Sequence[Task], seed: Sequence[int], first: int, size: int, detour_rate: float, until: Stage
) -> list[Draft]:
    """Drafts ``first`` to ``first + BATCH`` of the tasks in turn; each depends on the seed and its number alone."""
    return [
        begin(tasks[k % len(tasks)], np.random.default_rng([*seed, k]), size, detour_rate, until)
        for k in range(first, first + BATCH)
    ]


def last_query(transcript: Transcript) -> Query:
    """What a critic is asked of the last plan or image."""
    queries = queries_of(transcript)
    return queries[max(queries)]


def mask_of(*stages: Stage) -> np.ndarray:
    """The mask that leaves some stages alone."""
    return np.array([each in stages for each in Stage], np.int8)
