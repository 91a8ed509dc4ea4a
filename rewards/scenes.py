"""SceneReward: exact rewards on the mini-world, for the outcome and for every stage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..envs.protocols import Score
from ..envs.transcript import Transcript
from .review import NOT_JUDGED, Review, review

OUTCOMES = ("soft", "strict", "official")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneReward:
    """How well the canvas is what the prompt asked for, and whether every stage was true.

    Terms of the outcome, on the last accepted image:

    * ``official``: GenEval's rule, 0 or 1. It forgives surplus objects: one of each shape fulfils every
      prompt for a shape, so it is for reports and not for training.
    * ``strict``: 1 for exactly the objects asked for and nothing unexplained, else 0.
    * ``soft``: mean of the atomic checks less 0.1 per unexplained component, in [0, 1]; 1 if and only if strict.

    Terms of emissions, verdicts in [0, 1] unless said otherwise:

    * ``plan``: 1 if instruction, description and canvas agree, nothing contradicts the prompt (an incomplete scene
      and an announced placeholder do not) and something changes; else 0, also where it is not in the language.
    * ``sketch``: 1 for the canvas that the plan describes, less the share of what is wrong.
    * ``inspect``: 1 for a fault where there is one, with a correction that leaves none, and for no fault where there is
      none, with a true account of what is missing; 0.5 where only the verdict is right; 0 where it is wrong.
    * ``refine``: by how much the canvas now follows the plan better (the prompt, if the plan was wrong), in [-1, 1].

    ``None``, not judged: prompts outside the world's language, stages after a plan that is not in the
    language or changes nothing, and the outcome before the first image.

    What an emission earns (``Score.pay``) is its shortfall: ``process`` times (verdict - 1), a refinement ``process``
    times its verdict, for it makes good what the sketch lost. So a faultless drawing earns 0 on its way however many
    rounds it takes, no sequence of emissions earns more, and busywork (adding a placeholder, removing it, and so on)
    is worth nothing. Stages that a meaningless or idle plan left without a verdict count as wrong.
    """

    names: ClassVar[tuple[str, ...]] = ("official", "strict", "soft", "plan", "sketch", "inspect", "refine")
    outcome: str = "soft"
    """Which term is the total; soft, because a group of drawings that all fail strictly would teach nothing."""
    process: float = 1 / 32
    """What an emission that is wholly wrong costs. The environment's budget is 32 emissions: a drawing that is wrong
    from beginning to end loses 1, as much as the outcome can give."""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"Expected an outcome among {', '.join(OUTCOMES)}, got {self.outcome!r}.")
        if not 0 <= self.process < math.inf:
            raise ValueError(f"Expected a process weight of at least 0, got {self.process!r}.")

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript, in order; each image is looked at once, however often it is judged."""
        return [self.score(review(transcript)) for transcript in transcripts]

    def score(self, seen: Review) -> Score:
        """The score of a transcript that was already reviewed."""
        judged = seen.verdict
        terms: dict[str, float | None] = {"official": None, "strict": None, "soft": None}
        if judged is not None:
            terms = {"official": float(judged.correct), "strict": float(judged.strict), "soft": float(judged.soft)}
        is_judged = seen.reasons != (NOT_JUDGED,)
        pay = tuple(self.process * _shortfall(step) for step in seen.steps) if is_judged else ()
        return Score(total=terms[self.outcome], terms=terms, steps=seen.steps, pay=pay)


def _shortfall(step: Mapping[str, float | None]) -> float:
    """What an emission lacks to be right, in [-1, 0]; what a refinement makes good, in [-1, 1]."""
    return sum((value or 0.0) - (name != "refine") for name, value in step.items())
