"""Samples as the tests of the store write them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from strokes.agents.scripted import demonstrate
from strokes.envs.scenes import sample_task
from strokes.sft.rows import schema
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


def rewritten(path, change):
    """The shard with its rows changed by ``change``."""
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema()), path)
