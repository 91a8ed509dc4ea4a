"""Probabilities held against the truth, on numbers worked out by hand."""

import numpy as np
import pytest

from strokes.rewards.interval import resampled
from strokes.rl.calibration import auc, calibration, reliability

SAID = np.array([0.1, 0.4, 0.4, 0.8, 0.9, 0.9])
TRUTH = np.array([False, False, True, False, True, True])


def test_auc_counts_pairs_in_order_and_ties_half():
    # yes: .4 .9 .9, no: .1 .4 .8; pairs in order: .4 over .1, both .9 over all three; one tie: .4 and .4
    assert auc(SAID, TRUTH) == pytest.approx((1 + 0.5 + 6) / 9)
    assert auc(1 - SAID, TRUTH) == pytest.approx(1 - 7.5 / 9)
    assert auc(np.full(6, 0.5), TRUTH) == 0.5
    assert auc(SAID, np.ones(6, bool)) is None


def test_weights_are_copies():
    times = np.array([2, 0, 1, 3, 1, 0])
    copied = np.repeat(np.arange(6), times)
    assert auc(SAID, TRUTH, times.astype(float)) == pytest.approx(auc(SAID[copied], TRUTH[copied]))


def test_bins_hold_what_was_said_and_what_was_true():
    bins = reliability(np.array([0.0, 0.05, 0.1, 0.95, 1.0]), np.array([False, True, False, True, True]))
    assert [(each.low, each.num) for each in bins] == [(0.0, 2), (0.1, 1), (0.9, 2)]
    assert [each.said for each in bins] == pytest.approx([0.025, 0.1, 0.975])
    assert [each.true for each in bins] == [0.5, 0.0, 1.0]


def test_figures_worked_out_by_hand():
    found = calibration(SAID, TRUTH, list("aabbcc"), ["me"] * 6)
    assert (found.num, found.num_prompts, found.share) == (6, 3, 0.5)
    assert found.accuracy.mean == pytest.approx(4 / 6)
    assert found.brier.mean == pytest.approx((0.01 + 0.16 + 0.36 + 0.64 + 0.01 + 0.01) / 6)
    # bins: .1 none right; .4 twice, half of it right; .8 wrong; .9 twice, both right
    assert found.ece == pytest.approx((0.1 + 2 * 0.1 + 0.8 + 2 * 0.1) / 6)
    assert found.auc is not None and found.auc.mean == pytest.approx(7.5 / 9)
    assert found.skill is not None and found.skill.mean == pytest.approx(1 - found.brier.mean / 0.25)
    assert found.to_dict()["bins"][0] == {"low": 0.1, "num": 1, "said": 0.1, "true": 0.0}


def test_one_answer_alone_has_no_auc_and_one_prompt_no_interval():
    found = calibration([0.3, 0.7], [True, True], ["a", "a"], ["me", "me"])
    assert found.auc is None and found.skill is None and found.accuracy == (0.5, None, None)
    assert not found.is_learnt


def test_what_the_base_rate_says_has_no_skill_and_is_not_learnt():
    truth, names = [k % 4 == 0 for k in range(40)], [f"p{k % 13}" for k in range(40)]
    said = calibration([0.25] * 40, truth, names, ["me"] * 40)
    assert said.skill is not None and said.skill.mean == pytest.approx(0) and not said.is_learnt
    known = calibration([0.9 if right else 0.2 for right in truth], truth, names, ["me"] * 40)
    assert known.skill is not None and known.skill.mean > 0.5 and known.is_learnt


def test_nothing_to_hold_against_is_refused():
    with pytest.raises(ValueError, match="got 0, 0, 0, 0"):
        calibration([], [], [], [])


def test_answers_about_one_prompt_count_as_one():
    """Forty copies of each of four prompts say no more than the four."""
    values, names = np.tile([0.0, 1.0, 1.0, 1.0], 40), ["a", "b", "c", "d"] * 40

    def mean(weights):
        return float(np.average(values, weights=weights))

    alike, apart = resampled(names, mean), resampled([str(k) for k in range(160)], mean)
    assert alike is not None and apart is not None and alike.mean == apart.mean == 0.75
    assert alike.high - alike.low > 4 * (apart.high - apart.low)
    assert alike == resampled(names, mean)


def within(said, truth, prompts, painters=None):
    return calibration(said, truth, prompts, painters or ["me"] * len(said))


def test_order_within_prompts_is_that_of_one_prompt_and_painter():
    """An easy prompt is told from a hard one, and what was drawn of either is not: AUC .75, .5 within."""
    said, truth = [0.9] * 4 + [0.1] * 4, [True, True, True, False, True, False, False, False]
    for names in ({"prompts": list("aaaabbbb")}, {"prompts": ["a"] * 8, "painters": list("aaaabbbb")}):
        found = within(said, truth, **names)
        assert found.auc is not None and found.auc.mean == pytest.approx(0.75)
        assert found.auc_within is not None and found.auc_within.mean == 0.5
    many = within(said * 30, truth * 30, [f"{name}{k}" for k in range(30) for name in "aaaabbbb"])
    assert many.auc is not None and many.auc.low is not None and many.auc.low > 0.5 and not many.is_learnt


def test_a_prompt_counts_by_its_answers_and_not_by_their_pairs():
    # a: three of three pairs in order, 3 right and 1 wrong count 3/4; b: none of one, 1/2; c has no pair
    found = within([0.2, 0.3, 0.4, 0.1, 0.5, 0.6, 0.9], [1, 1, 1, 0, 1, 0, 1], list("aaaabbc")).auc_within
    assert found is not None and found.mean == pytest.approx(0.75 / 1.25)
    often = within([0.9, 0.1] * 10 + [0.1, 0.9], [1, 0] * 11, ["a"] * 20 + ["b"] * 2).auc_within
    assert often is not None and often.mean == pytest.approx(5 / 5.5)


def test_one_prompt_with_both_answers_is_no_evidence():
    found = within([0.9, 0.1] + [0.5] * 20, [True, False] + [True] * 20, ["a", "a", *(f"b{k}" for k in range(20))])
    assert found.auc_within == (1.0, None, None) and not found.is_learnt
    assert within([0.2, 0.8], [False, True], ["a", "b"]).auc_within is None
