"""Small data and settings for the tests of supervised training."""

from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from strokes.agents.command import nested
from strokes.agents.scripted import Habits, demonstrate
from strokes.envs.scenes.tasks import sample_task
from strokes.sft.sample import Sample, Subset
from strokes.sft.store import write_shard
from strokes.sft.train_settings import Settings

HABITS = Habits(error_rate=0.5, plan_error_rate=0.1, per_step=(1, 2))


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


def settings(data: Path, *overrides: str) -> Settings:
    """Of a run of a few steps on ``write_data``."""
    return nested(Settings, values(data, *overrides), "sft")


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


def values(data: Path, *overrides: str) -> dict[str, Any]:
    """The same as plain values."""
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("sft", [*words(data), "out=unused", *overrides])
    found: Any = OmegaConf.to_container(config, resolve=True)
    return found
