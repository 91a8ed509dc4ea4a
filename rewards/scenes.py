"""SceneReward: exact rewards on the mini-world, for the outcome and for every stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..envs.protocols import Score
from ..envs.transcript import Transcript
from .review import Review, review

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
    language or changes nothing (idling must not pay), and the outcome before the first image.
    """

    names: ClassVar[tuple[str, ...]] = ("official", "strict", "soft", "plan", "sketch", "inspect", "refine")
    outcome: str = "soft"
    """Which term is the total; soft, because a group of drawings that all fail strictly would teach nothing."""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"Expected an outcome among {', '.join(OUTCOMES)}, got {self.outcome!r}.")

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript, in order; each image is looked at once, however often it is judged."""
        return [self.score(review(transcript)) for transcript in transcripts]

    def score(self, seen: Review) -> Score:
        """The score of a transcript that was already reviewed."""
        judged = seen.verdict
        terms: dict[str, float | None] = {"official": None, "strict": None, "soft": None}
        if judged is not None:
            terms = {"official": float(judged.correct), "strict": float(judged.strict), "soft": float(judged.soft)}
        return Score(total=terms[self.outcome], terms=terms, steps=seen.steps)
