"""What replaying whole trajectories in one pack buys a learner. Ratios within one run, of CPU time of one thread."""

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.noise import Noise
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.interleaved import TINY
from strokes.agents.load import SHIPPED
from strokes.agents.replay import Replayer
from strokes.agents.trajectory import Trajectory
from strokes.envs.protocols import Reply, Transition
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Transcript

pytestmark = pytest.mark.bench

SIZE, NUM = 48, 4
PLAN = "<ins>Draw a red circle at the left.</ins><des>A red circle at the left.</des>"
INSPECT = "the sketch shows a red circle at the left, as planned"
TIMES = (1.0, 11 / 12, 10 / 12, 9 / 12)


def trajectory(tokenizer, config, num_images, num_steps, seed):
    """Sketches and their words, with random latents and states: what they are does not matter for speed."""
    rng = np.random.default_rng(seed)
    count = (SIZE // config.latent_stride) ** 2

    def latent():
        return torch.from_numpy(rng.standard_normal((count, config.latent_dim), dtype=np.float32))

    transcript, replies = Transcript(prompt="a photo of a red circle left of a blue square", size=SIZE), []
    ids = tokenizer.ids
    for k in range(num_images):
        for stage, words in ((Stage.PLAN, PLAN), (Stage.SKETCH, None), (Stage.INSPECT, INSPECT)):
            if words is None:
                content = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                pairs = list(pairwise(TIMES))[:num_steps]
                path = tuple(Transition(latent(), latent(), t, after, 0.8) for t, after in pairs)
                tokens = (ids.start_of_image,)
                reply = Reply(emission=Emission(stage, content), path=path, latent=latent(), tokens=tokens)
            else:
                tokens = (ids.bos_token_id, *tokenizer.encode(words), ids.eos_token_id)
                reply = Reply(emission=Emission(stage, words), tokens=tokens)
            among = tuple(sorted({ids.start_of_image, ids.bos_token_id, ids.eos_token_id}))
            reply = replace(reply, allowed=(among, *[None] * (len(reply.tokens) - 1)), logps=(0.0,) * len(reply.tokens))
            transcript.record(reply.emission)
            assert not transcript.emissions[-1].error, (k, stage)
            replies.append(reply)
    return Trajectory(transcript=transcript, replies=replies)


def only(whole, emission, step):
    """The trajectory up to one image, with one stochastic step and nothing to learn of words."""
    replies = [
        replace(reply, path=(), tokens=(), logps=(), allowed=()) if reply.emission.stage.is_image else None
        for reply in whole.replies[: emission + 1]
    ]
    replies[emission] = replace(replies[emission], path=(whole.replies[emission].path[step],))
    return Trajectory(transcript=whole.transcript.cut(emission + 1), replies=replies)


def seconds(work):
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(("num_images", "num_steps"), [(4, 3), (2, 2)])
def test_one_pack_against_one_forward_for_each_step(capsys, num_images, num_steps):
    """Forward and backward of the same batch: all words and steps at once, or the words and then step by step."""
    torch.set_num_threads(1)
    model, tokenizer = load(SHIPPED, dtype=torch.float32), Tokenizer.load(SHIPPED)
    model.vae.requires_grad_(False)
    replayer = Replayer(model.config, tokenizer, replace(TINY, noise=Noise()))
    wholes = [trajectory(tokenizer, model.config, num_images, num_steps, seed) for seed in range(NUM)]
    images = [k for k, reply in enumerate(wholes[0].replies) if reply.path]
    words = [replace(w, replies=[replace(reply, path=()) for reply in w.replies]) for w in wholes]
    singles = [[only(whole, k, j) for whole in wholes] for k in images for j in range(num_steps)]

    def learn(batch):
        model.zero_grad()
        found = replayer(model, batch)
        sum(each.logps.sum() + each.steps.sum() * 1e-4 for each in found).backward()
        return found

    whole, parts = learn(wholes), [learn(batch) for batch in singles]
    for i, each in enumerate(whole):
        assert torch.allclose(each.steps, torch.cat([part[i].steps for part in parts]), atol=0.05, rtol=1e-5)
    packed = seconds(lambda: learn(wholes))
    serial = seconds(lambda: [learn(batch) for batch in (words, *singles)])
    with capsys.disabled():
        print(
            f"\npacked replay against one forward for each step, {num_images} images x {num_steps} steps: "
            f"{serial / packed:.2f} (wanted >= 3 at 4 x 3; {NUM} trajectories, {packed:.2f} s against {serial:.2f} s)"
        )
    if (num_images, num_steps) == (4, 3):
        assert serial / packed >= 3
