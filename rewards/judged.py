"""JudgedReward: what critics say of a transcript, as a reward for its outcome and for every stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..envs.protocols import Cost, Score
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from .critics import Critic, Judgement, asks, outcome_of, queries_of

Judgements = Mapping[int, Judgement]
"""By emission."""
OUTCOME = -1
"""Stands for the outcome among emissions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedReward:
    """How well critics find the picture, and every stage on the way to it.

    Terms of emissions, in [0, 1] unless said otherwise:

    * ``plan``: the probability that the plan is true to the prompt; what it leaves for later is not wrong.
    * ``sketch``: the probability that the sketch is true to its plan.
    * ``inspect``: 1 where it asks for a correction exactly if plan or sketch was found wrong, else 0; asks no judge.
    * ``refine``: by how much more probably the image is true to its plan than the one before, in [-1, 1]; 0 where it
      was the plan that was wrong, for then the plan is no measure.

    The outcome is the probability that the picture is what the prompt asked for, 0 where a drawing ended without one.
    What an emission earns is its shortfall, ``process`` times (verdict - 1), as with ``SceneReward``. A verdict that
    could not be had is ``None`` everywhere, and so is what depends on it: the learner leaves it out. Everything is
    asked at once, refinements of plans that turn out wrong too.
    """

    critic: Critic
    process: float = 0.5
    """What an emission that is wholly wrong costs, in units of the outcome; the default of exact rewards in RL."""
    is_outcome_only: bool = False
    """Whether nothing is asked about emissions, which then earn nothing: enough to choose among drawings."""
    names: ClassVar[tuple[str, ...]] = ("outcome", "plan", "sketch", "inspect", "refine")

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript; everything is asked at once."""
        judged = judge_all(self.critic, transcripts, is_outcome_only=self.is_outcome_only)
        return [self._score(transcript, given) for transcript, given in zip(transcripts, judged, strict=True)]

    def _score(self, transcript: Transcript, judged: Judgements) -> Score:
        steps, pay = list[Mapping[str, float | None]](), list[float | None]()
        state = _Round()
        for k, entry in enumerate(transcript.emissions):
            term = state.take(entry, judged.get(k))
            steps.append({} if term is None else {entry.stage.name.lower(): term.value})
            pay.append(0.0 if term is None else term.pay(self.process))
        total = judged[OUTCOME].p_yes if OUTCOME in judged else (None if transcript.ended is None else 0.0)
        cost = sum((judgement.cost for judgement in judged.values()), Cost())
        return Score(total=total, terms={"outcome": total}, steps=tuple(steps), pay=tuple(pay), cost=cost)


def judge_all(
    critic: Critic, transcripts: Sequence[Transcript], *, is_outcome_only: bool = False
) -> list[dict[int, Judgement]]:
    """What a critic says of every plan, sketch and refinement, by emission, and of each outcome, under ``OUTCOME``.

    For labels of training data as much as for rewards.
    """
    asked = []
    for i, transcript in enumerate(transcripts):
        outcome = outcome_of(transcript)
        asked += [] if is_outcome_only else [(i, k, query) for k, query in queries_of(transcript).items()]
        asked += [] if outcome is None else [(i, OUTCOME, outcome)]
    result: list[dict[int, Judgement]] = [{} for _ in transcripts]
    judgements = critic.judge([query for _, _, query in asked])
    for (i, k, _), judgement in zip(asked, judgements, strict=True):
        result[i][k] = judgement
    return result


@dataclass(frozen=True, slots=True)
class _Term:
    """What one emission is worth."""

    value: float | None
    is_gain: bool = False
    """Whether it is a change and not a verdict: then there is no shortfall."""

    def pay(self, process: float) -> float | None:
        return None if self.value is None else process * (self.value - (not self.is_gain))


@dataclass(slots=True)
class _Round:
    """Where a drawing stands: what was said of its plan and of its last image."""

    plan: Judgement | None = None
    image: Judgement | None = None

    def take(self, entry: Entry, judgement: Judgement | None) -> _Term | None:
        """The term of the next emission; ``None``: it has none."""
        if entry.error or entry.outside or entry.stage is Stage.STOP:
            return None
        if entry.stage is Stage.INSPECT:
            return self._inspect(entry)
        if judgement is None:
            return None  # not asked about
        if entry.stage is Stage.PLAN:
            self.plan, self.image = judgement, None
            return _Term(judgement.p_yes)
        before, self.image = self.image, judgement
        return _Term(judgement.p_yes) if entry.stage is Stage.SKETCH else self._refine(before, judgement)

    def _inspect(self, entry: Entry) -> _Term | None:
        if self.plan is None or self.image is None:
            return None
        if self.plan.is_right is None or self.image.is_right is None:
            return _Term(None)
        return _Term(float(asks(entry) != (self.plan.is_right and self.image.is_right)))

    def _refine(self, before: Judgement | None, after: Judgement) -> _Term | None:
        if self.plan is None or before is None:
            return None
        if self.plan.is_right is False:
            return _Term(0.0, is_gain=True)
        if self.plan.is_right is None or before.p_yes is None or after.p_yes is None:
            return _Term(None, is_gain=True)
        return _Term(after.p_yes - before.p_yes, is_gain=True)
