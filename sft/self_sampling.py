"""Trajectories over the model's own sketches: the faults it really makes, inspected and corrected exactly.

The paper's instruction-intermediate critique is self-sampled too. Here the model draws every sketch and the
scripted painter does the rest: it plans, inspects with the detector and, where the sketch is wrong, says so and
draws the correction. The sketches are context; the inspections and corrections are learnt.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..agents.bagel.model import Bagel
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.human import Relay
from ..agents.interleaved import TINY, Interleaved
from ..agents.scripted import Habits, ScriptedPainter
from ..envs.protocols import Policy
from ..envs.scenes.tasks import sample_task
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .collator import Example, ImageTable, from_transcript

BUDGET = 24
"""Emissions after which a drawing is given up: a painter needs 4 for each of at most 4 rounds."""


def self_sampled(
    sketcher: Policy, habits: Habits, num: int, seed: int, size: int, batch: int = 64
) -> Iterator[Transcript]:
    """Transcripts with ``sketcher``'s sketches, in order.

    Args:
        sketcher: Draws; the model in training.
        habits: Of the painter who does the rest; its own errors should be 0.
        num: How many.
        seed: With the number of the transcript the only source of randomness; with ``batch`` it fixes the result.
        size: Side of the canvas in pixels.
        batch: Canvases that advance together.
    """
    policy = Relay(ScriptedPainter(habits), sketcher, {Stage.SKETCH})
    for start in range(0, num, batch):
        transcripts = []
        for k in range(start, min(start + batch, num)):
            task = sample_task(np.random.default_rng([seed, 11, k]))
            transcripts.append(Transcript(prompt=task.prompt, size=size, meta=task.meta))
        sessions = [policy.start(t, size, (seed, start + k)) for k, t in enumerate(transcripts)]
        while running := [k for k, t in enumerate(transcripts) if t.ended is None and len(t.emissions) < BUDGET]:
            masks = [transcripts[k].mask() for k in running]
            for k, reply in zip(running, policy.act([sessions[k] for k in running], masks), strict=True):
                transcripts[k].record(reply.emission)
        policy.close(sessions)
        for transcript in transcripts:
            for entry in transcript.emissions:
                entry.loss = entry.stage is not Stage.SKETCH
            yield transcript


def own_examples(
    model: Bagel, tokenizer: Tokenizer, table: ImageTable, habits: Habits, num: int, seed: int
) -> list[Example]:
    """Examples of a model's own trajectories, their images added to ``table``."""
    sketcher = Interleaved(model.eval(), tokenizer, TINY)
    careful = replace(habits, error_rate=0.0, plan_error_rate=0.0)
    transcripts = self_sampled(sketcher, careful, num, seed, model.config.vae_transform[0])
    return [from_transcript(transcript, tokenizer, table) for transcript in transcripts]
