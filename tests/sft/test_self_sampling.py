"""Trajectories over a model's own sketches, with a sketcher whose faults are known."""

import itertools

import numpy as np

from strokes.agents.random_legal import RandomLegal
from strokes.agents.scripted import Habits
from strokes.envs import Stage
from strokes.rewards.scenes import SceneReward
from strokes.sft.self_sampling import BATCH, self_sampled


def sampled(start=0, num=24):
    return list(itertools.islice(self_sampled(RandomLegal(), Habits(per_step=(2, 2)), 3, 48, start), num))


def test_only_the_painters_words_and_corrections_bear_loss():
    for transcript in sampled():
        for entry in transcript.emissions:
            assert entry.loss is (entry.stage is not Stage.SKETCH)


def test_the_painter_corrects_whatever_was_sketched():
    transcripts = sampled()
    assert any(entry.stage is Stage.REFINE for transcript in transcripts for entry in transcript.emissions)
    assert all(score.total == 1 for score in SceneReward(outcome="strict")(transcripts))


def test_a_stream_depends_on_its_place_alone():
    (late,) = sampled(BATCH, 1)
    again = sampled(0, BATCH + 1)[BATCH]
    assert late.prompt == again.prompt and len(late.emissions) == len(again.emissions)
    assert all(np.array_equal(a.content, b.content) for a, b in zip(late.emissions, again.emissions, strict=True))
