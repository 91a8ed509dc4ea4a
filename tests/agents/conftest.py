"""A tiny BAGEL that has learnt one drawing by heart: a policy with something to say, made in seconds."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, Text, Tokenizer, VaeImage, VitImage, pack
from strokes.agents.bagel.sample import Sampling
from strokes.agents.interleaved import Interleaved

TOKENIZER = Path(__file__).parents[1] / "golden" / "bagel" / "checkpoint"
PROMPT = "a red circle"
PLAN = "<ins>Draw a red circle.</ins><des>a red circle</des>"
WRONG = "It is wrong.<refine>Draw it.</refine>"
RIGHT = "It is right."
STEPS = 35
"""Enough to know the drawing by heart (cross entropy .015)."""


class Memorised(NamedTuple):
    """The model, its tokenizer, and what it says: a round with a refinement, a round without, the end."""

    model: Bagel
    tokenizer: Tokenizer
    prompt: str = PROMPT
    texts: tuple[str, ...] = (PLAN, WRONG, PLAN, RIGHT)

    def policy(self, **options):
        """A policy with few sampling steps."""
        sampling = options.pop("sampling", Sampling(num_timesteps=4, timestep_shift=1.0, cfg_text_scale=2.0))
        return Interleaved(self.model, self.tokenizer, sampling, **{"max_tokens": 40, **options})


@pytest.fixture(scope="session")
def memorised():
    """Cross entropy alone; images are noise, so that what it says does not depend on what it draws."""
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(TOKENIZER)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Bagel(BagelConfig.nano(vocab_size=600))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95))
    generator, ids = torch.Generator().manual_seed(0), tokenizer.ids
    picture, text, end = ids.start_of_image, ids.bos_token_id, ids.eos_token_id

    def said(words, switch):
        return [Text(ids=tokenizer.encode(words), loss=True, switch=switch)]

    def drawn():
        latent = torch.randn(9, model.config.latent_dim, generator=generator)
        pixels = torch.rand(3, 48, 48, generator=generator) * 2 - 1
        return [VaeImage(latent=latent), VitImage(pixels=pixels, switch=text)]

    for _ in range(STEPS):
        sample = [Text(ids=tokenizer.encode(PROMPT), switch=text)]
        for words, switch in ((PLAN, picture), (WRONG, picture), (PLAN, picture), (RIGHT, end)):
            sample += said(words, switch) + (drawn() if switch == picture else [])
        model(pack([sample], model.config, ids)).ce_loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():  # velocities that depend on everything
        model.llm2vae.weight.normal_(std=0.1, generator=generator)
    return Memorised(model.eval().requires_grad_(False), tokenizer)
