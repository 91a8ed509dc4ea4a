"""The policies of this package pass the conformance tests that it offers to users."""

from strokes.agents.random_legal import RandomLegal
from strokes.agents.scripted import TEACHING, ScriptedPainter
from strokes.envs.testing import PolicyConformance


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
