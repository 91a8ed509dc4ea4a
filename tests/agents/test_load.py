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
    from strokes.agents.bagel.sample import Sampling

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
        (["bagel-tiny", f"policy.adapter={GOLDEN}"], "adapter_config.json"),
        (["bagel-tiny", "policy.sampling.timestep_shift=fast"], "timestep_shift to be a number"),
        (["bagel-tiny", "policy.sampling.cfg_interval=0.4"], "two numbers"),
        (["bagel-tiny", "policy.sampling.cfg_interval=[low,high]"], "two numbers"),
        (["bagel-tiny", "policy.sampling.cfg_renorm_type=some"], "cfg_renorm_type among global"),
        (["bagel-tiny", "+policy.sampling.cfg_scale=1"], "got cfg_scale"),
        (["bagel-tiny", "policy.temperature=warm"], "policy.temperature to be a number"),
        (["bagel-tiny", "policy.max_tokens=0"], "policy.max_tokens to be an integer"),
        (["bagel-tiny", "policy.path=5"], "got '5'"),
        (["bagel-tiny", "policy.device=abacus"], "policy.device .* 'abacus'"),
        (["bagel-tiny", "policy.steps=many"], "steps to be an integer"),
        (["bagel-tiny", "policy.guidance=strong"], "guidance to be a number"),
    ],
)
def test_a_policy_that_cannot_be_had_is_explained(arguments, words):
    with pytest.raises(ValueError, match=words):
        load(*arguments)


@pytest.fixture
def adapter(tmp_path):
    """An adapter as training would save it, on the golden checkpoint."""
    from peft import LoraConfig, get_peft_model

    from strokes.agents.bagel.checkpoint import load as load_model

    target = ["language_model.model.layers.0.self_attn.q_proj"]
    learner = get_peft_model(load_model(GOLDEN), LoraConfig(r=2, target_modules=target, init_lora_weights=False))
    learner.save_pretrained(str(tmp_path))
    return tmp_path, learner


@pytest.mark.parametrize("name", ["bagel-tiny", "one-shot"])
def test_an_adapter_is_merged_when_a_policy_is_loaded(adapter, name):
    import torch

    folder, learner = adapter
    policy = load(name, f"policy.path={GOLDEN}", f"policy.adapter={folder}")
    assert type(policy.model).__name__ == "Bagel"
    merged = learner.merge_and_unload().language_model.model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(policy.model.language_model.model.layers[0].self_attn.q_proj.weight, merged)


def test_an_adapter_of_another_checkpoint_is_refused(adapter):
    with pytest.raises(ValueError, match="the checkpoint that it was trained on"):
        load("bagel-tiny", f"policy.adapter={adapter[0]}")


def test_a_policy_for_learning_is_recorded_and_noisy():
    from strokes.agents.bagel.noise import Noise

    settings = {**settings_of("bagel-tiny", f"policy.path={GOLDEN}"), "temperature": 1.0}
    policy = load_policy(settings, steps=12, guidance=1.0, noise=Noise(), is_recorded=True)
    assert policy.is_recorded and policy.temperature == 1.0 and policy.pictures.sampling.noise == Noise()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="scripted, random, human, bagel"):
        load_policy({"name": "dali"})


@pytest.mark.parametrize(("name", "limit"), [("planner", "max_steps"), ("inspector", "max_edits")])
def test_a_remote_model_comes_beside_a_painter(name, limit):
    from strokes.agents import remote
    from strokes.agents.editor import EDITING, Editor
    from strokes.agents.interleaved import TINY, Interleaved

    chat, settings = object(), settings_of(name, f"policy.path={GOLDEN}")
    policy = load_policy(settings, steps=12, guidance=3.0, chat=chat)
    assert type(policy).__name__.lower() == name and policy.chat is chat
    assert (getattr(policy, limit), policy.attempts) == (getattr(remote, limit.upper()), remote.ATTEMPTS)
    assert isinstance(policy.painter, Interleaved) and policy.painter.pictures.sampling == TINY
    bare = load_policy({**settings, "painter": "one-shot"}, steps=12, guidance=3.0, chat=chat).painter
    assert isinstance(bare, Editor) and bare.first.sampling == TINY
    names = ("cfg_img_scale", "cfg_interval", "cfg_renorm_type")
    assert [getattr(bare.later.sampling, name) for name in names] == [getattr(EDITING, name) for name in names]


@pytest.mark.parametrize("name", ["planner", "inspector"])
@pytest.mark.parametrize(
    ("arguments", "chat", "words"),
    [
        ([], None, "a remote model"),
        (["policy.painter=oil"], object(), "policy.painter"),
        (["policy.attempts=0"], object(), "policy.attempts"),
        (["policy.painter=one-shot", "+policy.editing.cfg_scale=1"], object(), "got cfg_scale"),
    ],
)
def test_a_remote_model_that_cannot_be_had_is_explained(name, arguments, chat, words):
    settings = settings_of(name, f"policy.path={GOLDEN}", *arguments)
    with pytest.raises(ValueError, match=words):
        load_policy(settings, steps=12, guidance=3.0, chat=chat)
