"""What a learner has learnt arrives in a worker's model, whole, or not at all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from strokes.agents.adapter import check_fit, merge, read_adapter
from strokes.agents.bagel import Bagel, BagelConfig
from strokes.agents.bagel.checkpoint import load, save
from strokes.rl.sync import Receiver, collect, swapped

MATRICES = r"language_model\.model\.layers\.\d+\.(self_attn\.(q|o)_proj(_moe_gen)?|mlp_moe_gen\.up_proj)"


def base(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Bagel(BagelConfig.nano(vocab_size=64)).eval()
        for parameter in model.parameters():  # nothing is 0 or 1 at the beginning, or half the mistakes would not show
            parameter.data.add_(torch.randn_like(parameter) * 0.02)
    return model


def adapted(model, seed=1, **options):
    """LoRA with both factors at random, as after some steps."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": MATRICES, **options}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = get_peft_model(model, LoraConfig(**options))
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(torch.randn_like(parameter) * 0.1)
    return learner


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.fixture
def learner():
    return adapted(base())


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"modules_to_save": ["llm2vae"]}])
def test_an_installed_model_is_the_merged_learner(options):
    learner = adapted(base(), **options)
    receiver = Receiver(base())
    assert receiver.install(collect(learner, 3)) == 3 == receiver.version
    merged = learner.merge_and_unload().state_dict()
    for name, value in receiver.model.state_dict().items():
        torch.testing.assert_close(value, merged[name], rtol=0, atol=1e-6, msg=name)


def test_names_are_those_of_the_plain_model(learner):
    weights = collect(learner, 0)
    assert weights.kind == "lora" and set(weights.scaling.values()) == {2.0}
    name = "language_model.model.layers.0.self_attn.q_proj_moe_gen"
    assert weights.tensors[f"{name}.lora_A.weight"].shape == (4, learner.config.llm_config.hidden_size)
    assert len(weights.tensors) == 2 * len(weights.scaling)


def test_what_was_collected_does_not_change_with_the_learner(learner):
    weights = collect(learner, 0)
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(1)
    assert same(weights.tensors, before)


def test_versions_do_not_add_up(learner):
    first, second = Receiver(base()), Receiver(base())
    early = collect(learner, 1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * parameter.requires_grad)
    late = collect(learner, 2)
    first.install(late)
    for weights in (early, late, early, late):
        second.install(weights)
    assert same(state(first.model), state(second.model))


def test_matrices_that_are_adapted_no_longer_are_the_old_ones(learner):
    receiver = Receiver(base())
    receiver.install(collect(adapted(base(), target_modules=["k_proj"]), 1))
    receiver.install(collect(learner, 2))
    direct = Receiver(base())
    direct.install(collect(learner, 2))
    assert same(state(receiver.model), state(direct.model))


def test_whole_tensors_are_copied():
    learner, receiver = base(1), Receiver(base(0))
    learner.vae.requires_grad_(False)
    weights = collect(learner, 5)
    assert weights.kind == "full" and not any(name.startswith("vae.") for name in weights.tensors)
    receiver.install(weights)
    ours, theirs = receiver.model.state_dict(), learner.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items() if name in weights.tensors)
    with torch.no_grad():
        learner.llm2vae.weight.add_(1)
    assert not torch.equal(receiver.model.llm2vae.weight, learner.llm2vae.weight)


def test_installing_leaves_the_checkpoint_on_disk_alone(tmp_path, learner):
    """A loaded model is its memory-mapped file."""
    save(tmp_path, base())
    before = (tmp_path / "ema.safetensors").read_bytes()
    Receiver(load(tmp_path)).install(collect(learner, 0))
    assert (tmp_path / "ema.safetensors").read_bytes() == before


def refused(weights, words, receiver=None):
    receiver = receiver or Receiver(base())
    before = state(receiver.model)
    with pytest.raises(ValueError, match=words):
        receiver.install(weights)
    assert same(state(receiver.model), before)


def test_tensors_that_changed_on_their_way_are_refused(learner):
    weights = collect(learner, 0)
    next(iter(weights.tensors.values()))[0, 0] += 1e-3
    refused(weights, "changed on their way")


def test_a_scale_that_changed_on_its_way_is_refused(learner):
    weights = collect(learner, 0)
    weights.scaling[next(iter(weights.scaling))] = 1.0
    refused(weights, "changed on their way")


def test_two_sets_of_one_version_are_refused(learner):
    receiver = Receiver(base())
    receiver.install(collect(learner, 4))
    receiver.install(collect(learner, 4))
    refused(collect(adapted(base(), seed=9), 4), "second, different one", receiver)


def test_adapters_of_another_base_are_refused():
    refused(collect(adapted(base(7)), 0), "same policy.path")


def test_adapters_of_another_architecture_are_refused():
    other = Bagel(BagelConfig.tiny(vocab_size=64))
    refused(collect(adapted(other), 0), r"q_proj.*Load the checkpoint that it was\s+trained on")


def test_kinds_do_not_mix(learner):
    receiver = Receiver(base())
    receiver.install(collect(learner, 0))
    refused(collect(base(), 1), "kind 'lora'", receiver)


def test_a_model_that_learns_nothing_is_refused():
    with pytest.raises(ValueError, match="parameters that learn"):
        collect(base().requires_grad_(False), 0)


def test_adapters_that_are_more_than_two_factors_are_refused():
    with pytest.raises(ValueError, match="plain LoRA"):
        collect(adapted(base(), use_dora=True), 0)


@pytest.mark.parametrize("is_full", [False, True])
def test_a_learner_takes_other_weights_for_a_while(learner, is_full):
    learner = base() if is_full else learner
    early = collect(learner, 0)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * parameter.requires_grad)
    before = state(learner)
    with swapped(learner, early):
        assert collect(learner, 0).checksum == early.checksum
    assert same(state(learner), before)
    with pytest.raises(ValueError, match="others"), swapped(learner, replace(early, tensors={})):
        pass


def test_a_saved_adapter_is_read_and_merged_as_a_worker_does(tmp_path, learner):
    learner.save_pretrained(str(tmp_path))
    receiver, loaded = Receiver(base()), base()
    weights = collect(learner, 0)
    receiver.install(weights)
    adapter = read_adapter(tmp_path)
    assert adapter.scaling == weights.scaling and same(dict(adapter.tensors), weights.tensors)
    check_fit(loaded, adapter)
    merge(loaded, adapter)
    assert same(state(loaded), state(receiver.model))


def test_folders_without_a_plain_adapter_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        read_adapter(tmp_path)
    adapted(base(), use_dora=True).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="use_dora"):
        read_adapter(tmp_path)
    (Path(tmp_path) / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="Expected an adapter"):
        read_adapter(tmp_path)
