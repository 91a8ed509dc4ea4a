"""Rewards of form: was the grammar kept, were words and images spared. No model, no world.

Totals are in [0, 1]. The terms of emissions are penalties in [-1, 0], so that an agent gains nothing by
emitting more; emissions from outside (a critic's words, a given canvas) have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..envs.protocols import Score
from ..envs.transcript import Entry, Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The share of emissions that were legal; -1 for each that was not."""

    names: ClassVar[tuple[str, ...]] = ("grammar",)

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript; ``None`` where nothing was emitted."""
        return [self._score(transcript) for transcript in transcripts]

    def _score(self, transcript: Transcript) -> Score:
        own = [entry for entry in transcript.emissions if not entry.outside]
        legal = sum(not entry.error for entry in own)
        steps = [{} if e.outside else {"grammar": -1.0 if e.error else 0.0} for e in transcript.emissions]
        return Score(total=legal / len(own) if own else None, steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How well texts keep to a limit: 1 up to ``limit`` characters, falling to 0 at twice as many."""

    names: ClassVar[tuple[str, ...]] = ("length",)
    limit: int = 512
    """Characters that cost nothing: the longest text of the scripted painter has 206 (measured on 150 drawings)."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"Expected a limit of at least 1 character, got {self.limit!r}.")

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript; ``None`` where nothing legal was said."""
        return [self._score(transcript) for transcript in transcripts]

    def _score(self, transcript: Transcript) -> Score:
        over = [self._over(entry) for entry in transcript.emissions]
        said = [share for share in over if share is not None]
        steps = [{} if share is None else {"length": -share} for share in over]
        return Score(total=1 - sum(said) / len(said) if said else None, steps=steps)

    def _over(self, entry: Entry) -> float | None:
        """The excess of a text as a share of the limit, at most 1; ``None`` for what is no legal text."""
        if entry.outside or entry.error or not isinstance(entry.content, str) or not entry.content:
            return None
        return min(max(len(entry.content) / self.limit - 1, 0.0), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Economy:
    """How few images were drawn: 1 up to ``free`` images, falling to 0 at ``limit``."""

    names: ClassVar[tuple[str, ...]] = ("economy",)
    free: int = 1
    """Images that cost nothing: a drawing needs one."""
    limit: int = 16
    """Images at which nothing is left: half of the environment's budget of 32 emissions."""

    def __post_init__(self) -> None:
        if not 0 <= self.free < self.limit:
            raise ValueError(f"Expected 0 <= free < limit, got free={self.free!r} and limit={self.limit!r}.")

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript; ``None`` where nothing was drawn."""
        return [self._score(transcript) for transcript in transcripts]

    def _score(self, transcript: Transcript) -> Score:
        drawn, steps = 0, list[dict[str, float | None]]()
        for entry in transcript.emissions:
            if entry.outside or entry.error or not entry.stage.is_image:
                steps.append({})
                continue
            drawn += 1
            paid = self.free < drawn <= self.limit
            steps.append({"economy": -1 / (self.limit - self.free) if paid else 0.0})
        left = (self.limit - max(drawn, self.free)) / (self.limit - self.free)
        return Score(total=max(left, 0.0) if drawn else None, steps=steps)
