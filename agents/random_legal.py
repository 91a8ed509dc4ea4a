"""A policy that knows the grammar and nothing else: legal stages, well-formed texts, random scenes."""

from collections.abc import Sequence

import numpy as np

from ..envs.markup import Inspection, Plan
from ..envs.protocols import Reply, Session
from ..envs.scenes.changes import compare, repairs, things_of
from ..envs.scenes.language import Report, describe_edits, describe_report
from ..envs.scenes.render import render
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .edits import random_scene, sample_edit


class RandomSession:
    """One canvas in the random policy's hands."""

    def __init__(self, transcript: Transcript, size: int, rng: np.random.Generator) -> None:
        self.transcript, self.size, self.rng = transcript, size, rng


class RandomLegal:
    """Chooses among the stages that the mask allows, with equal chances; the floor of every comparison.

    Args:
        refine_rate: Share of inspections that ask for a refinement.
    """

    def __init__(self, refine_rate: float = 0.5) -> None:
        if not 0 <= refine_rate <= 1:
            raise ValueError(f"Expected refine_rate in [0, 1], got {refine_rate!r}.")
        self.refine_rate = refine_rate

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> RandomSession:
        """A session on an empty or re-opened transcript."""
        return RandomSession(transcript, size, np.random.default_rng(np.random.SeedSequence(list(seed))))

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session, of a stage that its mask allows."""
        replies = []
        for session, mask in zip(sessions, masks, strict=True):
            if not isinstance(session, RandomSession):
                raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
            allowed = [stage for stage in Stage if mask[stage]]
            if not allowed:
                raise ValueError("Expected a mask that allows at least one stage, got none.")
            stage = allowed[int(session.rng.integers(len(allowed)))]
            replies.append(Reply(emission=Emission(stage, self._content(stage, session))))
        return replies

    def close(self, sessions: Sequence[Session]) -> None:
        """Nothing is held."""

    def _content(self, stage: Stage, session: RandomSession) -> str | np.ndarray:
        rng, size = session.rng, session.size
        if stage.is_image:
            return render(random_scene(rng, size))
        if stage is Stage.PLAN:
            edit = sample_edit(rng, size)
            return str(Plan(edit.ins, edit.des))
        if stage is Stage.STOP:
            return ""
        if rng.random() >= self.refine_rate:
            return str(Inspection(describe_report(Report())))
        faults = compare(*(things_of(random_scene(rng, size, num)) for num in (2, 3)))
        return str(Inspection(describe_report(Report(faults=faults)), describe_edits(repairs(faults))))
