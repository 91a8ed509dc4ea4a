"""Transcript: what was said and drawn on one canvas; the one record everybody reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from .stages import Stage


class Ending(StrEnum):
    """How an episode ended."""

    STOP = "stop"
    BUDGET = "budget"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One recorded emission. A tuple-like view ``(stage, content)`` is what the grammar reads."""

    stage: Stage
    content: str | np.ndarray
    """Text, or uint8 (size, size, 3)."""
    source: str = "policy"
    """Who emitted it: "policy", or a name such as "human" or "critic" for words from outside."""
    error: str = ""
    """Why the emission was illegal; "" where it was accepted."""
    loss: bool = True
    """Whether supervised training learns to emit it (failed sketches are context only)."""
    terms: Mapping[str, float | None] = field(default_factory=dict)
    """Named reward terms of this emission."""

    def __iter__(self):
        return iter((self.stage, self.content))

    def __getitem__(self, index: int) -> Any:
        return (self.stage, self.content)[index]


@dataclass(slots=True, kw_only=True)
class Transcript:
    """One episode: the environment's memory, what rewards judge, what training learns from."""

    prompt: str
    size: int
    """Side of the square canvas in pixels."""
    id: str = ""
    seed: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What rewards need to know of the task (for scenes: GenEval-style metadata)."""
    emissions: list[Entry] = field(default_factory=list)
    ended: Ending | None = None
    score: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the file that this version does not know, kept as they are."""

    @property
    def accepted(self) -> list[Entry]:
        """Emissions of stages that were accepted, in order (illegal ones and a critic's words left out)."""
        return [entry for entry in self.emissions if not entry.error and entry.source != "critic"]

    @property
    def canvas(self) -> np.ndarray | None:
        """The last accepted image, or ``None`` before the first."""
        return next((e.content for e in reversed(self.accepted) if e.stage.is_image), None)  # type: ignore[return-value]

    @property
    def images(self) -> list[np.ndarray]:
        """All accepted images, in order."""
        return [entry.content for entry in self.accepted if entry.stage.is_image]  # type: ignore[misc]
