"""Sums of rewards: what is missing stays missing."""

import copy
import math
import pickle

import pytest

from strokes.envs.protocols import Cost, Reward, Score
from strokes.envs.transcript import Transcript
from strokes.rewards import Grammar, SceneReward, Sum


class Fixed:
    """A reward that always says the same."""

    def __init__(self, total, terms=None, steps=(), names=()):
        self.score, self.names = Score(total=total, terms=terms or {}, steps=steps), names

    def __call__(self, transcripts):
        return [self.score for _ in transcripts]


EMPTY = Transcript(prompt="a star", size=48)


def total(*totals, **weights):
    parts = {name: Fixed(value) for name, value in zip("abc", totals, strict=False)}
    return Sum(parts=parts, weights=weights)([EMPTY])[0].total


def test_totals_are_weighted_and_summed():
    assert total(1.0, 0.5) == 1.5
    assert total(1.0, 0.5, b=0.1) == pytest.approx(1.05)
    assert total(1.0, 0.5, b=-1) == 0.5
    assert total(0.0, 0.0) == 0


def test_a_missing_verdict_is_missing_and_never_zero():
    assert total(None, 1.0) is None and total(math.nan, 1.0) is None
    assert total(None, 1.0, a=0) == 1.0  # what weighs nothing may be missing
    (score,) = Sum(parts={"a": Fixed(None, {"x": None, "y": math.nan, "z": 0.5})})([EMPTY])
    assert score.terms == {"a": None, "a/x": None, "a/y": None, "a/z": 0.5}


def test_terms_are_merged_under_names_of_their_own_and_steps_are_weighted():
    a = Fixed(1.0, {"x": 0.2}, ({"plan": 1.0}, {"plan": None}))
    b = Fixed(1.0, {"x": 0.4}, ({"plan": 0.5}, {}))
    (score,) = Sum(parts={"a": a, "b": b}, weights={"b": 0.5})([EMPTY])
    assert score.terms == {"a": 1.0, "b": 1.0, "a/x": 0.2, "b/x": 0.4}
    assert score.steps == ({"a/plan": 1.0, "b/plan": 0.25}, {"a/plan": None})


def test_what_emissions_earn_is_weighted_and_summed():
    a = Score(total=1.0, steps=({"plan": 1.0}, {"plan": 0.5}), pay=(0.0, -0.5))
    b = Score(total=1.0, steps=({"x": 0.25, "y": 0.5}, {}))
    assert [a.earned(1), b.earned(0), b.earned(1), Score(total=1.0).earned(5)] == [-0.5, 0.75, 0, 0]
    (score,) = Sum(parts={"a": lambda _: [a], "b": lambda _: [b]}, weights={"a": 2})([EMPTY])
    assert score.pay == (0.75, -1.0)


def test_an_emission_with_a_missing_verdict_earned_something_unknown():
    known = Score(total=1.0, steps=({"plan": 1.0}, {"plan": 0.5}, {}), pay=(0.0, -0.5, 0.0))
    half = Score(total=1.0, steps=({"x": 0.25, "y": math.nan}, {"x": None}, {}))
    told = Score(total=1.0, steps=({"x": None}, {"x": 1.0}, {}), pay=(None, 0.25, 0.0))
    assert [half.is_missing(k) for k in range(3)] == [True, True, False]
    assert [told.is_missing(k) for k in range(3)] == [True, False, False] and told.earned(0) == 0
    assert Score(total=1.0, pay=(math.nan,)).earned(0) == 0
    (score,) = Sum(parts={"a": lambda _: [known], "b": lambda _: [half]})([EMPTY])
    assert score.pay == (None, None, 0.0)
    (score,) = Sum(parts={"a": lambda _: [known], "b": lambda _: [half]}, weights={"b": 0})([EMPTY])
    assert score.pay == (0.0, -0.5, 0.0)  # what weighs nothing may be missing


def test_the_cost_of_verdicts_adds_up():
    part = Score(total=1.0, cost=Cost(calls=2, remote_tokens=30))
    (score,) = Sum(parts={"a": lambda _: [part], "b": lambda _: [part]})([EMPTY])
    assert score.cost == Cost(calls=4, remote_tokens=60)


def test_a_part_without_steps_says_nothing_about_them():
    (score,) = Sum(parts={"a": Fixed(1.0), "b": Fixed(1.0, steps=({"x": 1.0},))})([EMPTY])
    assert score.steps == ({"b/x": 1.0},)


def test_names_are_declared():
    reward = Sum(parts={"scene": SceneReward(), "form": Grammar(), "plain": Fixed(0.0)})
    assert reward.names[:4] == ("scene", "form", "plain", "scene/official") and "form/grammar" in reward.names


def test_sums_are_batched_and_nest():
    inner = Sum(parts={"a": Fixed(1.0)})
    scores = Sum(parts={"sum": inner, "b": Fixed(2.0)})([EMPTY] * 3)
    assert [score.total for score in scores] == [3.0] * 3 and scores[0].terms["sum/a"] == 1.0


def test_a_sum_is_a_reward_and_a_value():
    reward = Sum(parts={"scene": SceneReward(), "form": Grammar()}, weights={"form": 0.1})
    assert isinstance(reward, Reward)
    assert copy.deepcopy(reward) == reward == pickle.loads(pickle.dumps(reward))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": {}}, "at least one part"),
        ({"parts": {"a": Fixed(1.0)}, "weights": {"b": 1.0}}, "weights of a, got b"),
        ({"parts": {"a": Fixed(1.0)}, "weights": {"a": math.inf}}, "finite weight"),
        ({"parts": {"a/b": Fixed(1.0)}}, "without '/'"),
    ],
)
def test_impossible_sums_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sum(**options)
