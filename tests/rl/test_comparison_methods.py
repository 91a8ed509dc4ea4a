"""The methods of the comparison: what is searched, learnt and rewarded is what the tables take it for."""

from dataclasses import asdict
from functools import cache

import pytest

from strokes.rewards.parm import AnsweringVerifier, ExactVerifier, ParmReward
from strokes.rewards.scenes import SceneReward
from strokes.rl.comparison_methods import METHODS, RUNS, SIZES, VERIFIER
from strokes.rl.comparison_tables import FINDINGS
from strokes.rl.judges import make_reward
from strokes.rl.settings import Settings as TrainingSettings


@pytest.mark.parametrize("end", ["", "-oracle"])
def test_what_pruning_saves_is_drawn_by_the_same_judge(end):
    method = METHODS[f"parm-pruned-like-20{end}"]
    unit, like = METHODS[method.unit], METHODS[method.like]
    assert unit.policy[0] == method.policy[0] and (unit.verifier, like.policy[1]) == (method.verifier, "policy.n=20")
    drawn = [METHODS[f"{name}-like-strokes{end}"] for name in ("best-of", "parm")]
    assert {(each.like, each.unit, each.verifier) for each in drawn} == {("sft-inspect", "", method.verifier)}


def test_every_method_is_in_a_finding_and_every_run_in_a_method():
    pairs = [pair for _, *pair in FINDINGS]
    assert {name for pair in pairs for name in pair} == set(METHODS)
    assert ["parm-20-oracle", "best-of-20-oracle"] not in pairs  # of the same drawings the truth chooses the best
    assert {method.learns for method in METHODS.values()} - {""} == set(RUNS)
    assert {name for method in METHODS.values() for name in (method.like, method.unit)} - {""} <= set(METHODS)


@pytest.fixture(scope="module")
def learning(composed):
    """The settings of a run."""

    @cache
    def call(name, size="nano"):
        words = [word.replace(VERIFIER, "adapter") for word in RUNS[name]]
        own = [*SIZES[size].rl.get(name, ()), f"policy={SIZES[size].policy}", "out=unused"]
        return composed("rl", TrainingSettings, [*words, *own])

    return call


@pytest.mark.parametrize("name", RUNS)
def test_no_run_is_rewarded_by_what_evaluates_it_but_the_one_that_says_so(learning, name):
    settings = learning(name)
    reward = make_reward(settings.reward, settings.judge, settings.policy)
    if isinstance(reward, SceneReward):
        assert reward.outcome == "soft"
        return
    assert isinstance(reward, ParmReward)
    judge = {True: ExactVerifier, False: AnsweringVerifier}[name.endswith("-oracle")]
    assert type(reward.verifier) is judge
    if judge is AnsweringVerifier:
        assert reward.verifier.answerer.adapter == "adapter"


def test_the_control_of_potential_differs_in_nothing_else(learning):
    given, control = (asdict(learning(name)) for name in ("parm-potential", "parm-outcome"))
    assert control["reward"].pop("process") == 0 < given["reward"].pop("process")
    assert given == control


def test_rates_are_those_of_the_method_and_the_size(learning):
    assert learning("joint-stages", "tiny").flow.lr == learning("parm-outcome", "tiny").flow.lr == 5e-5
    for name in ("nft", "dpo"):
        assert learning(name, "tiny").flow.lr == learning(name).flow.lr != 5e-5
