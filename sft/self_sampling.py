"""Self-sampling: the faults a model really makes, as context for inspections and corrections that are exact.

The paper's critique of plans is self-sampled (arXiv 2604.04746, section 3.2). Either the model takes one turn of one
drawing, a plan (``conflict``) or a sketch (``alignment``), or it draws every sketch of a trajectory
(``self_sampled``), for pre-training. The scripted painter does the rest: it plans, inspects with the detector and,
where something is wrong, says so and corrects it. What the model did is context; what the painter says of it is learnt.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..agents.bagel.model import Bagel
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.human import Relay
from ..agents.interleaved import TINY, Interleaved
from ..agents.rollout import Rules, play, torch_threads
from ..agents.scripted import Habits, ScriptedPainter
from ..envs.protocols import Policy
from ..envs.scenes.tasks import sample_task
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .drafts import BATCH, mask_of

BUDGET = 24
"""Emissions after which a drawing is given up: a painter needs 4 for each of at most 4 rounds."""

CARELESS = replace(TINY, num_timesteps=5, cfg_text_scale=1.0)
"""How the model sketches here: 4 steps without guidance, so that it errs often enough to learn from."""


def heated(policy: Policy, temperature: float) -> Policy:
    """``policy``, set to sample texts at a temperature where that can be set; others sample as they do."""
    if isinstance(policy, Interleaved):
        policy.temperature = temperature
    return policy


def take_turns(
    policy: Policy, transcripts: Sequence[Transcript], stage: Stage, seed: Sequence[int], rules: Rules
) -> list[str]:
    """One emission of ``policy`` on each transcript, all of one stage, as context.

    Results are the same for the same batch and seed: it advances together, on one thread.

    Returns:
        Why each emission is illegal; "" where it is not.
    """
    sessions = [policy.start(each, rules.size, (*seed, k)) for k, each in enumerate(transcripts)]
    try:
        with torch_threads(1):
            replies = policy.act(sessions, [mask_of(stage)] * len(sessions))
    finally:
        policy.close(sessions)
    return [
        transcript.record(reply.emission, grammar=rules.grammar, max_chars=rules.max_chars, loss=False)
        for transcript, reply in zip(transcripts, replies, strict=True)
    ]


def self_sampled(sketcher: Policy, habits: Habits, seed: int, size: int, start: int = 0) -> Iterator[Transcript]:
    """Transcripts with ``sketcher``'s sketches, without end.

    Args:
        sketcher: Draws; the model in training.
        habits: Of the painter who does the rest; its own errors should be 0.
        seed: With the number of the transcript the only source of randomness.
        size: Side of the canvas in pixels.
        start: Number of the first transcript, a multiple of ``BATCH``.
    """
    policy = Relay(ScriptedPainter(habits), sketcher, {Stage.SKETCH})
    for first in itertools.count(start, BATCH):
        transcripts = []
        for k in range(first, first + BATCH):
            task = sample_task(np.random.default_rng([seed, 11, k]))
            transcripts.append(Transcript(prompt=task.prompt, size=size, meta=task.meta))
        play(policy, transcripts, [(seed, first + k) for k in range(BATCH)], Rules(size=size, budget=BUDGET))
        for transcript in transcripts:
            for entry in transcript.emissions:
                entry.loss = entry.stage is not Stage.SKETCH
            yield transcript


def own_transcripts(model: Bagel, tokenizer: Tokenizer, habits: Habits, num: int, seed: int) -> list[Transcript]:
    """``num`` transcripts over a model's own sketches: half of them with a refinement, half without."""
    sketcher = Interleaved(model.eval(), tokenizer, CARELESS)
    careful = replace(habits, error_rate=0.0, plan_error_rate=0.0)
    kept: dict[bool, list[Transcript]] = {True: [], False: []}
    wanted = {True: num - num // 2, False: num // 2}
    for transcript in self_sampled(sketcher, careful, seed, model.config.vae_transform[0]):
        is_refined = any(entry.stage is Stage.REFINE for entry in transcript.emissions)
        if len(kept[is_refined]) < wanted[is_refined]:
            kept[is_refined].append(transcript)
        if all(len(kept[key]) == wanted[key] for key in wanted):
            return kept[True] + kept[False]
    raise AssertionError("the stream of transcripts does not end")
