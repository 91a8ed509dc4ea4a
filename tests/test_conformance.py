"""The policies and rewards of this package pass the conformance tests that it offers to users."""

from strokes.agents.random_legal import RandomLegal
from strokes.agents.scripted import TEACHING, ScriptedPainter
from strokes.envs.testing import PolicyConformance, RewardConformance, play, sample_transcripts
from strokes.rewards import Economy, Grammar, Length, SceneReward, Sum


class TestScriptedPainter(PolicyConformance):
    prompt = "a red circle left of a blue square, and two green stars"

    def make_policy(self):
        return ScriptedPainter()


class TestPainterThatErrs(PolicyConformance):
    prompt = "three pink hearts"

    def make_policy(self):
        return ScriptedPainter(TEACHING)


class TestPainterOutsideItsLanguage(PolicyConformance):
    prompt = "a wizard's tower at dusk"

    def make_policy(self):
        return ScriptedPainter()


class TestRandomLegal(PolicyConformance):
    def make_policy(self):
        return RandomLegal()


class Judged(RewardConformance):
    """Adds drawings that the scenes' reward can judge."""

    def make_transcripts(self):
        painted = play(ScriptedPainter(TEACHING), PolicyConformance().make_env(), (1,))
        return [*sample_transcripts(), painted, painted.cut(3)]


class TestSceneReward(Judged):
    def make_reward(self):
        return SceneReward()


class TestForm(Judged):
    def make_reward(self):
        return Sum(parts={"grammar": Grammar(), "length": Length(), "economy": Economy()})


class TestSum(Judged):
    def make_reward(self):
        return Sum(parts={"scene": SceneReward(), "grammar": Grammar()}, weights={"grammar": 0.1})
