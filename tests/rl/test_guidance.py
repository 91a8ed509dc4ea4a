"""What the guide says of images, and where its gradient leads."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.bagel.transforms import to_pixels
from strokes.agents.forward_states import ForwardState
from strokes.agents.load import NANO
from strokes.agents.trajectory import Trajectory
from strokes.agents.understanding import Understanding
from strokes.envs.scenes.tasks import heldout
from strokes.envs.transcript import Transcript
from strokes.rl.guidance import Guide
from strokes.rl.preference import Pair, guided


@pytest.mark.parametrize("size", [48, 64, 50])
def test_the_guide_says_what_the_understanding_says(size):
    understanding = Understanding(load(NANO, dtype=torch.float32), Tokenizer.load(NANO))
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    question, prompts = "Is it so? <|im_end|>", ["a red <circle>", "two blue squares"]
    guide = Guide(understanding, below=0.5)
    with torch.no_grad():
        found = guide.log_p_yes(to_pixels(images), question, prompts).exp().tolist()
    wanted = understanding.answer(list(images), [question] * 2, prompts)
    # PIL rounds resized pixels to bytes.
    assert found == pytest.approx(wanted, abs=1e-5 if size != 50 else 0.05)


def test_the_guide_leads_velocities_to_images_it_takes_for_right(unsure):
    guide, model = Guide(unsure, below=0.5), unsure.model
    task = next(task for task in heldout("heldout", 5) if task.tag == "two_object")
    pair = Pair(*(Trajectory(transcript=Transcript(prompt=task.prompt, size=48)) for _ in range(2)))
    rng = torch.Generator().manual_seed(0)
    side = 48 // model.config.latent_stride
    clean, noise = torch.randn((2, side * side, model.config.latent_dim), generator=rng)
    given = [ForwardState(k, t, clean, noise) for k in (1, 3) for t in (0.9, 0.4)]
    v = torch.stack([state.velocity for state in given]).requires_grad_()
    replay = SimpleNamespace(velocities=v)
    loss = guide.loss(model, [pair], [replay, replay], [given, given])
    (grad,) = torch.autograd.grad(loss, v)
    assert grad[:3].abs().max() == 0  # neither what is not the last image, nor what is too noisy
    assert grad[3].abs().max() > 0
    with torch.no_grad():
        stepped = SimpleNamespace(velocities=v - 0.05 * grad / grad.norm())
        assert guide.loss(model, [pair], [stepped, stepped], [given, given]) < loss
        early = SimpleNamespace(velocities=v[:3])
        assert guide.loss(model, [pair], [early, replay], [given[:3], given]) == 0
        both = guide.loss(model, [pair, pair], [replay, replay] * 2, [given, given] * 2)
        assert both.item() == pytest.approx(2 * loss.item(), rel=1e-5)
    assert not any(p.requires_grad for p in model.parameters())


def test_below_what_parm_holds_the_probability_at_there_is_no_gradient():
    logp = torch.tensor([-1.0, -20.0, -np.inf], requires_grad=True)
    loss = guided(logp)
    assert loss.tolist() == pytest.approx([1.0, -np.log(1e-7), -np.log(1e-7)])
    loss.sum().backward()
    assert logp.grad.tolist() == [-1.0, 0.0, 0.0]
