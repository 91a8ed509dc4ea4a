"""Pre-training: a run that is killed, goes on and ends as if nothing had happened."""

import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from strokes.agents.bagel import Bagel, BagelConfig, Tokenizer, load
from strokes.agents.bagel.items import NoisyImage
from strokes.sft import pretrain
from strokes.sft.collator import ImageTable, Picture, Words
from strokes.sft.cost import num_flops, num_tokens
from strokes.sft.pretrain import Average, Feed, learning_rate, make_model, parameter_groups, train

MIXTURE = {"draw": {"num": 6, "share": 1.0, "copies": 2}, "plan": {"num": 3, "share": 0.5, "copies": 1}}


@pytest.fixture
def settings(autoencoder_file, tmp_path):
    """The shipped configuration with a nano model and a budget of a few steps."""
    torch.set_num_threads(1)
    cfg = OmegaConf.load(os.path.join(os.path.dirname(pretrain.__file__), "..", "configs", "pretrain.yaml"))
    del cfg["defaults"], cfg["hydra"]
    small = {"preset": "nano", "tokens": 900, "batch_tokens": 90, "row_length": 64, "warmup": 2, "save_every": 4}
    cfg = OmegaConf.merge(cfg, small, {"mixture": MIXTURE, "autoencoder": str(autoencoder_file)})

    def make(out, **changes):
        made = OmegaConf.merge(cfg, {"out": str(tmp_path / out)}, changes)
        OmegaConf.resolve(made)
        return made

    return make


@pytest.fixture
def interrupted(monkeypatch):
    """Runs whose process is told to end while it prepares step ``at``."""

    def run(cfg, at):
        step = Feed.step

        def told(feed, index):
            if index == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(feed, index)

        with monkeypatch.context() as patched:
            patched.setattr(Feed, "step", told)
            return train(cfg)

    return run


@pytest.fixture
def logged(monkeypatch):
    monkeypatch.setattr(pretrain, "LOG_EVERY", 2)


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_that_was_stopped_ends_bit_by_bit_like_one_that_was_not(settings, interrupted, logged, tmp_path, capsys):
    assert train(settings("whole"))
    assert interrupted(settings("parts"), at=5) is False and "the same command goes on" in capsys.readouterr().out
    state = torch.load(tmp_path / "parts" / "state.pt")
    assert state["step"] == 6 and not (tmp_path / "parts" / "checkpoint").exists()
    assert set(state) == {"model", "optimizer", "average", "step", "tokens", "seconds"}
    assert train(settings("parts", save_every=100))
    for name in ("ema.safetensors", "ae.safetensors", "config.json", "tokenizer.json"):
        whole, parts = (tmp_path / run / "checkpoint" / name for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), name
    states = [torch.load(tmp_path / run / "state.pt") for run in ("whole", "parts")]
    assert all(torch.equal(states[0]["model"][name], value) for name, value in states[1]["model"].items())
    assert [{**line, "seconds": 0} for line in lines(tmp_path / "whole")] == [
        {**line, "seconds": 0} for line in lines(tmp_path / "parts")
    ]


def test_a_killed_run_goes_on_from_its_last_state(settings, logged, monkeypatch, tmp_path):
    assert train(settings("whole"))
    step = Feed.step

    def dies(feed, index):
        if index == 7:
            raise KeyboardInterrupt  # no time to save anything
        return step(feed, index)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Feed, "step", dies)
        train(settings("killed"))
    assert torch.load(tmp_path / "killed" / "state.pt")["step"] == 4 and lines(tmp_path / "killed")[-1]["step"] == 6
    assert train(settings("killed"))
    whole, killed = (tmp_path / run / "checkpoint" / "ema.safetensors" for run in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
    assert [line["step"] for line in lines(tmp_path / "killed")] == [line["step"] for line in lines(tmp_path / "whole")]


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(settings, monkeypatch, capsys):
    cfg = settings("run", tokens=200)
    assert train(cfg)
    monkeypatch.setattr(pretrain, "make_model", None)  # nothing is made or read again
    capsys.readouterr()
    assert train(cfg) and "is finished" in capsys.readouterr().out
    other = {"lr": 0.5, "seed": 1, "batch_tokens": 91, "mixture": {"draw": {"copies": 3}}}
    with pytest.raises(ValueError, match=r"batch_tokens=91 .*, lr=0\.5 .*, mixture\.draw\.copies=3 .*, seed=1 "):
        train(settings("run", tokens=200, **other))
    with pytest.raises(ValueError, match=r"tokens=300 \(there 200\)"):
        train(settings("run", tokens=300))


def test_a_run_at_a_constant_rate_may_be_made_longer(settings, tmp_path):
    assert train(settings("whole", flat=1.0, tokens=400))
    assert train(settings("longer", flat=1.0, tokens=200)) and train(settings("longer", flat=1.0, tokens=400))
    whole, longer = (tmp_path / run / "checkpoint" / "ema.safetensors" for run in ("whole", "longer"))
    assert whole.read_bytes() == longer.read_bytes()


def test_the_second_run_starts_from_the_first_one_s_checkpoint(settings, tmp_path):
    train(settings("first", tokens=100))
    path = tmp_path / "first" / "checkpoint"
    model, tokenizer = make_model(settings("second", init=str(path)), tmp_path / "second")
    weights = load(path, dtype=torch.float32).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.dtype == torch.float32 and len(tokenizer) == len(Tokenizer.load(path))
    assert train(settings("second", init=str(path), tokens=100, data=str(tmp_path / "first" / "data.pt")))


def test_what_is_missing_is_named_with_a_remedy(settings, tmp_path):
    for changes, message in (
        ({"autoencoder": "nowhere.pt"}, "python -m strokes.sft.autoencoder"),
        ({"init": "nowhere"}, "finish the run that writes it"),
        ({"preset": "huge"}, "one of tiny, nano, got 'huge'"),
        ({"mixture": {"paint": {"num": 1, "share": 1, "copies": 1}}}, "kinds of a mixture"),
    ):
        with pytest.raises(ValueError, match=message):
            train(settings("run", **changes))
    assert train(settings("run", tokens=100)), "what was wrong can be put right in the same folder"
    data = str(tmp_path / "run" / "data.pt")
    with pytest.raises(ValueError, match=r"numbers of examples .*; give data="):
        train(settings("other", data=data, mixture={"draw": {"num": 7}}))


def test_the_command_says_what_is_wrong_in_one_line_and_tells_by_its_exit_code(monkeypatch, capsys, tmp_path):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["pretrain", f"out={tmp_path / 'run'}", "preset=nano", *arguments])
        return pretrain.main()

    assert command("autoencoder=nowhere.pt") == 1
    assert "Expected autoencoder to be a trained one" in capsys.readouterr().err
    asked = []
    monkeypatch.setattr(pretrain, "train", lambda cfg: asked.append(cfg) or cfg.tokens < 10)
    assert command("tokens=5") == 0 and command("tokens=20", "mixture=process") == 143
    assert list(asked[0].mixture) == ["draw"] and "trajectory" in asked[1].mixture


def test_the_checkpoint_holds_the_averages_and_the_log_the_cost(settings, logged, tmp_path):
    train(settings("run"))
    state = torch.load(tmp_path / "run" / "state.pt")
    model = load(tmp_path / "run" / "checkpoint")
    parameters = Bagel(model.config).named_parameters()
    trained = [name for name, p in parameters if p.requires_grad and not name.startswith("vae.")]
    for name, average in zip(trained, state["average"], strict=True):
        assert torch.equal(model.state_dict()[name], average.bfloat16()), name
    assert any(not torch.equal(state["model"][name], a) for name, a in zip(trained, state["average"], strict=True))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["tokens"] == state["tokens"] >= 900 and metrics["steps"] == state["step"]
    costs = [(line["tokens"], line["flops"]) for line in lines(tmp_path / "run")]
    assert costs == sorted(costs) and costs[-1][1] <= metrics["flops"]
    assert 0.3 < metrics["flops"] / (6 * metrics["tokens"] * metrics["parameters"]) < 0.6, "one expert for each token"


def feed_of(shares, settings, config):
    """A feed over three drawings and three texts."""
    cfg = settings("feed", batch_tokens=200)
    cfg.mixture = {
        name: {"num": 3, "share": share, "copies": 2} for name, share in zip(("draw", "plan"), shares, strict=True)
    }
    table = ImageTable()
    table.add(np.zeros((48, 48, 3), np.uint8))
    table.latents = torch.zeros(1, 9, config.latent_dim)
    drawings = [(Words((1,) * k, False), Picture(0, loss=True, context=False)) for k in range(1, 4)]
    texts = [(Words((2,) * k, True),) for k in range(1, 4)]
    return Feed(cfg, config, table, {"plan": texts, "draw": drawings}), drawings


def test_examples_are_drawn_by_their_shares_until_a_step_has_its_tokens(settings, nano):
    feed, _ = feed_of((3.0, 1.0), settings, nano.config)
    drawings = total = 0
    for index in range(120):
        samples, tokens, _ = feed.step(index)
        assert 200 <= tokens < 200 + 2 * 11 + 5
        drawings += sum(any(isinstance(item, NoisyImage) for item in items) for items in samples)
        total += len(samples)
    assert abs(drawings / total - 0.75) < 0.05


def test_a_step_depends_on_its_number_alone_and_knows_its_cost(settings, nano):
    feed, drawings = feed_of((1.0, 0.0), settings, nano.config)
    steps = [feed.step(index) for index in range(4)]
    times = [[item.t for items in samples for item in items if isinstance(item, NoisyImage)] for samples, *_ in steps]
    again = [item.t for items in feed.step(2)[0] for item in items if isinstance(item, NoisyImage)]
    assert again == times[2] and times[0] != times[1]
    samples, tokens, flops = steps[0]
    chosen = [drawings[len(items[0].ids) - 1] for items in samples]
    assert tokens == sum(num_tokens(example, 2, nano.config) for example in chosen)
    assert flops == sum(num_flops(example, 2, nano.config) for example in chosen)
    assert feed.flops_before(4) == sum(step[2] for step in steps) and feed.flops_before(0) == 0


def test_the_learning_rate_warms_up_stays_and_falls_to_two_percent(settings):
    cfg = settings("run", lr=1.0, warmup=10, flat=0.4)
    assert [learning_rate(0.0, step, cfg) for step in (0, 4, 9, 500)] == [0.1, 0.5, 1.0, 1.0]
    assert learning_rate(0.4, 99, cfg) == 1.0 and learning_rate(0.7, 99, cfg) == pytest.approx(0.5)
    rates = [learning_rate(share, 99, cfg) for share in np.linspace(0.4, 1, 50)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0.02
    assert learning_rate(0.999, 99, settings("run", lr=1.0, warmup=10, flat=1.0)) == 1.0


def test_matrices_decay_vectors_do_not_and_the_autoencoder_is_not_trained():
    with torch.device("meta"):
        model = Bagel(BagelConfig.nano())
    matrices, vectors = parameter_groups(model, 0.1)
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0.0
    assert {p.dim() for p in vectors["params"]} == {1} and min(p.dim() for p in matrices["params"]) == 2
    frozen = {id(p) for p in model.vae.parameters()}
    assert not frozen & {id(p) for p in [*matrices["params"], *vectors["params"]]}


def test_the_average_follows_fast_at_first_and_slowly_later():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = Average(model, 0.99)
    model.weight.data.fill_(1.0)
    average.update(0)
    assert average.weights["weight"].item() == pytest.approx(0.9)
    average.weights["weight"].fill_(0.0)
    average.update(10_000)
    assert average.weights["weight"].item() == pytest.approx(0.01)
    average.load([torch.full((1, 1), 0.25)])
    assert average.weights["weight"].item() == 0.25 and model.weight.item() == 1.0
