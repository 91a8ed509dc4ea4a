"""Our environments pass the tests that users can subclass, and the tests catch what they are for."""

import dataclasses

import gymnasium as gym
import pytest

from strokes.envs import CanvasEnv, Score
from strokes.envs.testing import EnvConformance, RewardConformance, sample_transcripts
from strokes.envs.wrappers import Critic, RecordTranscripts


class TestCanvas(EnvConformance):
    def make_env(self):
        return gym.make("strokes/Canvas-v0", size=16).unwrapped


class TestScenes(EnvConformance):
    def make_env(self):
        return gym.make("strokes/Scenes-v0").unwrapped


class TestCanvasWithOptions(EnvConformance):
    def make_env(self):
        kwargs = {"size": 32, "budget": 9, "inspect_refined": True, "stop_after_image": True, "scoring": "deferred"}
        return gym.make("strokes/Scenes-v0", **kwargs).unwrapped


class TestWrappedCanvas(EnvConformance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "t.jsonl"

    def make_env(self):
        return RecordTranscripts(Critic(gym.make("strokes/Canvas-v0", size=16), lambda transcript: "Hm."), self.path)


class Constant:
    """The least a reward can be."""

    names = ("seen",)

    def __call__(self, transcripts):
        return [Score(total=None, terms={"seen": 1.0}, steps=[{}] * len(t.emissions)) for t in transcripts]


class TestConstant(RewardConformance):
    def make_reward(self):
        return Constant()


@pytest.mark.parametrize(
    ("change", "test"),
    [
        (lambda s: dataclasses.replace(s, total=float("nan")), "test_there_is_one_well_formed_score_per_transcript"),
        (lambda s: dataclasses.replace(s, steps=[]), "test_there_is_one_well_formed_score_per_transcript"),
        (lambda s: dataclasses.replace(s, terms={"secret": 1.0}), "test_declared_names_cover_all_terms"),
    ],
)
def test_rewards_that_do_not_conform_are_caught(change, test):
    class Wrong(Constant):
        def __call__(self, transcripts):
            return [change(score) for score in super().__call__(transcripts)]

    suite = RewardConformance()
    suite.make_reward = Wrong
    with pytest.raises(AssertionError):
        getattr(suite, test)()


def test_an_env_that_truncates_by_itself_is_caught():
    class Impatient(CanvasEnv):
        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, False, True, info

    suite = EnvConformance()
    suite.make_env = Impatient
    with pytest.raises(AssertionError):
        suite.test_an_illegal_emission_costs_budget_says_why_and_changes_nothing_else()


def test_sample_transcripts_are_of_every_kind():
    kinds = sample_transcripts(16)
    assert kinds[0].emissions == [] and kinds[-1].ended is not None
    sources = {entry.source for t in kinds for entry in t.emissions}
    assert sources == {"policy", "critic"} and any(entry.error for entry in kinds[-1].emissions)
