"""The same weights without the process: prompt to image at once.

The grammar of the environment wants a plan before an image and an inspection after it. This policy says fixed
words there, at no cost, which never enter the model's context: the context is the prompt alone, so the image is
exactly what BAGEL draws as plain text-to-image, guided away from the empty context.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch

from ..envs.markup import Inspection, Plan, neutralise
from ..envs.protocols import Cost, Reply, Session, Watcher
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .bagel.checkpoint import load
from .bagel.context import Contexts
from .bagel.items import Text
from .bagel.model import Bagel
from .bagel.pictures import Pictures, Watching
from .bagel.sample import Branches, Sampling
from .bagel.tokenizer import Tokenizer

INSTRUCTION = "Draw it at once."
"""``<ins>`` of the fixed plan; its ``<des>`` is the prompt."""
COMMENT = "Drawn at once."
"""The fixed inspection."""


@dataclass(slots=True, eq=False)
class OneShotSession:
    """One canvas in the policy's hands."""

    transcript: Transcript
    size: int
    seed: tuple[int, ...]
    row: int
    """Its context: the prompt, once it was needed."""


class OneShot:
    """The policy. It takes up any transcript; where a refinement is asked for it draws again, from the prompt."""

    def __init__(
        self, model: Bagel, tokenizer: Tokenizer, sampling: Sampling | None = None, *, is_recorded: bool = False
    ) -> None:
        """Args:

        model: Draws; its device and dtype are used.
        tokenizer: Its tokenizer.
        sampling: Defaults to BAGEL's recommendation for text-to-image.
        is_recorded: Whether replies carry flow paths.
        """
        self.model, self.tokenizer, self.is_recorded = model, tokenizer, is_recorded
        self.watcher: Watcher | None = None
        self.pictures = Pictures(model, sampling or Sampling())
        self.contexts = Contexts(model, tokenizer.ids)

    @classmethod
    def load(
        cls,
        path: str | Path,
        sampling: Sampling | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Self:
        """The policy of a checkpoint directory; ``options`` are those of ``__init__``."""
        return cls(load(path, dtype=dtype, device=device), Tokenizer.load(path), sampling, **options)

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> OneShotSession:
        """A session on an empty or re-opened transcript."""
        self.pictures.check(size)
        return OneShotSession(transcript, size, tuple(seed), *self.contexts.open(1))

    def close(self, sessions: Sequence[Session]) -> None:
        """Give the contexts back."""
        self.contexts.close([_own(session).row for session in sessions])

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session; all images are drawn together."""
        stages = [nearest_stage(mask) for mask in masks]
        drawing = [k for k, stage in enumerate(stages) if stage.is_image]
        drawn = dict(zip(drawing, self._draw([_own(sessions[k]) for k in drawing], stages), strict=True))
        return [
            drawn[k] if k in drawn else Reply(emission=Emission(stage, fixed_words(stage, session.transcript.prompt)))
            for k, (session, stage) in enumerate(zip(sessions, stages, strict=True))
        ]

    def _draw(self, sessions: Sequence[OneShotSession], stages: Sequence[Stage]) -> list[Reply]:
        if not sessions:
            return []
        begun, contexts = perf_counter(), self.contexts
        encoded = contexts.extend([session.row for session in sessions], [self._prompt(s) for s in sessions])
        branches = Branches(
            [contexts.view(session.row) for session in sessions],
            [contexts.base(session.row) for session in sessions],
            [contexts.view(session.row) for session in sessions],  # no image to leave out
        )
        rngs = [
            np.random.default_rng(np.random.SeedSequence((*session.seed, len(session.transcript.emissions))))
            for session in sessions
        ]
        sizes = [session.size for session in sessions]
        seeds = [session.seed for session in sessions]
        watching = None if self.watcher is None else Watching(self.watcher, sessions)
        drawn = self.pictures.draw(
            contexts, branches, sizes, rngs, seeds, is_recorded=self.is_recorded, watching=watching
        )
        seconds = (perf_counter() - begun) / len(sessions)
        wanted = [stage for stage in stages if stage.is_image]
        return [
            Reply(
                emission=Emission(stage, each.image),
                path=each.path,
                cost=Cost(
                    steps=each.steps,
                    nfe=each.nfe,
                    decodes=each.decodes,
                    previews=each.previews,
                    encoded=len(new),
                    seconds=seconds,
                ),
            )
            for stage, each, new in zip(wanted, drawn, encoded, strict=True)
        ]

    def _prompt(self, session: OneShotSession) -> list[Text]:
        if self.contexts.mark(session.row).length:
            return []
        return [Text(ids=self.tokenizer.encode(neutralise(session.transcript.prompt)))]


def nearest_stage(mask: np.ndarray) -> Stage:
    """The stage that comes nearest to being done."""
    for stage in (Stage.STOP, Stage.SKETCH, Stage.REFINE, Stage.INSPECT, Stage.PLAN):
        if mask[stage]:
            return stage
    raise ValueError("Expected a mask with at least one legal stage, got none; the episode is over.")


def fixed_words(stage: Stage, prompt: str) -> str:
    """What is said at a stage without an image."""
    if stage is Stage.PLAN:
        # A plan's fields hold no angle brackets.
        return str(Plan(INSTRUCTION, re.sub(r"[<>]", " ", prompt).strip() or "The prompt."))
    return str(Inspection(COMMENT)) if stage is Stage.INSPECT else ""


def _own(session: Session) -> OneShotSession:
    if not isinstance(session, OneShotSession):
        raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
    return session
