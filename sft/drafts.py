"""Drafts: exact drawings of the scripted painter up to a random step, where somebody goes on.

What is to be inspected is one plan or one sketch. What came before it is right and is context: the painter's rounds as
in multi-turn generation, announced detours included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..agents.scripted import Habits, ScriptedPainter
from ..agents.scripted_session import ScriptedSession
from ..envs.scenes.changes import Thing
from ..envs.scenes.tasks import Task
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from ..rewards.critics import Query, queries_of
from .multi_turn import MAX_IMAGES, SINGLY

BATCH = 64
"""Drafts that advance together; part of what fixes the result."""
PLACEHOLDER = "as a placeholder"
"""How the mini-world's plans announce a detour."""


@dataclass(slots=True, eq=False)
class Draft:
    """A drawing in the painter's hands."""

    task: Task
    session: ScriptedSession
    habits: Habits
    step: int
    """Number of the round that is open."""
    planned: tuple[int, ...]
    """Numbers of the rounds before it, and of its own where the painter planned it, that are announced detours."""
    held: tuple[Thing, ...]
    """What those before it left on the canvas for now."""

    @property
    def transcript(self) -> Transcript:
        """The drawing."""
        return self.session.transcript

    def paint(self, stage: Stage, *, loss: bool, habits: Habits | None = None) -> Entry:
        """The painter's next emission, with other habits than its own where they are given."""
        painter = ScriptedPainter(habits or self.habits)
        (reply,) = painter.act([self.session], [mask_of(stage)])
        error = self.transcript.record(reply.emission, loss=loss)
        assert not error, error
        return self.transcript.emissions[-1]

    def reconsider(self) -> None:
        """Have the painter think anew of what it works towards: somebody else decided what is on the canvas."""
        self.session.target = None


def begin(task: Task, rng: np.random.Generator, size: int, detour_rate: float, until: Stage) -> Draft:
    """A drawing up to where ``until``, PLAN or SKETCH, comes next in a round chosen at random; nothing bears loss.

    Args:
        task: What is to be drawn.
        rng: The only source of randomness.
        size: Side of the canvas in pixels.
        detour_rate: Share of adding steps that are announced detours.
        until: PLAN or SKETCH.
    """
    per_step = (1, 1) if rng.random() < SINGLY else (1, 2)  # as in multi-turn generation
    habits = Habits(detour_rate=detour_rate, per_step=per_step, max_images=MAX_IMAGES)
    session = ScriptedSession(Transcript(prompt=task.prompt, size=size, meta=task.meta), size, rng)
    whole, painter = session.transcript, ScriptedPainter(habits)
    while whole.ended is None:
        (reply,) = painter.act([session], [whole.mask()])
        error = whole.record(reply.emission, loss=False)
        assert not error, error
    plans = [k for k, entry in enumerate(whole.emissions) if entry.stage is Stage.PLAN]
    step = int(rng.integers(len(plans)))
    num = plans[step] + (until is Stage.SKETCH)
    session.transcript = whole.cut(plans[step])
    held = session.placeholders()
    session.transcript = whole.cut(num)  # what it remembers of its canvases stays
    detours = [n for n, k in enumerate(plans) if k < num and PLACEHOLDER in str(whole.emissions[k].content)]
    return Draft(task, session, habits, step, tuple(detours), held)


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


def mask_of(stage: Stage) -> np.ndarray:
    """The mask that leaves one stage."""
    return np.array([each is stage for each in Stage], np.int8)
