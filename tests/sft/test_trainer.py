"""The trainer: global counts, the average, and runs that are killed and go on as if nothing had happened."""

import json
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from safetensors.torch import load_file
from small_runs import lines, settings

from strokes.agents.bagel import Tokenizer, load
from strokes.agents.interleaved import Interleaved
from strokes.agents.load import NANO, load_policy
from strokes.agents.one_shot import OneShot
from strokes.sft.average import Average
from strokes.sft.job import make_job
from strokes.sft.terminal import Terminal
from strokes.sft.train import train
from strokes.sft.trainer import LEARNT, WHOLE, latest_checkpoint


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run from beginning to end, with a look at what it has learnt on the way."""
    folder = tmp_path_factory.mktemp("run")
    assert train(settings(data, "evaluation.every=3"), folder)
    return folder


def state(folder, step=6):
    """Everything a run goes on with, as tensors."""
    path = folder / "checkpoints" / f"checkpoint-{step}"
    optimizer = torch.load(path / "optimizer.pt", weights_only=True)["state"]
    moments = {f"{k}.{name}": value for k, each in optimizer.items() for name, value in each.items()}
    return load_file(path / LEARNT) | load_file(path / "average-0.safetensors") | moments


def test_a_run_leaves_a_checkpoint_figures_and_a_card(data, finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["steps"] == 6 and set(metrics["data"]) == {"multi_turn", "alignment"}
    assert 5000 < metrics["tokens"] <= 6000 and metrics["flops"] > 1e9 and metrics["seconds"] > 0
    assert metrics["parameters"] == 582_048 and len(metrics["checkpoint"]) == 64
    model = load(finished / "checkpoint", dtype=torch.float32)
    assert len(Tokenizer.load(finished / "checkpoint")) == model.config.llm_config.vocab_size
    card = (finished / "README.md").read_text()
    assert metrics["checkpoint"] in card and metrics["data"]["alignment"] in card


def test_the_shipped_weights_are_the_average(finished):
    average = load_file(finished / "checkpoints" / "checkpoint-6" / "average-0.safetensors")
    learnt = load_file(finished / "checkpoints" / "checkpoint-6" / LEARNT)
    shipped = load(finished / "checkpoint").state_dict()
    names = [name for name, p in load(NANO).named_parameters() if name in learnt]
    for k, name in enumerate(names):
        assert torch.equal(shipped[name], average[str(k)].bfloat16()), name
    assert any(not torch.equal(average[str(k)], learnt[name]) for k, name in enumerate(names))


def test_losses_are_logged_stage_by_stage_and_what_is_drawn_is_kept(finished):
    looks = [line for line in lines(finished) if "eval_plan" in line]
    assert [line["step"] for line in looks] == [3, 6]
    for name in ("plan", "inspect", "switch", "sketch", "refine", "strict", "soft", "images"):
        assert looks[0][f"eval_{name}"] >= 0
    steps = [line for line in lines(finished) if "ce" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] == pytest.approx(0.3 * line["ce"] + line["mse"], rel=1e-4) for line in steps)
    assert sorted(path.name for path in (finished / "samples").iterdir()) == ["step-000003.png", "step-000006.png"]


def test_the_rate_warms_up_and_follows_a_cosine_to_nothing(finished):
    rates = [line["learning_rate"] for line in lines(finished) if "ce" in line]
    expected = [0.0, *(0.5e-3 * (1 + np.cos(np.pi * k / 5)) for k in range(5))]
    assert rates == pytest.approx(expected, abs=1e-9)


def test_looking_changes_nothing(data, finished, tmp_path):
    assert train(settings(data), tmp_path)
    a, b = state(finished), state(tmp_path)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_that_is_stopped_goes_on_bit_for_bit(data, finished, tmp_path, monkeypatch):
    def stopping(self, args, state, control, logs=None, **_):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    wanted = settings(data, "evaluation.every=3")
    with monkeypatch.context() as patched:
        patched.setattr(Terminal, "on_log", stopping)
        assert not train(wanted, tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-3" / WHOLE).exists(), "after the step during which it was asked"
    assert not (tmp_path / "metrics.json").exists()
    assert train(wanted, tmp_path)
    a, b = state(finished), state(tmp_path)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    shipped = [(folder / "checkpoint" / "ema.safetensors").read_bytes() for folder in (finished, tmp_path)]
    assert shipped[0] == shipped[1]
    kept = ("ce", "mse", "grad_norm", "learning_rate")
    first, second = ([[line[k] for k in kept] for line in lines(f) if "ce" in line] for f in (finished, tmp_path))
    assert first == second
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (finished, tmp_path)]
    assert all(figures[0][name] == figures[1][name] for name in ("tokens", "flops", "checkpoint"))


def test_the_log_of_a_run_that_was_stopped_is_that_of_one_that_was_not(data, tmp_path):
    """Though it is written every third step, and the run is stopped after the second."""
    wanted = settings(data, "log_every=3", "save_every=2", "packs=2")
    assert train(wanted, tmp_path / "whole")
    stop = threading.Event()
    stop.set()
    job = make_job(wanted, tmp_path / "cut", stop)
    job.trainer.train()
    assert job.trainer.state.global_step == 1 and train(wanted, tmp_path / "cut")
    first, second = (
        [{name: value for name, value in line.items() if "second" not in name} for line in lines(tmp_path / name)]
        for name in ("whole", "cut")
    )
    assert [line["step"] for line in first] == [3, 6] and first == second
    for line in lines(tmp_path / "cut"):
        assert line["tokens_per_second"] > 0 and line["loss"] == pytest.approx(0.3 * line["ce"] + line["mse"])


def test_what_was_cut_short_is_not_kept(data, tmp_path):
    partial = tmp_path / "checkpoints" / "checkpoint-5"
    partial.mkdir(parents=True)
    assert train(settings(data, "save_every=2"), tmp_path)
    assert {path.name for path in partial.parent.iterdir()} == {"checkpoint-4", "checkpoint-6"}


def test_a_checkpoint_cut_short_is_passed_over(finished, tmp_path):
    for step, is_whole in ((2, True), (10, True), (12, False)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        if is_whole:
            (path / WHOLE).touch()
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_other_settings_in_the_same_folder_are_refused(data, finished):
    with pytest.raises(ValueError, match=r"lr=0\.5"):
        train(settings(data, "lr=0.5"), finished)


def test_accumulated_packs_weigh_by_what_they_hold(data, tmp_path):
    """Two packs at once are two packs one after the other, whatever they hold: the counts are those of both."""
    trainer = make_job(settings(data, "packs=2", "steps=2"), tmp_path, threading.Event()).trainer
    batches, counts = trainer.get_batch_samples(iter([trainer.packs[0], trainer.packs[1]]), 2, "cpu")
    losses = [trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts) for batch in batches]
    packs = [batch["pack"] for batch in batches]
    assert counts == [float(sum(len(p.ce.labels) for p in packs)), float(sum(len(p.targets) for p in packs))]
    assert len(packs[0].ce.labels) != len(packs[1].ce.labels), "or this says nothing"
    outputs = [trainer.model(b["pack"], generator=torch.Generator().manual_seed(b["seed"])) for b in batches]
    ce = sum(o.ce.sum() for o in outputs) / counts[0]
    mse = sum((o.mse * b["pack"].mse_weights).sum() for o, b in zip(outputs, batches, strict=True)) / counts[1]
    assert sum(loss.item() for loss in losses) == pytest.approx((0.3 * ce + mse).item(), abs=1e-5)


def test_a_step_of_several_packs_has_the_gradient_of_them_all(data, tmp_path):
    """No more and no less: transformers would divide by the number of packs what is divided by their tokens."""
    wanted = settings(data, "packs=2", "steps=1", "clip=1.0e+9")
    trainer = make_job(wanted, tmp_path, threading.Event()).trainer
    batches, counts = trainer.get_batch_samples(iter([trainer.packs[0], trainer.packs[1]]), 2, "cpu")
    for batch in batches:
        trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters() if p.grad is not None]).item()
    again = make_job(wanted, tmp_path, threading.Event()).trainer
    again.train()
    (line,) = [line for line in again.state.log_history if "grad_norm" in line]
    assert line["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_flex_attention_is_refused_on_the_cpu(data, tmp_path):
    with pytest.raises(ValueError, match=r"model\.attention=sdpa on the CPU"):
        make_job(settings(data, "model.attention=flex_attention", "row_length=null"), tmp_path, threading.Event())


def policy_of(folder):
    """The policy that the command on a run's card draws with."""
    (line,) = [line for line in (folder / "README.md").read_text().splitlines() if "strokes-draw policy" in line]
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("draw", ["prompt=x", *line.split('"')[0].split()[1:]])
    found = OmegaConf.to_container(config.policy, resolve=True)
    return load_policy(found, steps=found["steps"], guidance=found["guidance"])


def test_the_command_on_the_card_draws_with_what_was_learnt(finished):
    policy = policy_of(finished)
    assert isinstance(policy, Interleaved)
    shipped = load(finished / "checkpoint", dtype=torch.float32)
    assert torch.equal(policy.model.llm2vae.weight, shipped.llm2vae.weight)


def test_adapters_learn_and_the_rest_stays(data, tmp_path):
    wanted = settings(data, "lora={rank: 4, alpha: 8, experts: gen}", "steps=3")
    assert train(wanted, tmp_path)
    found = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert found and all("moe_gen" in name for name in found)
    assert all(weight.abs().max() > 0 for name, weight in found.items() if "lora_B" in name), "zero before training"
    assert not (tmp_path / "checkpoint").exists()
    assert isinstance(policy_of(tmp_path), Interleaved)
    again = replace(wanted, evaluation=replace(wanted.evaluation, heldout=0))
    assert train(again, tmp_path), "finished, and what is looked at is free"


def test_bf16_with_gradient_checkpointing_trains_much_the_same(data, finished, tmp_path):
    assert train(settings(data, "precision=bf16", "gradient_checkpointing=true", "steps=6"), tmp_path)
    exact, rounded = ([line["mse"] for line in lines(f) if "ce" in line] for f in (finished, tmp_path))
    assert exact != rounded and rounded == pytest.approx(exact, rel=0.05)
    assert load_file(tmp_path / "checkpoints" / "checkpoint-6" / LEARNT)["llm2vae.weight"].dtype == torch.float32


def test_images_can_be_encoded_in_the_forward_pass(data, tmp_path):
    """And packs can be made by other processes, which changes nothing."""
    overrides = ("data.latents=forward", "data.changed_weight=0", "data.copies=1", "steps=2")
    for workers in (0, 2):
        assert train(settings(data, *overrides, f"workers={workers}"), tmp_path / str(workers))
    one, two = (state(tmp_path / name, 2) for name in ("0", "2"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_control_learns_to_draw_at_once(data, tmp_path):
    assert train(settings(data, "view=final", "steps=2", "evaluation.every=2"), tmp_path)
    (look,) = [line for line in lines(tmp_path) if "eval_sketch" in line]
    assert look["eval_images"] == 1.0
    assert {name for name in look if name.startswith("eval_")} == {
        *("eval_sketch", "eval_switch"),  # no words are learnt
        *("eval_strict", "eval_soft", "eval_images"),
    }
    assert isinstance(policy_of(tmp_path), OneShot)


def test_a_loss_that_is_no_number_ends_the_run(data, tmp_path):
    with pytest.raises(ValueError, match="losses that are numbers"):
        train(settings(data, "lr=1.0e+30", "warmup=0", "clip=0.0"), tmp_path)


def test_the_average_follows_the_weights_and_can_be_swapped_in():
    model = torch.nn.Linear(2, 2)
    average = Average(model, 0.9)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(0)  # share 0.9 of the first step
    expected = before + 0.9
    with average.applied():
        assert torch.allclose(model.weight, expected)
    assert torch.allclose(model.weight, before + 1.0)
    assert torch.allclose(average.weights["weight"], expected)
    other = Average(model, 0.9)
    other.load(average.local())
    assert torch.equal(other.weights["weight"], average.weights["weight"])
