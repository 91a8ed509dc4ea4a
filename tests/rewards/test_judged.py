"""The reward that critics give."""

import copy
import pickle

import numpy as np
from drawn import BOTH, CIRCLE, DONE, FAULT, GREEN, HALF, REST, SQUARE, Says, draw, said, told

from strokes.agents.scripted import TEACHING, demonstrate
from strokes.envs.protocols import Reward
from strokes.envs.scenes.tasks import sample_task
from strokes.envs.testing import RewardConformance, sample_transcripts
from strokes.envs.transcript import Transcript
from strokes.rewards.critics import Judgement, RemoteCritic
from strokes.rewards.exact import ExactCritic
from strokes.rewards.judged import JudgedReward


def score(transcript, critic=None, **options):
    reward: Reward = JudgedReward(critic=critic or ExactCritic(), **options)
    (found,) = reward([transcript])
    assert len(found.steps) == len(found.pay) == len(transcript.emissions)
    return found


def test_a_faultless_drawing_earns_nothing_on_its_way_and_one_in_the_end():
    found = score(told(HALF, draw(CIRCLE), "the sketch follows the plan", REST, draw(CIRCLE, SQUARE), DONE))
    assert found.total == 1 and found.pay == (0,) * 6
    assert found.steps[2] == {"inspect": 1.0}


def test_faults_cost_and_a_refinement_makes_good():
    found = score(told(BOTH, draw(CIRCLE, GREEN), FAULT, draw(CIRCLE, SQUARE)), process=0.5)
    assert found.steps == ({"plan": 1}, {"sketch": 0}, {"inspect": 1}, {"refine": 1})
    assert found.pay == (0, -0.5, 0, 0.5) and found.total == 1
    missed = score(told(BOTH, draw(CIRCLE, GREEN), DONE))
    assert missed.steps[2] == {"inspect": 0} and missed.pay[2] == -0.5 and missed.total == 0


def test_a_drawing_that_ended_without_an_image_is_wrong_and_one_under_way_is_not_judged():
    assert score(told(HALF)).total == 0
    assert score(told(HALF, ended=None)).total is None


class Silent(ExactCritic):
    """Knows everything and does not speak of one kind."""

    def __init__(self, kind):
        self.kind = kind

    def judge(self, queries):
        known = super().judge(queries)
        return [Judgement(p_yes=None) if q.kind == self.kind else j for q, j in zip(queries, known, strict=True)]


def test_a_missing_verdict_is_missing_wherever_it_counts():
    drawing = told(BOTH, draw(CIRCLE, GREEN), FAULT, draw(CIRCLE, SQUARE))
    found = score(drawing, Silent("sketch"))
    assert found.steps == ({"plan": 1}, {"sketch": None}, {"inspect": None}, {"refine": None})
    assert [found.is_missing(k) for k in range(4)] == [False, True, True, True] and found.total == 1
    assert score(drawing, Silent("outcome")).total is None
    planless = score(drawing, Silent("plan"))
    assert planless.steps == ({"plan": None}, {"sketch": 0}, {"inspect": None}, {"refine": None})


def test_choosing_among_drawings_needs_the_outcome_alone():
    judge = Says(said("yes"))
    found = score(told(BOTH, draw(CIRCLE, SQUARE), DONE), RemoteCritic(judge), is_outcome_only=True)
    assert [request.question.name for request in judge.asked] == ["outcome"]
    assert found.total == 1 and found.pay[:2] == (0, 0) and found.cost.calls == 2


def test_the_reward_travels():
    reward = JudgedReward(critic=ExactCritic())
    drawing = told(BOTH, draw(CIRCLE, GREEN))
    for other in (copy.deepcopy(reward), pickle.loads(pickle.dumps(reward))):
        assert other([drawing]) == reward([drawing])


class TestJudgedReward(RewardConformance):
    def make_reward(self) -> Reward:
        return JudgedReward(critic=ExactCritic())

    def make_transcripts(self) -> list[Transcript]:
        rng = np.random.default_rng(0)
        whole = [demonstrate(sample_task(rng), rng, 48, TEACHING) for _ in range(6)]
        return [*sample_transcripts(), *whole, *(t.cut(k) for t in whole[:2] for k in range(len(t.emissions)))]
