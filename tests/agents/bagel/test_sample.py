"""Images that are watched while they are drawn, and given up: nothing is evaluated for them any more."""

from collections import Counter

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, Text, TokenIds
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.noise import Noise, Window
from strokes.agents.bagel.sample import Branches, Sampling, Stochastic, sample_images

TOKENS = TokenIds(bos_token_id=60, eos_token_id=61, start_of_image=62, end_of_image=63)
GRIDS = [(3, 3), (2, 3), (3, 2), (2, 2)]
SAMPLING = Sampling(num_timesteps=7, timestep_shift=1.0, cfg_text_scale=3.0, cfg_interval=(0.4, 1.0))
BRANCHES = [2, 2, 2, 2, 1, 1]
"""Of each step: times 1, 5/6, 2/3, 1/2 are in the interval, 1/3 and 1/6 below it."""


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Bagel(BagelConfig.nano(vocab_size=64)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


class Watcher:
    """Looks at canvases after given steps, and gives them up after given ones."""

    def __init__(self, looks, ends=()):
        self.looks, self.ends, self.seen = looks, dict(ends), []

    def wants(self, canvas, step):
        self.step = step
        return step in self.looks[canvas]

    def look(self, estimates):
        self.seen.append((self.step, {k: x.clone() for k, x in estimates.items()}))
        return [k for k in estimates if self.ends.get(k) == self.step]


def draw(model, watch=None, sampling=SAMPLING, **options):
    contexts = Contexts(model, TOKENS)
    rows = contexts.open(len(GRIDS))
    rng = np.random.default_rng(1)
    contexts.extend(rows, [[Text(ids=rng.integers(0, 50, 3 + k).tolist())] for k in range(len(GRIDS))])
    branches = Branches([contexts.view(row) for row in rows], [contexts.base(row) for row in rows])
    noise = [torch.randn(h * w, 64, generator=torch.Generator().manual_seed(k)) for k, (h, w) in enumerate(GRIDS)]
    return sample_images(contexts, branches, noise, GRIDS, sampling, watch=watch, **options)


@pytest.fixture(scope="module")
def unwatched(model):
    return draw(model, is_recorded=True)


def test_looking_alone_changes_nothing(model, unwatched):
    watcher = Watcher([range(1, 7)] * 4)
    sampled = draw(model, watcher)
    assert all(torch.equal(a, b) for a, b in zip(sampled.latents, unwatched.latents, strict=True))
    assert sampled.steps == [6] * 4 and sampled.nfe == unwatched.nfe == [sum(BRANCHES)] * 4
    assert [step for step, _ in watcher.seen] == [1, 2, 3, 4, 5, 6]


def test_an_estimate_is_what_the_state_is_heading_for(model, unwatched):
    watcher = Watcher([range(1, 7)] * 4)
    draw(model, watcher)
    for step, estimates in watcher.seen:
        for k, estimate in estimates.items():
            x, x_next, t, t_next, *_ = unwatched.paths[k][step - 1]
            v = (x - x_next) / (t - t_next)
            assert torch.allclose(estimate, x - t * v, atol=1e-4)
    last = watcher.seen[-1][1]
    assert all(torch.allclose(last[k], unwatched.latents[k], atol=1e-6) for k in range(4))


def test_only_what_is_wanted_is_shown(model):
    watcher = Watcher([(), (2,), (2, 5), ()])
    draw(model, watcher)
    assert [(step, sorted(estimates)) for step, estimates in watcher.seen] == [(2, [1, 2]), (5, [2])]


def test_what_is_given_up_costs_nothing_more_and_the_others_are_as_they_were(model, unwatched, monkeypatch):
    evaluated, velocity = Counter(), model.velocity

    def counted(latents):
        evaluated[len(latents)] += 1
        return velocity(latents)

    monkeypatch.setattr(model, "velocity", counted)
    watcher = Watcher([range(1, 7)] * 4, ends={0: 2, 2: 2, 3: 5})
    sampled = draw(model, watcher)
    assert sampled.steps == [2, 6, 2, 5]
    assert sampled.nfe == [sum(BRANCHES[:n]) for n in sampled.steps]
    tokens = [h * w for h, w in GRIDS]
    assert sum(size * times for size, times in evaluated.items()) == sum(
        n * nfe for n, nfe in zip(tokens, sampled.nfe, strict=True)
    )
    for k, step in ((0, 2), (2, 2), (3, 5)):
        assert torch.equal(sampled.latents[k], dict(watcher.seen)[step][k])
    assert torch.allclose(sampled.latents[1], unwatched.latents[1], atol=1e-5)


def test_nothing_runs_once_all_are_given_up(model):
    sampled = draw(model, Watcher([(3,)] * 4, ends=dict.fromkeys(range(4), 3)))
    assert sampled.steps == [3] * 4 and sampled.nfe == [6] * 4


def test_stochastic_paths_of_the_others_go_on(model):
    noise = Noise(eta=0.5, window=Window(size=2, low=0, high=5))
    sampling = Sampling(num_timesteps=7, timestep_shift=1.0, cfg_text_scale=3.0, cfg_interval=(0.4, 1.0), noise=noise)
    chosen = [(1, 3), (0, 2), (2, 4), (0, 4)]
    stochastic = [
        Stochastic(steps, torch.randn(2, h * w, 64, generator=torch.Generator().manual_seed(9 + k)))
        for k, (steps, (h, w)) in enumerate(zip(chosen, GRIDS, strict=True))
    ]
    plain = draw(model, sampling=sampling, stochastic=stochastic, is_recorded=True)
    watcher = Watcher([(3,)] * 4, ends={0: 3, 2: 3})
    sampled = draw(model, watcher, sampling=sampling, stochastic=stochastic, is_recorded=True)
    assert [len(path) for path in sampled.paths] == [1, 2, 1, 2]
    for k in (1, 3):
        assert torch.allclose(sampled.latents[k], plain.latents[k], atol=1e-5)
        assert torch.allclose(sampled.paths[k][-1].x_next, plain.paths[k][-1].x_next, atol=1e-5)
