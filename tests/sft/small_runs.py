"""Small data, runs of a few steps on them, and what these leave in their logs."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_module

from strokes.agents.command import settings_from
from strokes.agents.scripted import Habits, demonstrate
from strokes.envs.scenes.tasks import sample_task
from strokes.sft.sample import Sample, Subset
from strokes.sft.store import write_shard
from strokes.sft.train_settings import Settings

HABITS = Habits(error_rate=0.5, plan_error_rate=0.1, per_step=(1, 2))
STEADY = "eps=1.0e-3"
"""An epsilon so large that AdamW does not blow up what is only rounding: gradients that should be 0."""


def make_samples(num: int, subset: Subset = Subset.MULTI_TURN, seed: int = 0, size: int = 48) -> list[Sample]:
    """The painter's drawings; the first tenth is for validation."""
    samples = []
    for k in range(num):
        rng = np.random.default_rng([seed, k])
        transcript = demonstrate(sample_task(rng), rng, size, HABITS)
        transcript.id = f"{subset}-{k}"
        split = "validation" if k < num // 10 else "train"
        samples.append(Sample(subset=subset, transcript=transcript, split=split))
    return samples


def write_data(folder: Path, num: int = 60) -> Path:
    """Two subsets in two shards each."""
    for seed, subset in enumerate((Subset.MULTI_TURN, Subset.ALIGNMENT)):
        samples = make_samples(num, subset, seed)
        for k in (0, 1):
            write_shard(folder / subset / f"{k}.parquet", samples[k::2])
    return folder


def composed(*overrides: str) -> Settings:
    """Of ``strokes-sft`` with these words behind it."""
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("sft", ["out=unused", *overrides])
    return settings_from(config, Settings, "sft")


def settings(data: Path, *overrides: str) -> Settings:
    """Of a run of a few steps on ``write_data``."""
    return composed(*words(data), *overrides)


def words(data: Path) -> list[str]:
    """Overrides of a run of a few steps."""
    return [
        f"data.multi_turn.path={data / 'multi_turn'}",
        f"data.alignment.path={data / 'alignment'}",
        "data.conflict.path=null",
        "tokens=1000",
        "steps=6",
        "warmup=1",
        "log_every=1",
        "save_every=100",
        "device=cpu",
        "evaluation={every: 0, packs: 2, heldout: 1, shown: 2}",
    ]


def command(
    *arguments: str, processes: int = 1, script: Sequence[str] = ("-m", "strokes.sft.train")
) -> subprocess.CompletedProcess[str]:
    """What the command said in processes of its own, of torchrun if there are several."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    full = [sys.executable, *launcher, *script, *arguments]
    return subprocess.run(full, env=env, capture_output=True, text=True, timeout=300, check=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def logged(folder: Path, key: str) -> list[Any]:
    """One of its columns, without the lines that lack it."""
    return [line[key] for line in lines(folder) if key in line]
