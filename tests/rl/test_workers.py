"""Chunks become the same trajectories whoever draws them."""

from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from strokes.agents.bagel import Bagel, BagelConfig, Tokenizer
from strokes.agents.bagel.checkpoint import load, save
from strokes.agents.bagel.noise import Noise
from strokes.agents.load import load_policy
from strokes.agents.rollout import Rules, chunks
from strokes.rewards.scenes import SceneReward
from strokes.rl.sync import collect
from strokes.rl.workers import LocalRollouts, RayRollouts, RolloutWorker

TOKENIZER = Path(__file__).parents[1] / "golden" / "bagel" / "checkpoint"
PROMPTS = ["a red circle", "two blue squares", "a green star above a red heart"]
SAMPLING = {"timestep_shift": 1.0, "cfg_interval": [0.0, 1.0], "cfg_renorm_min": 1.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model that says and draws anything."""
    folder = tmp_path_factory.mktemp("nano")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Bagel(BagelConfig.nano(vocab_size=600))
        model.llm2vae.weight.data.normal_(std=0.1)
    save(folder, model)
    Tokenizer.load(TOKENIZER).save(folder)
    return folder


@pytest.fixture(scope="module")
def weights(checkpoint):
    """Of two versions."""
    learner = get_peft_model(
        load(checkpoint), LoraConfig(r=4, target_modules=r".*(q|v)_proj(_moe_gen)?", init_lora_weights=False)
    )
    first = collect(learner, 0)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.mul_(2 if parameter.requires_grad else 1)
    return first, collect(learner, 1)


def make_worker(checkpoint, **options):
    settings = {"name": "bagel-tiny", "path": str(checkpoint), "device": "cpu", "dtype": "float32"}
    texts = {"temperature": 1.0, "max_tokens": 6, "sampling": SAMPLING}
    noisy = {"steps": 3, "guidance": 2.0, "noise": Noise(), "is_recorded": True}
    policy = partial(load_policy, {**settings, **texts}, **noisy)
    return partial(RolloutWorker, policy, Rules(size=32, budget=6), SceneReward(), **options)


def generation(step, chunk_size=2):
    return chunks(PROMPTS, seed=5, step=step, num_members=2, chunk_size=chunk_size)


def plain(value):
    """Nested values down to what can be compared."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return (str(value.dtype), tuple(value.shape), np.asarray(value).tobytes())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name != "seconds"}
    return value


def drawn(rollouts, weights, steps=(0,)):
    tickets = [rollouts.submit(generation(step), weights[step]) for step in steps]
    return [plain(rollouts.wait(ticket)) for ticket in tickets]


def test_a_chunk_depends_on_its_episodes_and_weights_alone(checkpoint, weights):
    first, again = LocalRollouts(make_worker(checkpoint)), LocalRollouts(make_worker(checkpoint))
    early, late = drawn(first, weights, (0, 1))
    assert drawn(again, weights, (1,)) == [late] and drawn(again, weights, (0,)) == [early]
    assert first.stats == {"retries": 0}


def test_weights_change_what_is_drawn(checkpoint, weights):
    rollouts = LocalRollouts(make_worker(checkpoint))
    assert drawn(rollouts, weights) != drawn(rollouts, weights[::-1])


def test_trajectories_have_what_learning_needs(checkpoint, weights):
    rollouts = LocalRollouts(make_worker(checkpoint))
    trajectories = [t for chunk in rollouts.wait(rollouts.submit(generation(0), weights[0])) for t in chunk]
    assert [t.transcript.prompt for t in trajectories] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert all(t.score is not None for t in trajectories)
    paths = [reply.path for t in trajectories for _, _, reply in t.own() if reply.emission.stage.is_image]
    assert paths and all(len(path) == 2 and all(step.eta > 0 for step in path) for path in paths)


def test_a_worker_says_when_it_has_other_weights(checkpoint, weights):
    worker = make_worker(checkpoint)()
    with pytest.raises(RuntimeError, match="version 1, got None"):
        worker.run(generation(0)[0], 1)
    worker.install(weights[0])
    with pytest.raises(RuntimeError, match="version 1, got 0"):
        worker.run(generation(0)[0], 1)


def test_drawing_leaves_the_number_of_threads_alone(checkpoint, weights):
    before = torch.get_num_threads()
    drawn(LocalRollouts(make_worker(checkpoint, threads=2)), weights)
    assert torch.get_num_threads() == before


def test_closing_forgets_the_worker(checkpoint, weights):
    rollouts = LocalRollouts(make_worker(checkpoint))
    ticket = rollouts.submit(generation(0), weights[0])
    rollouts.close()
    with pytest.raises(KeyError):
        rollouts.wait(ticket)


def listening():
    """Addresses on which Ray's processes listen that are not of this machine alone."""
    import psutil

    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [c for p in own for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {c.laddr.ip for c in found}


def test_ray_actors_draw_what_this_process_draws(checkpoint, weights, monkeypatch):
    """Both versions are asked for before the first is waited for."""
    import ray

    from strokes.rl import workers

    monkeypatch.setattr(workers, "start_ray", partial(workers.start_ray, num_cpus=2, object_store_memory=100 * 2**20))
    expected = drawn(LocalRollouts(make_worker(checkpoint)), weights, (0, 1))
    with pytest.raises(ValueError, match=r"3 CPU for 3 workers .* got a Ray cluster with 2 of 2 CPU free"):
        RayRollouts(make_worker(checkpoint), 3)
    rollouts = RayRollouts(make_worker(checkpoint), 2)
    try:
        assert drawn(rollouts, weights, (0, 1)) == expected
        assert rollouts.stats == {"retries": 0, "workers": 2}
        assert {ip.removeprefix("::ffff:") for ip in listening()} <= {"127.0.0.1", "::1"}
    finally:
        rollouts.close()
    assert not ray.is_initialized()
