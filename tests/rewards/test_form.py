"""Rewards of form."""

import numpy as np
import pytest

from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Transcript
from strokes.rewards import Economy, Grammar, Length

BLANK = np.full((16, 16, 3), 255, np.uint8)
PLAN = "<ins>x</ins><des>y</des>"


def told(*emissions: tuple[Stage, str | np.ndarray]) -> Transcript:
    transcript = Transcript(prompt="a star", size=16)
    for stage, content in emissions:
        transcript.record(Emission(stage, content))
    return transcript


LEGAL = ((Stage.PLAN, PLAN), (Stage.SKETCH, BLANK), (Stage.INSPECT, "fine"))


@pytest.mark.parametrize("reward", [Grammar(), Length(), Economy()])
def test_an_empty_transcript_has_no_verdict(reward):
    (score,) = reward([told()])
    assert score.total is None and list(score.steps) == []


@pytest.mark.parametrize("reward", [Grammar(), Length(), Economy()])
def test_words_from_outside_are_not_judged(reward):
    transcript = told()
    transcript.interject("x" * 2000)
    (score,) = reward([transcript])
    assert score.total is None and list(score.steps) == [{}]


def test_grammar_is_the_share_of_legal_emissions():
    full, mixed, none = told(*LEGAL), told(LEGAL[0], (Stage.STOP, "")), told((Stage.STOP, ""), (Stage.PLAN, "no tags"))
    scores = Grammar()([full, mixed, none])
    assert [score.total for score in scores] == [1, 0.5, 0]
    assert [list(score.steps) for score in scores] == [
        [{"grammar": 0}] * 3, [{"grammar": 0}, {"grammar": -1}], [{"grammar": -1}] * 2,
    ]  # fmt: skip


def test_length_falls_from_the_limit_to_twice_the_limit():
    texts = [told(*LEGAL[:2], (Stage.INSPECT, "x" * n)) for n in (24, 36, 48, 100)]
    scores = Length(limit=24)(texts)  # the plan has 24 characters
    assert [score.total for score in scores] == [1, 0.75, 0.5, 0.5]
    assert list(scores[1].steps) == [{"length": 0}, {}, {"length": -0.5}]
    assert Length(limit=1)([told(LEGAL[0])])[0].total == 0


def test_length_says_nothing_of_illegal_texts():
    (score,) = Length(limit=4)([told((Stage.INSPECT, "x" * 99))])
    assert score.total is None and list(score.steps) == [{}]


def test_economy_falls_with_images():
    rounds = [(Stage.PLAN, PLAN), (Stage.SKETCH, BLANK), (Stage.INSPECT, "fine")]
    scores = Economy(free=1, limit=3)([told(*rounds * n) for n in (1, 2, 3, 4)])
    assert [score.total for score in scores] == [1, 0.5, 0, 0]
    paid = [step["economy"] for step in scores[3].steps if step]
    assert paid == [0, -0.5, -0.5, 0] and len(scores[3].steps) == 12


@pytest.mark.parametrize("build", [lambda: Length(limit=0), lambda: Economy(free=3, limit=3), lambda: Economy(free=-1)])
def test_impossible_limits_are_refused(build):
    with pytest.raises(ValueError, match="Expected"):
        build()
