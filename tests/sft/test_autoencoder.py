"""The autoencoder's training."""

import json
import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig
from strokes.sft import autoencoder
from strokes.sft.autoencoder import Pool, Settings, figures, learning_rate, loss_fn, make_autoencoder, to_float, train

SMALL = Settings(steps=4, width=8, size=32, batch=8, pool=8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(autoencoder, "SAVE_EVERY", 3)
    monkeypatch.setattr(autoencoder, "figures", partial(figures, num=4))


def test_a_resumed_run_ends_with_the_same_weights(tmp_path, monkeypatch, capsys):
    assert train(tmp_path / "whole", SMALL)
    batch = Pool.batch

    def stop_at_two(pool, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(pool, step)

    with monkeypatch.context() as patched:
        patched.setattr(Pool, "batch", stop_at_two)
        assert not train(tmp_path / "parts", SMALL)
    assert not (tmp_path / "parts" / "autoencoder.pt").exists()
    assert train(tmp_path / "parts", SMALL)
    whole, parts = (torch.load(tmp_path / name / "autoencoder.pt") for name in ("whole", "parts"))
    assert all(torch.equal(whole["model"][name], value) for name, value in parts["model"].items())
    assert whole["scale_factor"] == parts["scale_factor"] > 0 and whole["steps"] == 4
    metrics = json.loads((tmp_path / "parts" / "metrics.json").read_text())
    assert metrics["psnr"] > 0 and 0 <= metrics["detected"] <= 1

    before = (tmp_path / "parts" / "autoencoder.pt").stat().st_mtime_ns
    capsys.readouterr()
    assert train(tmp_path / "parts", SMALL) and "is finished" in capsys.readouterr().out
    assert (tmp_path / "parts" / "autoencoder.pt").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"lr=0\.1 \(there 0\.002\)"):
        train(tmp_path / "parts", replace(SMALL, lr=0.1))


def test_the_pool_at_a_step_does_not_depend_on_the_steps_before():
    walked = Pool(SMALL)
    batches = [walked.batch(step) for step in range(11)]
    assert torch.equal(Pool(SMALL).batch(10), batches[10])
    assert np.array_equal(*(np.sort(pool.images.reshape(8, -1).sum(1)) for pool in (walked, _at(10))))
    assert batches[0].shape == (8, 3, 32, 32) and -1 <= batches[0].min() and batches[0].max() == 1


def _at(step):
    pool = Pool(SMALL)
    pool.batch(step)
    return pool


def test_the_loss_falls_from_the_first_step_on():
    torch.manual_seed(0)
    model, images = make_autoencoder(8, 32), Pool(SMALL).batch(0)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for step in range(6):
        reconstruction, kl = loss_fn(model, images, torch.Generator().manual_seed(step))
        assert reconstruction > 0 and kl >= 0
        optimizer.zero_grad()
        reconstruction.backward()
        optimizer.step()
        losses.append(reconstruction.item())
    assert losses[-1] < 0.9 * losses[0]


def test_its_weights_are_those_of_the_tiny_models(autoencoder_file):
    saved = {f"kl.{name}": value for name, value in torch.load(autoencoder_file)["model"].items()}
    for config in (BagelConfig.tiny(), BagelConfig.nano()):
        with torch.device("meta"):
            vae = Bagel(config).vae
        assert {name: value.shape for name, value in vae.state_dict().items()} == {
            name: value.shape for name, value in saved.items()
        }


def test_the_learning_rate_warms_up_stays_and_falls():
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 50) and rates[49] == rates[299] == 1.0
    assert rates[650] == pytest.approx(0.5) and min(rates[300:]) == rates[-1] == 0.03


def test_pixels_become_numbers_between_minus_one_and_one():
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=3)
    assert to_float(images).flatten().tolist() == [-1, -1, -1, 1, 1, 1]
