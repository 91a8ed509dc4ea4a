"""What a model's own understanding is worth as a critic: how well its probabilities tell right from wrong."""

import numpy as np
import pytest

from strokes.agents.load import SHIPPED
from strokes.agents.rollout import chunks, rollout
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.agents.understanding import Understanding
from strokes.envs.scenes.tasks import sample_task
from strokes.rewards.critics import AnsweringCritic, outcome_of, queries_of
from strokes.rewards.exact import ExactCritic


def auc(said, truth):
    """Share of (right, wrong) pairs that stand in the right order; ties count half."""
    right, wrong = said[truth == 1][:, None], said[truth == 0][None]
    return float((right > wrong).mean() + (right == wrong).mean() / 2)


@pytest.mark.slow
def test_the_shipped_model_tells_right_from_wrong_no_better_than_chance():
    """docs/judges.md says so; a model that learnt to answer would have to be praised there."""
    rng = np.random.default_rng(0)
    tasks = [sample_task(rng) for _ in range(120)]
    (chunk,) = chunks([(task.prompt, task.meta) for task in tasks], seed=1, chunk_size=120)
    painter = ScriptedPainter(Habits(error_rate=0.5, plan_error_rate=0.4))
    drawn = [trajectory.transcript for trajectory in rollout(painter, chunk)]
    queries = [query for transcript in drawn for query in queries_of(transcript).values()]
    queries += [query for transcript in drawn if (query := outcome_of(transcript.cut(2))) is not None]
    truth = np.array([judgement.p_yes for judgement in ExactCritic().judge(queries)])
    said = np.array([judgement.p_yes for judgement in AnsweringCritic(Understanding.load(SHIPPED)).judge(queries)])
    for kind in ("plan", "sketch", "outcome"):
        mine = np.array([query.kind == kind for query in queries])
        found = auc(said[mine], truth[mine])
        print(f"{kind}: AUC {found:.3f} of {mine.sum()}")
        assert found < 0.6
