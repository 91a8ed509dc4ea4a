"""Our rewards pass the conformance tests that users can subclass."""

import numpy as np

from strokes.agents.scripted import TEACHING, demonstrate
from strokes.envs.protocols import Reward
from strokes.envs.scenes.tasks import sample_task
from strokes.envs.testing import RewardConformance, sample_transcripts
from strokes.envs.transcript import Transcript
from strokes.rewards import Economy, Grammar, Length, SceneReward, Sum


class TestSceneReward(RewardConformance):
    def make_reward(self) -> Reward:
        return SceneReward()

    def make_transcripts(self) -> list[Transcript]:
        rng = np.random.default_rng(0)
        whole = [demonstrate(sample_task(rng), rng, 48, TEACHING) for _ in range(6)]
        return [*sample_transcripts(), *whole, *(t.cut(k) for t in whole[:2] for k in range(len(t.emissions)))]


class TestGrammar(RewardConformance):
    def make_reward(self) -> Reward:
        return Grammar()


class TestLength(RewardConformance):
    def make_reward(self) -> Reward:
        return Length(limit=20)


class TestEconomy(RewardConformance):
    def make_reward(self) -> Reward:
        return Economy()


class TestSum(TestSceneReward):
    def make_reward(self) -> Reward:
        parts = {"scene": SceneReward(outcome="strict"), "form": Grammar(), "length": Length(), "cost": Economy()}
        return Sum(parts=parts, weights={"form": 0.1, "length": 0.05, "cost": 0.05})
