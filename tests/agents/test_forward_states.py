"""Forward states: where they come from, and that a replay of them is what the network says there. Shipped nano."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from strokes.agents.bagel import flow
from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.model import Bagel
from strokes.agents.bagel.noise import Noise, Window
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.forward_states import ForwardState, forward_states
from strokes.agents.interleaved import TINY, Interleaved
from strokes.agents.load import NANO
from strokes.agents.replay import Replayer
from strokes.agents.rollout import Episode, Rules, rollout
from strokes.agents.trajectory import Trajectory
from strokes.envs.scenes.tasks import heldout

SAMPLING = replace(TINY, num_timesteps=7, timestep_shift=3.0)
UNGUIDED = replace(SAMPLING, cfg_text_scale=1.0, noise=Noise(window=Window(size=2, high=4)))


@cache
def parts() -> tuple[Bagel, Tokenizer]:
    return load(NANO, dtype=torch.float32), Tokenizer.load(NANO)


@cache
def drawn() -> list[Trajectory]:
    """Two drawings of one prompt, unguided and with stochastic steps."""
    policy = Interleaved(*parts(), UNGUIDED, temperature=1.0, is_recorded=True)
    task = next(task for task in heldout("heldout", 40) if task.tag == "composition")
    chunk = [Episode(prompt=task.prompt, meta=task.meta, seed=(0, 3, 0, k)) for k in range(2)]
    return rollout(policy, chunk, rules=Rules(budget=8))


def images(trajectory: Trajectory) -> list[int]:
    return [k for k, entry, _ in trajectory.own() if entry.stage.is_image]


def test_states_lie_between_the_image_and_noise_at_times_of_the_schedule():
    times = flow.schedule(7, 3.0).tolist()
    for trajectory in drawn():
        found = forward_states(trajectory, SAMPLING, 3, (1, 2))
        assert [state.emission for state in found] == [k for k in images(trajectory) for _ in range(3)]
        for i, state in enumerate(found):
            latent = trajectory.replies[state.emission].latent
            assert torch.equal(state.clean, latent)
            assert state.time in times[2 * (i % 3) : 2 * (i % 3) + 2]  # one of each third
            at = torch.lerp(latent, state.noise, state.time)
            assert torch.allclose(state.state, at, atol=1e-6)
            assert torch.allclose(state.state - state.time * state.velocity, latent, atol=1e-5)


def test_all_times_come_up_and_one_state_for_each_sampling_step_is_all_of_them():
    times = flow.schedule(7, 3.0)[:-1].tolist()
    (trajectory, _) = drawn()
    found = {state.time for k in range(40) for state in forward_states(trajectory, SAMPLING, 2, (k,))}
    assert found == set(times)
    first = [s.time for s in forward_states(trajectory, SAMPLING, 6, (0,)) if s.emission == images(trajectory)[0]]
    assert first == times
    with pytest.raises(ValueError, match="between 1 and 6 states"):
        forward_states(trajectory, SAMPLING, 7, (0,))


def test_one_seed_gives_two_drawings_the_same_times_and_noise_image_by_image():
    one, other = (forward_states(trajectory, SAMPLING, 2, (5,)) for trajectory in drawn())
    again, apart = (forward_states(drawn()[0], SAMPLING, 2, (seed,)) for seed in (5, 6))
    for mine, theirs in zip(one, other, strict=False):
        assert mine.time == theirs.time and torch.equal(mine.noise, theirs.noise)
    assert all(torch.equal(a.state, b.state) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a.noise, b.noise) for a, b in zip(one, apart, strict=True))
    assert len({state.noise.sum().item() for state in one}) == len(one)


def test_noise_of_states_is_none_that_images_were_drawn_from():
    """At no shift: a stream that is read again begins elsewhere, as words are drawn from it, too."""
    policy = Interleaved(*parts(), replace(UNGUIDED, noise=None), temperature=1.0, is_recorded=True)
    task = next(task for task in heldout("heldout", 40) if task.tag == "composition")
    episodes = [Episode(prompt=task.prompt, meta=task.meta, seed=(0, 3, 0, k)) for k in range(2)]
    whole = rollout(policy, episodes, rules=Rules(budget=8))
    starts = [reply.path[0].x for each in whole for _, entry, reply in each.own() if entry.stage.is_image]
    assert len(starts) > 2 and all(reply.path[0].t == 1 for each in whole for _, _, reply in each.own() if reply.path)
    for trajectory in whole:
        # Of DiffusionNFT, and of preferences in some epochs.
        for seed in (trajectory.seed, *((*trajectory.seed[:3], epoch) for epoch in range(4))):
            for state in forward_states(trajectory, SAMPLING, 2, seed):
                assert not any(torch.isin(state.noise, start).sum() > 3 for start in starts)


def test_velocities_are_those_of_the_unguided_sampler_whatever_guidance_drew():
    """The states of recorded steps, given as forward states, have the velocities that the steps had."""
    replayer, (model, tokenizer) = Replayer(parts()[0].config, parts()[1], UNGUIDED), parts()
    given = [
        [ForwardState(k, step.t, step.x, step.x) for k, _, reply in each.own() for step in reply.path if step.eta]
        for each in drawn()
    ]
    guided = Replayer(model.config, tokenizer, SAMPLING)
    with torch.no_grad():
        recorded, forward = replayer(model, drawn()), guided(model, drawn(), given)
    for mine, theirs in zip(forward, recorded, strict=True):
        assert len(mine.velocities) > 0 and len(mine.steps) == len(mine.means) == len(mine.stds) == 0
        assert torch.equal(mine.emission, theirs.emission)
        assert torch.allclose(mine.velocities, theirs.velocities, atol=1e-5)
        assert torch.allclose(mine.logps, theirs.logps, atol=1e-5)


def test_a_state_is_seen_by_nothing_else():
    replayer, (model, _) = Replayer(parts()[0].config, parts()[1], SAMPLING), parts()
    few, many = ([forward_states(each, SAMPLING, n, (1,)) for each in drawn()] for n in (1, 6))
    with torch.no_grad():
        alone, together = replayer(model, drawn(), few), replayer(model, drawn(), many)
    for mine, theirs in zip(alone, together, strict=True):
        assert torch.allclose(mine.logps, theirs.logps, atol=1e-5)


def test_an_image_without_its_latent_is_named():
    (trajectory, _) = drawn()
    bare = replace(trajectory, replies=[reply and replace(reply, latent=None) for reply in trajectory.replies])
    with pytest.raises(ValueError, match="is_recorded"):
        forward_states(bare, SAMPLING, 1, (0,))
