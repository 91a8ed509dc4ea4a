"""Best of several, whoever judges: a missing verdict loses to any, and verdicts are paid for like drawings."""

import numpy as np
import pytest

from strokes.agents.rollout import Rules, chunks, play, rollout
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.agents.search import BestOfN
from strokes.envs import Transcript
from strokes.envs.protocols import Cost, Score
from strokes.rewards.exact import ExactCritic
from strokes.rewards.judged import JudgedReward
from strokes.rewards.scenes import SceneReward
from strokes.rewards.score import Sum

PROMPT = "a red circle left of a blue square"
SEED = (0, 0, 0, 0)
VERDICT = Cost(calls=2, remote_tokens=30, seconds=0.5)


class Judge:
    """Says what it is given, in turn; each verdict costs."""

    def __init__(self, *totals):
        self.totals = totals

    def __call__(self, transcripts):
        return [Score(total=total, cost=VERDICT) for total, _ in zip(self.totals, transcripts, strict=True)]


def painter():
    return ScriptedPainter(Habits(error_rate=0.5))


def members(n):
    """The drawings among which a search of ``n`` chooses."""
    transcripts = [Transcript(prompt=PROMPT, size=48) for _ in range(n)]
    play(painter(), transcripts, [(*SEED, member) for member in range(n)], Rules())
    return transcripts


def search(score_fn, n):
    (chunk,) = chunks([PROMPT], seed=0)
    assert chunk[0].seed == SEED
    return rollout(BestOfN(painter(), n, score_fn), chunk)[0]


@pytest.mark.parametrize(
    ("totals", "best"),
    [
        ((0.2, 0.9, 0.4), 1),
        ((None, -5.0, None), 1),
        ((None, None, 0.0), 2),
        ((0.5, 0.5, None), 0),
        ((None, None, None), 0),
    ],
)
def test_the_best_is_kept_and_no_verdict_loses_to_any(totals, best):
    drawn = search(Judge(*totals), 3)
    every = members(3)
    assert len({len(each.emissions) for each in every}) > 1  # they can be told apart
    assert drawn.transcript.emissions == every[best].emissions


def test_every_verdict_is_on_the_bill_and_only_once():
    drawn = search(Judge(None, 0.3, 0.1, 0.2), 4)
    assert (drawn.cost.calls, drawn.cost.remote_tokens) == (8, 120)
    assert drawn.replies[0].cost.calls == 8 and all(reply.cost == Cost() for reply in drawn.replies[1:])


def test_any_reward_may_judge():
    class Dark:
        """A plain callable; it costs nothing and speaks of no steps."""

        def __call__(self, transcripts):
            return [Score(total=-float(np.mean(each.canvas))) for each in transcripts]

    def strict(transcripts):
        return SceneReward(outcome="strict")(transcripts)

    judged = JudgedReward(critic=ExactCritic(), is_outcome_only=True)
    for score_fn in (Dark(), strict, SceneReward(), Sum(parts={"scene": SceneReward(), "judged": judged})):
        drawn = search(score_fn, 3)
        values = [score.total for score in score_fn(members(3))]
        assert score_fn([drawn.transcript])[0].total == pytest.approx(max(values))
        assert drawn.cost.calls == 0
