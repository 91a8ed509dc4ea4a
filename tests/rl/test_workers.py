"""Chunks become the same trajectories whoever draws them."""

from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from strokes.agents.bagel.noise import Noise
from strokes.agents.load import load_policy
from strokes.agents.pool import Resources
from strokes.agents.rollout import Rules, chunks
from strokes.rewards.scenes import SceneReward
from strokes.rl.workers import LocalRollouts, RayRollouts, RolloutWorker, ScoreWorker

NANO = Path(__file__).parents[2] / "agents" / "bagel" / "weights" / "nano-v2"
PROMPTS = ["a photo of a circle", "a photo of two stars"]
SAMPLING = {"timestep_shift": 1.0, "cfg_interval": [0.0, 1.0], "cfg_renorm_min": 1.0}


def make_worker(**options):
    settings = {"name": "bagel-tiny", "path": str(NANO), "device": "cpu", "dtype": "float32"}
    texts = {"temperature": 1.0, "max_tokens": 64, "sampling": SAMPLING}
    noisy = {"steps": 4, "guidance": 2.0, "noise": Noise(), "is_recorded": True}
    policy = partial(load_policy, {**settings, **texts}, **noisy)
    return partial(RolloutWorker, policy, Rules(size=48, budget=3), **{"score_fn": SceneReward(), **options})


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


def drawn(rollouts, weights, steps=(0,), **options):
    tickets = [rollouts.submit(generation(step), weights[step], **options) for step in steps]
    return [plain(rollouts.wait(ticket)) for ticket in tickets]


def test_a_chunk_depends_on_its_episodes_and_weights_alone(weights):
    first, again = LocalRollouts(make_worker()), LocalRollouts(make_worker())
    early, late = drawn(first, weights, (0, 1))
    assert drawn(again, weights, (1,)) == [late] and drawn(again, weights, (0,)) == [early]
    assert first.stats == {"retries": 0}


def test_weights_change_what_is_drawn(weights):
    rollouts = LocalRollouts(make_worker())
    assert drawn(rollouts, weights) != drawn(rollouts, weights[::-1])


def test_trajectories_have_what_learning_needs(weights):
    rollouts = LocalRollouts(make_worker())
    trajectories = [t for chunk in rollouts.wait(rollouts.submit(generation(0), weights[0])) for t in chunk]
    assert [t.transcript.prompt for t in trajectories] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert all(t.score is not None for t in trajectories)
    paths = [reply.path for t in trajectories for _, _, reply in t.own() if reply.emission.stage.is_image]
    assert paths and all(len(path) == 2 and all(step.eta > 0 for step in path) for path in paths)


def test_a_worker_says_when_it_has_other_weights(weights):
    worker = make_worker()()
    with pytest.raises(RuntimeError, match="version 1, got None"):
        worker.run(generation(0)[0], 1)
    worker.install(weights[0])
    with pytest.raises(RuntimeError, match="version 1, got 0"):
        worker.run(generation(0)[0], 1)


def test_drawing_leaves_the_number_of_threads_alone(weights):
    before = torch.get_num_threads()
    drawn(LocalRollouts(make_worker(threads=2)), weights)
    assert torch.get_num_threads() == before


def test_closing_forgets_the_worker(weights):
    rollouts = LocalRollouts(make_worker())
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


@pytest.fixture
def small_ray(monkeypatch):
    """Ray as ``RayRollouts`` starts it, but small."""
    from strokes.rl import workers

    monkeypatch.setattr(workers, "start_ray", partial(workers.start_ray, num_cpus=2, object_store_memory=100 * 2**20))


def test_ray_actors_draw_what_this_process_draws(weights, small_ray):
    """Both versions are asked for before the first is waited for."""
    import ray

    expected = drawn(LocalRollouts(make_worker()), weights, (0, 1))
    with pytest.raises(ValueError, match=r"3 CPU for 3 workers .* got a Ray cluster with 2 of 2 CPU free"):
        RayRollouts(make_worker(), 3)
    assert not ray.is_initialized()
    rollouts = RayRollouts(make_worker(), 2)
    try:
        assert drawn(rollouts, weights, (0, 1)) == expected
        assert rollouts.stats == {"retries": 0, "workers": 2}
        assert {ip.removeprefix("::ffff:") for ip in listening()} <= {"127.0.0.1", "::1"}
    finally:
        rollouts.close()
    assert not ray.is_initialized()


@pytest.mark.slow
def test_judges_of_their_own_give_the_same_verdicts(weights, small_ray):
    expected = LocalRollouts(make_worker(is_graded_throughout=True))
    greedy = drawn(expected, weights, is_greedy=True)
    expected = drawn(expected, weights, (0, 1))
    half = Resources(num_cpus=0.5)
    rollouts = RayRollouts(
        make_worker(score_fn=None),
        1,
        make_scorer=partial(ScoreWorker, SceneReward, is_graded_throughout=True),
        scorer_resources=half,
    )
    try:
        assert drawn(rollouts, weights, (0, 1)) == expected
        assert drawn(rollouts, weights, is_greedy=True) == greedy != expected[:1]
        assert rollouts.stats == {"retries": 0, "workers": 1, "scorer_retries": 0, "scorer_workers": 1}
    finally:
        rollouts.close()
