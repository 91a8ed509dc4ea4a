"""Which emission is credited with what, and how far it is from its group; numbers by hand."""

import math

import numpy as np
import pytest

from strokes.agents.trajectory import Trajectory
from strokes.envs.protocols import Reply, Score
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Ending, Entry, Transcript
from strokes.rl.advantage import Combined, Improvement, Outcome, RewardToGo, Signal, advantages

PLAN, SKETCH, INSPECT, REFINE, STOP = Stage
ONE, TWO = (PLAN, SKETCH, INSPECT, STOP), (PLAN, SKETCH, INSPECT, REFINE, STOP)
EPSILON = 1e-4


def drawing(*stages, total=None, pay=(), progress=(), ended=None, critic=()):
    """A trajectory of these stages; those numbered in ``critic`` came from outside."""
    contents = [np.zeros((2, 2, 3), np.uint8) if stage.is_image else "" for stage in stages]
    entries = [
        Entry(stage=stage, content=content, source="critic" if k in critic else "policy")
        for k, (stage, content) in enumerate(zip(stages, contents, strict=True))
    ]
    return Trajectory(
        transcript=Transcript(prompt="a circle", size=2, emissions=entries, ended=ended),
        replies=[None if k in critic else Reply(emission=Emission(*entry)) for k, entry in enumerate(entries)],
        score=None if total is None and not pay else Score(total=total, pay=pay),
        progress=list(progress),
    )


def outcomes(*values):
    return [[Signal(0, "outcome", value)] for value in values]


def firsts(found):
    return [float(each[0]) for each in found.values]


def test_everything_own_answers_for_the_outcome_and_words_from_outside_for_nothing():
    assert Outcome()(drawing(*TWO, total=0.5, critic=[2])) == [Signal(k, "outcome", 0.5) for k in (0, 1, 3, 4)]


def test_images_cost_their_price():
    rule = Outcome(price_per_image=0.1)
    assert [rule.value(drawing(*stages, total=0.5)) for stages in ((PLAN,), ONE, TWO)] == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    ("total", "ended", "expected"),
    [(1.0, Ending.STOP, 1.2), (0.99, Ending.STOP, 0.99), (1.0, Ending.BUDGET, 1.0), (1.0, None, 1.0)],
)
def test_the_bonus_is_for_stopping_on_a_right_canvas(total, ended, expected):
    assert Outcome(stop_bonus=0.2).value(drawing(*ONE, total=total, ended=ended)) == pytest.approx(expected)


def test_without_a_verdict_there_is_no_outcome():
    rule = Outcome(price_per_image=0.1, stop_bonus=0.2)
    assert rule.value(drawing(*ONE)) is None
    unjudged = drawing(*ONE, pay=[1, 2, 3, 4], ended=Ending.STOP)
    assert [s.value for s in (*rule(unjudged), *RewardToGo()(unjudged))] == [None] * 8


def test_rewards_to_go_are_what_comes_from_here_on_and_the_outcome():
    paid = drawing(PLAN, SKETCH, INSPECT, PLAN, SKETCH, STOP, total=1.0, pay=[1, 2, 4, 8, 16, 32])
    assert [s.value for s in RewardToGo()(paid)] == [64, 63, 61, 57, 49, 33]
    half = RewardToGo(discount=0.5, outcome=Outcome(price_per_image=0.25))
    assert [s.value for s in half(paid)] == [6.5, 10.5, 16.5, 24.5, 32.5, 32.5]
    slots = [("PLAN", 0), ("SKETCH", 0), ("INSPECT", 0), ("PLAN", 1), ("SKETCH", 1), ("STOP", 0)]
    assert [s.slot for s in half(paid)] == slots


def test_rewards_to_go_are_unknown_up_to_a_missing_verdict():
    paid = drawing(PLAN, SKETCH, INSPECT, STOP, total=1.0, pay=[0, None, -0.5, 0])
    assert [s.value for s in RewardToGo()(paid)] == [None, None, 0.5, 1.0]
    assert [s.value for s in Outcome()(paid)] == [1.0] * 4  # the outcome was judged


def test_rewards_to_go_skip_words_from_outside_but_not_what_they_earn():
    paid = drawing(PLAN, SKETCH, INSPECT, INSPECT, total=0.0, pay=[0, 0, 3, 1], critic=[2])
    assert RewardToGo()(paid) == [Signal(0, ("PLAN", 0), 4), Signal(1, ("SKETCH", 0), 4), Signal(3, ("INSPECT", 0), 1)]


def test_an_image_and_the_words_that_asked_for_it_share_what_it_improved():
    signals = Improvement()(drawing(*TWO, progress=[0, 0.5, 0.5, 0.25, 0.25]))
    assert signals == [
        Signal(0, ("PLAN", 0), 0.5),
        Signal(1, ("SKETCH", 0), 0.5),
        Signal(2, ("INSPECT", 0), -0.25),
        Signal(3, ("REFINE", 0), -0.25),
        Signal(4, ("STOP", 0), 0.0),
    ]


def test_stopping_answers_for_a_right_canvas_and_the_words_before_it_for_nothing():
    assert Improvement()(drawing(*ONE, progress=[0, 1, 1, 1])) == [
        Signal(0, ("PLAN", 0), 1),
        Signal(1, ("SKETCH", 0), 1),
        Signal(3, ("STOP", 0), 1.0),
    ]
    assert Improvement()(drawing(STOP)) == [Signal(0, ("STOP", 0), None)]


def test_an_image_without_a_verdict_is_measured_from_the_last_one_that_had_one():
    signals = Improvement()(drawing(*TWO, REFINE, progress=[0, 0.25, 0.25, None, None, 1]))
    assert [s.value for s in signals] == [0.25, 0.25, None, None, None, 0.75]


def test_improvement_needs_progress_where_there_are_images():
    with pytest.raises(ValueError, match="graded throughout, got no progress"):
        Improvement()(drawing(*ONE, total=1.0))
    assert Improvement()(drawing(PLAN, total=0.0)) == []


def test_combined_rules_are_compared_apart_and_add_up_by_weight():
    rule = Combined({"end": 1.0, "mine": 3.0}, end=Outcome(), mine=lambda t: [Signal(1, "x", 2.0, 0.5)])
    found = rule(drawing(PLAN, SKETCH, total=0.5))
    end = ("end", "outcome")
    assert found == [Signal(0, end, 0.5, 1.0), Signal(1, end, 0.5, 1.0), Signal(1, ("mine", "x"), 2.0, 1.5)]
    added = advantages([found, [Signal(1, end, 0.0), Signal(1, ("mine", "x"), 1.0)]], [2, 2], num_generations=2)
    unit = math.sqrt(0.5)
    by_end, by_mine = 0.25 / (unit / 2 + EPSILON), 0.5 / (unit + EPSILON)
    assert np.concatenate(added.values) == pytest.approx([by_end, by_end + 1.5 * by_mine, 0, -by_end - by_mine])


@pytest.mark.parametrize("weights", [{}, {"end": 1.0}, {"end": 1.0, "other": 1.0}])
def test_combined_rules_need_a_weight_each(weights):
    with pytest.raises(ValueError, match="a weight for each of end, mine"):
        Combined(weights, end=Outcome(), mine=RewardToGo())


def test_scales_are_those_of_the_group_of_all_votes_or_one():
    signals = outcomes(0.0, 1.0, 2.0, 6.0)
    for scale, by in (
        ("group", [math.sqrt(0.5)] * 2 + [math.sqrt(8)] * 2),
        ("batch", [math.sqrt((2.25**2 + 1.25**2 + 0.25**2 + 3.75**2) / 3)] * 4),
        ("none", [1 - EPSILON] * 4),
    ):
        expected = np.array([-0.5, 0.5, -2, 2]) / (np.array(by) + EPSILON)
        assert firsts(advantages(signals, [1] * 4, num_generations=2, scale=scale)) == pytest.approx(expected)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_verdicts_are_masked_and_counted(missing):
    found = advantages(outcomes(0.0, 1.0, missing), [1] * 3, num_generations=3, scale="none")
    assert (firsts(found), found.num_missing, found.share_idle) == ([-0.5, 0.5, 0.0], 1, 0.0)
    gone = advantages(outcomes(missing, missing, 0.0, 1.0), [1] * 4, num_generations=2, scale="none")
    assert (firsts(gone), gone.num_missing, gone.share_idle) == ([0.0, 0.0, -0.5, 0.5], 2, 0.5)
    alone = advantages(outcomes(missing, 1.0), [1] * 2, num_generations=2)
    assert (firsts(alone), alone.num_missing, alone.share_idle) == ([0.0, 0.0], 1, 1.0)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize(("value", "num_missing"), [(0.3, 0), (None, 4)])
def test_nothing_is_learnt_where_all_are_equal_or_all_are_missing(value, num_missing, scale):
    found = advantages(outcomes(*[value] * 4), [1] * 4, num_generations=2, scale=scale)
    assert (firsts(found), found.num_missing, found.share_idle) == ([0.0] * 4, num_missing, 1.0)


def test_a_trajectory_has_one_vote_in_a_slot_and_missing_ones_count_once():
    many = [Signal(0, "s", 0.0), Signal(1, "s", 1.0), Signal(2, "s", None)]
    found = advantages([many, [Signal(0, "s", 1.5)]], [3, 1], num_generations=2, scale="none")
    assert [each.tolist() for each in found.values] == [[-0.5] * 3, [0.5]] and found.num_missing == 0
    gone = advantages([[Signal(k, "s", None) for k in range(3)], []], [3, 0], num_generations=2)
    assert gone.num_missing == 1


def test_drawings_with_no_one_and_many_images_are_compared_image_by_image():
    group = [
        drawing(PLAN, total=0.0, pay=[0]),
        drawing(*ONE, total=0.0, pay=[0, 2, 0, 0]),
        drawing(*ONE[:3] * 4, STOP, total=0.0, pay=[0, 0, 0, *[0, 1, 0] * 3, 0]),
    ]
    found = advantages([RewardToGo()(t) for t in group], [1, 4, 13], num_generations=3, scale="none")
    none, one, many = (each.tolist() for each in found.values)
    assert none == pytest.approx([-5 / 3])
    assert one == pytest.approx([1 / 3, -0.5, -1.5, 0]) and many == pytest.approx([4 / 3, 0.5, 1.5, *[0] * 10])


def test_members_without_emissions_are_as_if_they_had_not_voted():
    found = advantages([*outcomes(0.0, 1.0), []], [1, 1, 0], num_generations=3, scale="none")
    assert [each.tolist() for each in found.values] == [[-0.5], [0.5], []] and found.num_missing == 0


@pytest.mark.parametrize(("count", "lengths", "group"), [(2, 2, 1), (2, 2, 0), (3, 3, 2), (2, 3, 2)])
def test_groups_of_one_wrong_multiples_and_lengths_are_refused(count, lengths, group):
    with pytest.raises(ValueError, match="groups of at least 2"):
        advantages([[]] * count, [0] * lengths, num_generations=group)


@pytest.mark.parametrize("emission", [-1, 1])
def test_a_signal_for_an_emission_that_is_not_there_is_refused(emission):
    with pytest.raises(ValueError, match=f"signals for 1 emissions, got one for {emission}"):
        advantages([[Signal(emission, "s", 1.0)], []], [1, 0], num_generations=2)


def test_a_rule_is_any_function():
    def fewer_words(trajectory):
        return [Signal(k, "words", -k) for k, entry, _ in trajectory.own() if not entry.stage.is_image]

    group = [drawing(*ONE), drawing(PLAN)]
    found = advantages([fewer_words(t) for t in group], [4, 1], num_generations=2, scale="none")
    by = 5 / 6
    assert found.values[0].tolist() == pytest.approx([-by, 0, -by, -by]) and found.values[1] == pytest.approx([by])


def test_a_missing_verdict_is_told_from_an_advantage_of_nothing():
    found = advantages([[Signal(0, "s", 1.0), Signal(1, "s", None)], [Signal(0, "s", 1.0)]], [3, 1], num_generations=2)
    assert [each.tolist() for each in found.is_judged] == [[True, False, False], [True]]
    assert all((each == 0).all() for each in found.values)
