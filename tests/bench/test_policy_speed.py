"""What batching and incremental contexts buy a policy. Prints ratios within one run and asserts no rate.

A random model of the size of bagel-tiny; times are CPU time of one thread. What a canvas says is given beforehand, so
that both sides of a ratio do the same work. Beside the ratios stands how fast this machine ran a fixed loop.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from strokes.agents.bagel import Bagel, BagelConfig, Text, TokenIds
from strokes.agents.bagel.context import Contexts
from strokes.agents.bagel.generate import Allowed, choose, decode_text
from strokes.agents.bagel.pictures import Pictures
from strokes.agents.bagel.sample import Branches, Sampling, sample_images
from strokes.agents.interleaved import TINY

pytestmark = pytest.mark.bench

NUM = 16
SIZE = 48
TOKENS = TokenIds(bos_token_id=1, eos_token_id=2, start_of_image=3, end_of_image=4)
VOCAB = 1024
PROMPT, PLAN, INSPECTION = 16, 40, 14
"""Tokens of a prompt of the mini-world, of a plan and of an inspection, as the tiny tokenizer has them."""
ROUND = ((PLAN, True), (INSPECTION, True))
"""A text and the image after it: a plan and a sketch, an inspection and a refinement."""


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Bagel(BagelConfig.tiny(vocab_size=VOCAB)).eval().requires_grad_(False)
        model.llm2vae.weight.normal_(std=0.02)
    return model


def calibration() -> float:
    """Rounds per second of small matrix products and plain Python, as a small model is made of."""
    a, start = torch.randn(32, 128), time.process_time()
    weight = torch.randn(128, 128)
    for _ in range(2000):
        torch.relu(a @ weight)
        sum(range(50))
    return 2000 / (time.process_time() - start)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def report(capsys, what: str, ratio: float, wanted: str, detail: str) -> None:
    with capsys.disabled():
        print(f"\n{what}: {ratio:.2f} (wanted {wanted}; {detail}; calibration {calibration():,.0f})")


def exactly(num: int):
    """A constraint under which every text has ``num`` tokens before ``<|im_end|>``."""
    words, end = Allowed(range(10, VOCAB)), Allowed([TOKENS.eos_token_id])
    return lambda ids: words if len(ids) < num else end


def begin(model, seeds) -> tuple[Contexts, list[int]]:
    contexts = Contexts(model, TOKENS)
    rows = contexts.open(len(seeds))
    rngs = [np.random.default_rng(seed) for seed in seeds]
    contexts.extend(rows, [[Text(ids=rng.integers(10, VOCAB, PROMPT + k % 5).tolist())] for k, rng in enumerate(rngs)])
    return contexts, rows


def write(contexts, rows, num: int) -> None:
    uniforms = np.random.default_rng(0).random((len(rows), num + 1))
    decode_text(contexts, rows, uniforms, temperature=1.0, constraints=[exactly(num)] * len(rows))


def branches(contexts, rows) -> Branches:
    return Branches([contexts.view(row) for row in rows], [contexts.base(row) for row in rows])


def draw(model, contexts, rows, num_timesteps: int) -> None:
    """Draw, decode, encode, and put the image into the contexts."""
    sampling = Sampling(num_timesteps=num_timesteps, timestep_shift=1.0, cfg_text_scale=3.0, cfg_interval=(0, 1))
    pictures, rngs = Pictures(model, sampling), [np.random.default_rng(k) for k in rows]
    drawn = pictures.draw(contexts, branches(contexts, rows), [SIZE] * len(rows), rngs)
    images = [each.image for each in drawn]
    latents = pictures.encode(images)
    contexts.extend(rows, [pictures.items(image, latent) for image, latent in zip(images, latents, strict=True)])


def drawing(model, seeds, num_rounds: int, num_timesteps: int) -> Contexts:
    """A whole drawing of every canvas, refined in every round."""
    contexts, rows = begin(model, seeds)
    for _ in range(num_rounds):
        for num, _ in ROUND:
            choose(contexts.logits(rows), np.zeros(len(rows)), 1.0)
            write(contexts, rows, num)
            draw(model, contexts, rows, num_timesteps)
    return contexts


def compare(capsys, what: str, wanted: str, single: Callable[[int], object], batch: Callable[[], object]) -> None:
    """``NUM`` single runs against one batch."""
    alone = sum(seconds(lambda k=k: single(k), repeats=1) for k in range(NUM))
    together = seconds(batch, repeats=2)
    detail = f"one canvas {alone / NUM:.3f} s alone, {together / NUM:.3f} s in a batch of {NUM}"
    report(capsys, f"{what}, batch against single runs", alone / together, wanted, detail)


def test_text_decoding(model, capsys):
    singles = [begin(model, [k]) for k in range(NUM)]
    contexts, rows = begin(model, range(NUM))
    compare(
        capsys,
        f"decoding {PLAN} tokens",
        ">= 4",
        lambda k: write(*singles[k], PLAN),
        lambda: write(contexts, rows, PLAN),
    )


def test_image_steps(model, capsys):
    def sample(contexts, rows):
        noise = [torch.zeros(9, model.config.latent_dim)] * len(rows)
        sample_images(contexts, branches(contexts, rows), noise, [(3, 3)] * len(rows), TINY)

    singles = [begin(model, [k]) for k in range(NUM)]
    contexts, rows = begin(model, range(NUM))
    compare(
        capsys,
        f"{TINY.num_timesteps - 1} image steps with guidance",
        ">= 1.5",
        lambda k: sample(*singles[k]),
        lambda: sample(contexts, rows),
    )


def test_whole_drawings(model, capsys):
    compare(
        capsys,
        "a drawing of one refined round",
        ">= 2",
        lambda k: drawing(model, [k], 1, TINY.num_timesteps),
        lambda: drawing(model, range(NUM), 1, TINY.num_timesteps),
    )


def test_incremental_contexts_against_encoding_anew_at_every_stage(model, capsys):
    contexts = drawing(model, [0], 3, 2)
    trail = contexts.trail(0)
    # An emission begins after each text and after each whole image, which is two items.
    stages = [1] + [k for i in range(len(ROUND) * 3) for k in (2 + 3 * i, 4 + 3 * i)]
    lengths = [trail[k].length for k in stages]
    incremental, anew = lengths[-1], sum(lengths[:-1])
    rng = np.random.default_rng(0)

    def encode(num: int) -> None:
        fresh = Contexts(model, TOKENS)
        fresh.extend(fresh.open(1), [[Text(ids=rng.integers(10, VOCAB, num - 2).tolist())]])

    pieces = np.diff([0, *lengths])

    def step_by_step() -> None:
        fresh = Contexts(model, TOKENS)
        rows = fresh.open(1)
        for num in pieces:
            fresh.extend(rows, [[Text(ids=rng.integers(10, VOCAB, max(num - 2, 1)).tolist())]])

    ratio = seconds(step_by_step) / sum(seconds(lambda n=num: encode(n)) for num in lengths[:-1])
    detail = f"exactly {incremental} tokens against {anew}; CPU time {ratio:.2f}"
    report(capsys, "context encoding of three rounds, share", incremental / anew, "<= 0.25", detail)
    assert incremental == contexts.mark(0).length
    assert incremental / anew <= 0.25
