"""Bare BAGEL told what to draw: each image has the context that BAGEL's own inferencer gives it."""

import numpy as np
import pytest
import torch
from PIL import Image

from strokes.agents.bagel.config import BagelConfig
from strokes.agents.bagel.inferencer import Inferencer
from strokes.agents.bagel.sample import Sampling
from strokes.agents.bagel.transforms import ImageTransform
from strokes.agents.editor import EDITING, Editor
from strokes.agents.one_shot import OneShot
from strokes.agents.rollout import Rules, play
from strokes.envs import Emission, Stage, Transcript
from strokes.envs.testing import PolicyConformance

S = Stage
SAMPLING = Sampling(num_timesteps=4, timestep_shift=1.0, cfg_text_scale=2.0)
PLAN = "<ins>Add a star.</ins><des>a circle and a star</des>"


def make(memorised, editing):
    return Editor(memorised.model, memorised.tokenizer, SAMPLING, editing)


def edited(cfg_img_scale):
    return Sampling(num_timesteps=5, timestep_shift=1.0, cfg_text_scale=2.0, cfg_img_scale=cfg_img_scale)


class TestEditorConformance(PolicyConformance):
    @pytest.fixture(autouse=True)
    def _given(self, memorised):
        self.memorised = memorised

    def make_policy(self):
        return make(self.memorised, edited(2.0))


def canvas(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (48, 48, 3)).astype(np.uint8)


def asked(*, sketch=None, refine=None, prompt="x"):
    transcript = Transcript(prompt=prompt, size=48)
    if sketch is not None:
        transcript.give(sketch)
    transcript.record(Emission(S.PLAN, PLAN))
    if refine is not None:
        transcript.record(Emission(S.SKETCH, canvas(1)))
        transcript.record(Emission(S.INSPECT, f"It is wrong.<refine>{refine}</refine>"))
    return transcript


def inferred(memorised, transcript, seed, inputs, sampling):
    """The image by BAGEL's inferencer, from the noise of the policy."""
    noise = np.random.default_rng(np.random.SeedSequence((*seed, len(transcript.emissions))))
    noise = noise.standard_normal((9, memorised.model.config.latent_dim), dtype=np.float32)
    config: BagelConfig = memorised.model.config
    transforms = ImageTransform(48, 48, config.latent_stride), ImageTransform(48, 48, config.vit_config.patch_size)
    run = Inferencer(memorised.model, memorised.tokenizer, transforms)
    for given in inputs:
        if isinstance(given, str):
            run.add_text(given)
        else:
            run.add_image(Image.fromarray(given), torch.zeros)
    return run.draw((48, 48), sampling, torch.from_numpy(noise))[0]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_images_are_those_of_the_official_inferencer(memorised, scale):
    given = canvas()
    cases = [
        (asked(), ["a circle and a star"], SAMPLING),
        (asked(sketch=given), [given, "Add a star."], edited(scale)),
        (asked(refine="Move it."), [canvas(1), "Move it."], edited(scale)),
    ]
    policy, transcripts = make(memorised, edited(scale)), [transcript for transcript, *_ in cases]
    sessions = [policy.start(transcript, 48, (7, k)) for k, transcript in enumerate(transcripts)]
    replies = policy.act(sessions, [transcript.mask() for transcript in transcripts])
    for k, (reply, (transcript, inputs, sampling)) in enumerate(zip(replies, cases, strict=True)):
        wanted = inferred(memorised, transcript, (7, k), inputs, sampling)
        apart = np.abs(reply.emission.content.astype(int) - wanted)
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-2
        branches = 1 + (sampling.cfg_text_scale > 1) + (sampling.cfg_img_scale > 1)
        guided = reply.cost.nfe - reply.cost.steps
        assert reply.cost.steps == sampling.num_timesteps - 1 and guided % (branches - 1) == 0 < guided
        assert reply.cost.decodes == 1 and reply.cost.encoded > 0
    assert [reply.emission.stage for reply in replies] == [S.SKETCH, S.SKETCH, S.REFINE]
    assert policy.contexts.open(1) == [0]  # nothing is held


def test_alone_it_draws_the_prompt_at_once(memorised):
    transcripts = [Transcript(prompt="a red circle", size=48) for _ in range(2)]
    (one,) = play(make(memorised, None), transcripts[:1], [(3,)], Rules())
    (other,) = play(OneShot(memorised.model, memorised.tokenizer, SAMPLING), transcripts[1:], [(3,)], Rules())
    assert np.abs(one.transcript.images[0].astype(int) - other.transcript.images[0]).max() <= 1
    assert [entry.stage for entry in one.transcript.emissions] == [entry.stage for entry in other.transcript.emissions]


def test_a_given_canvas_is_edited_to_the_prompt_where_nobody_plans(memorised):
    transcript, sampling, given = Transcript(prompt="a red circle", size=48), edited(2.0), canvas()
    transcript.give(given)
    policy = make(memorised, sampling)
    session = policy.start(transcript, 48, (5,))
    transcript.record(policy.act([session], [transcript.mask()])[0].emission)
    (reply,) = policy.act([session], [transcript.mask()])
    wanted = inferred(memorised, transcript, (5,), [given, "a red circle"], sampling)
    assert np.abs(reply.emission.content.astype(int) - wanted).max() <= 1


def test_edits_are_sampled_as_bagel_recommends(memorised):
    policy = Editor(memorised.model, memorised.tokenizer)
    assert policy.first.sampling == Sampling() and policy.later.sampling == EDITING
    assert (EDITING.cfg_img_scale, EDITING.cfg_renorm_type, EDITING.cfg_interval) == (2.0, "text_channel", (0.0, 1.0))


def test_a_canvas_that_the_model_cannot_draw_is_refused(memorised):
    with pytest.raises(ValueError, match="multiple of 16"):
        make(memorised, None).start(Transcript(prompt="x", size=40), 40, (0,))
