"""What the guide says of images, and where its gradient leads."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from strokes.agents.bagel.transforms import to_pixels
from strokes.agents.forward_states import ForwardState
from strokes.agents.trajectory import Trajectory
from strokes.envs.scenes.tasks import heldout
from strokes.envs.transcript import Transcript
from strokes.rl.guidance import Guide
from strokes.rl.preference import Pair, guided


@pytest.mark.parametrize("size", [48, 64, 50])
def test_the_guide_says_what_the_understanding_says(unsure, size):
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    question, prompts = "Is it so? <|im_end|>", ["a red <circle>", "two blue squares"]
    guide = Guide(unsure, below=0.5)
    with torch.no_grad():
        found = guide.log_p_yes(to_pixels(images), question, prompts).exp().tolist()
    wanted = unsure.answer(list(images), [question] * 2, prompts)
    assert all(1e-3 < p < 1 - 1e-3 for p in wanted)
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


def test_the_gradient_leads_through_latents_and_through_the_image_encoder(unsure, monkeypatch):
    guide, pixels = Guide(unsure, below=0.5), torch.rand((1, 3, 48, 48), generator=torch.Generator().manual_seed(0))

    def gradient():
        given = pixels.clone().requires_grad_()
        (found,) = torch.autograd.grad(guide.log_p_yes(given, "Is it so?", ["a red circle"]).sum(), given)
        return found

    whole, encoded, seen = gradient(), Guide._encoded, Guide._seen
    monkeypatch.setattr(Guide, "_seen", lambda self, given: seen(self, given.detach()))
    latents_alone = gradient()
    monkeypatch.setattr(Guide, "_seen", seen)
    monkeypatch.setattr(Guide, "_encoded", lambda self, given: encoded(self, given.detach()))
    encoder_alone = gradient()
    assert latents_alone.abs().max() > 0 and encoder_alone.abs().max() > 0
    assert torch.allclose(latents_alone + encoder_alone, whole, rtol=1e-3, atol=1e-6)
