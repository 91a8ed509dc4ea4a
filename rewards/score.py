"""Sum: several rewards as one. A missing verdict stays missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..envs.protocols import Cost, Reward, Score
from ..envs.transcript import Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The weighted sum of rewards.

    The total is ``Σ weight · total``, and ``None`` as soon as one part that weighs has no verdict: an
    episode that was only half judged must not be compared with episodes that were judged in full, so the
    learner masks it. Terms come as ``part/term``, totals as ``part``, unweighted; the terms of the emissions and
    what they earn are multiplied by the weight of their part; one whose earnings are not known earns nothing known.

    Example:
        >>> from strokes.rewards import Grammar, SceneReward, Sum
        >>> reward = Sum(parts={"scene": SceneReward(), "form": Grammar()}, weights={"form": 0.1})
        >>> reward.names[:3]
        ('scene', 'form', 'scene/official')
    """

    parts: Mapping[str, Reward]
    """Rewards by name."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights by name; 1 where none is given. A part of weight 0 is reported and neither summed nor paid."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("Expected at least one part, got none.")
        if unknown := set(self.weights) - set(self.parts):
            raise ValueError(f"Expected weights of {', '.join(self.parts)}, got {', '.join(sorted(unknown))}.")
        for name, weight in self.weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"Expected a finite weight of {name!r}, got {weight!r}.")
        if slashed := [name for name in self.parts if "/" in name]:
            raise ValueError(f"Expected names of parts without '/', got {slashed[0]!r}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Every term this reward can give."""
        inner = [f"{part}/{name}" for part, reward in self.parts.items() for name in getattr(reward, "names", ())]
        return (*self.parts, *inner)

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript, in order."""
        columns = {name: reward(transcripts) for name, reward in self.parts.items()}
        return [self._sum({name: scores[k] for name, scores in columns.items()}) for k in range(len(transcripts))]

    def _sum(self, scores: Mapping[str, Score]) -> Score:
        total: float | None = 0.0
        terms: dict[str, float | None] = {}
        steps: list[dict[str, float | None]] = [{} for _ in range(max(len(s.steps) for s in scores.values()))]
        pay: list[float | None] = [0.0] * len(steps)
        for part, score in scores.items():
            weight = self.weights.get(part, 1.0)
            value = _known(score.total)
            if weight:
                total = None if total is None or value is None else total + weight * value
            terms[part] = value
            terms |= {f"{part}/{name}": _known(term) for name, term in score.terms.items()}
            for k, given in enumerate(score.steps):
                so_far = pay[k]
                is_known = so_far is not None and not (weight and score.is_missing(k))
                pay[k] = so_far + weight * score.earned(k) if so_far is not None and is_known else None
                for name, term in given.items():
                    known = _known(term)
                    steps[k][f"{part}/{name}"] = None if known is None else weight * known
        cost = sum((score.cost for score in scores.values()), Cost())
        return Score(total=total, terms=terms, steps=tuple(steps), pay=tuple(pay), cost=cost)


def _known(value: float | None) -> float | None:
    """A verdict as a float; NaN is no verdict."""
    return None if value is None or math.isnan(value) else float(value)
