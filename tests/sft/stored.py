"""Samples as the tests of the store write them."""

import numpy as np

from strokes.agents.scripted import demonstrate
from strokes.envs.scenes import sample_task
from strokes.sft.sample import Sample, Subset

SUBSETS = (Subset.MULTI_TURN, Subset.CONFLICT)


def sample(k: int) -> Sample:
    rng = np.random.default_rng([7, k])
    transcript = demonstrate(sample_task(rng), rng)
    transcript.id, transcript.seed = f"t-{k:03d}", k
    subset = SUBSETS[k % 2]
    return Sample(
        subset=subset,
        transcript=transcript,
        label=None if subset is Subset.MULTI_TURN else k % 4 == 1,
        kinds=("add", "swap"),
        graph_hash=f"{k:x}",
        split="validation" if k == 11 else "train",
        provenance={"source": "exact", "steps": [0, 2]},
    )
