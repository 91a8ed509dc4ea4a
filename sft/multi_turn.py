"""Multi-turn generation: whole drawings, round by round, without a mistake; the paper's first subset.

A prompt's scene graph is drawn along nested sub-graphs, what others depend on first: every round has a plan
(``<ins>`` one step, ``<des>`` the scene after it), a sketch and an inspection that finds no fault, and a part of the
steps are detours that a later step modifies, swaps, removes or replaces (arXiv 2604.04746, section 3.2). Two back ends
make such samples, both a ``Maker``: ``ExactMultiTurn`` here, with the mini-world's painter, and ``kontext`` with a
language model, FLUX.1-Kontext and a judge.

A detour contradicts the prompt on purpose. Both back ends announce it in the plan and name it in
``provenance["planned"]``, the numbers of its rounds, so that nobody takes it for a conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..agents.scripted import Habits, demonstrate
from ..agents.scripted_session import edits_of
from ..envs.markup import parse_plan
from ..envs.scenes.changes import Edit
from ..envs.scenes.render import SIZE
from ..envs.scenes.tasks import Task
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .chunks import CHUNK, check_drawings, numbers
from .sample import Sample, Subset
from .scene_prompts import SPLITS, scene_prompts
from .table1 import PAPER

NUM, MAX_IMAGES = (int(PAPER[Subset.MULTI_TURN][name]) for name in ("total", "most images"))
"""Samples of the paper, and most images of one."""
DETOUR_RATE = 0.25
"""Share of adding steps that take a detour. The paper does not say; it gives its 3.51 images per sample, see
``SINGLY``."""
SINGLY = 0.9
"""Share of drawings that add one object a step; the others add one or two. Measured on 32,012 prompts: 3.51 images per
sample with detours, 2.98 without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactMultiTurn:
    """The exact back end: the scripted painter draws what the renderer shows, so that every state is right."""

    seed: int = 0
    num: int = NUM
    """Samples of the whole subset, of which chunks are slices."""
    detour_rate: float = DETOUR_RATE
    """0: additions alone, the same prompts (the paper's Table 5, "without diverse edits")."""
    size: int = SIZE
    """Side of the canvas in pixels."""
    split: str = "train"
    """"train" or "validation"."""
    chunk_size: int = CHUNK
    """Samples of a full chunk; chunk c begins with sample c times this."""

    def __post_init__(self) -> None:
        check_drawings(self.split, self.num, self.chunk_size, self.detour_rate)

    def make(self, chunk: int, num: int) -> list[Sample]:
        """The first ``num`` samples of a chunk; each depends on the settings and its number alone.

        Raises:
            ValueError: There is no such chunk.
        """
        asked = numbers(chunk, num, self.num, self.chunk_size)
        tasks = scene_prompts(self.seed, self.num, self.split, asked.start, asked.stop)
        return [self._sample(task, number) for number, task in zip(asked, tasks, strict=True)]

    def _sample(self, task: Task, number: int) -> Sample:
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), number])
        transcript = demonstrate(task, rng, self.size, careful(rng, self.detour_rate))
        transcript.id, transcript.seed = f"multi_turn-exact-{self.split}-{self.seed}-{number}", self.seed
        return Sample(
            subset=Subset.MULTI_TURN,
            transcript=transcript,
            kinds=tuple(sorted({edit.kind for edits in rounds_of(transcript) for edit in edits})),
            graph_hash=task.graph.canonical_hash(),
            split=self.split,
            provenance={
                "source": "exact",
                "number": number,
                "detour_rate": self.detour_rate,
                "planned": planned_rounds(transcript),
            },
        )


def careful(rng: np.random.Generator, detour_rate: float) -> Habits:
    """The painter's habits in one drawing without a mistake."""
    per_step = (1, 1) if rng.random() < SINGLY else (1, 2)
    return Habits(detour_rate=detour_rate, per_step=per_step, max_images=MAX_IMAGES)


def rounds_of(transcript: Transcript) -> list[Sequence[Edit]]:
    """What each plan does, in order; nothing where it is not in the language of the mini-world."""
    return [_edits(str(entry.content)) for entry in transcript.accepted if entry.stage is Stage.PLAN]


def _edits(plan: str) -> Sequence[Edit]:
    try:
        return edits_of(parse_plan(plan).ins) or ()
    except ValueError:
        return ()


def planned_rounds(transcript: Transcript) -> list[int]:
    """Numbers of the rounds whose plan announces a placeholder."""
    return [k for k, edits in enumerate(rounds_of(transcript)) if any(edit.placeholder for edit in edits)]
