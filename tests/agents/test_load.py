"""Settings become policies, and the settings agree with what they say they come from."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strokes.agents.load import load_policy

GOLDEN = Path(__file__).parents[1] / "golden" / "bagel" / "checkpoint"


def settings_of(name, *overrides):
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("draw", [f"policy={name}", *overrides])
    return OmegaConf.to_container(config.policy, resolve=True)


def load(name, *overrides):
    settings = settings_of(name, *overrides)
    return load_policy(settings, steps=settings["steps"], guidance=settings["guidance"])


def test_the_painters_habits_are_those_of_demonstrations():
    from strokes.agents.scripted import TEACHING

    assert load("scripted").habits == TEACHING


def test_the_settings_of_bagel_are_its_recommendation():
    from strokes.agents.bagel.generate import Sampling

    policy = load("bagel", f"policy.path={GOLDEN}", "policy.dtype=float32", "policy.device=cpu")
    assert policy.pictures.sampling == Sampling()


def test_the_settings_of_the_tiny_model_are_those_measured():
    from strokes.agents.interleaved import TINY

    assert load("bagel-tiny", f"policy.path={GOLDEN}").pictures.sampling == TINY


def test_one_shot_samples_as_the_tiny_model_does():
    from strokes.agents.interleaved import TINY
    from strokes.agents.one_shot import OneShot

    policy = load("one-shot", f"policy.path={GOLDEN}")
    assert isinstance(policy, OneShot) and policy.pictures.sampling == TINY


def test_best_of_n_needs_a_judge():
    settings = settings_of("best-of-n", f"policy.path={GOLDEN}")
    policy = load_policy(settings, steps=12, guidance=3.0, score_fn=list)
    assert (policy.n, policy.score_fn) == (4, list)
    with pytest.raises(ValueError, match="a judge"):
        load_policy(settings, steps=12, guidance=3.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bagel"], "policy.path"),
        (["bagel", "policy.path=/nowhere"], "'/nowhere'"),
        (["bagel", f"policy.path={Path(__file__).parent}"], "got no such file"),
        (["bagel", f"policy.path={GOLDEN}", "policy.dtype=float33"], "policy.dtype"),
        (["custom"], "module:name"),
    ],
)
def test_a_policy_that_cannot_be_had_is_explained(arguments, words):
    with pytest.raises(ValueError, match=words):
        load(*arguments)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="scripted, random, human, bagel"):
        load_policy({"name": "dali"})
