"""The learner in several processes that Ray Train starts, places and restarts; every override of strokes-rl works.

    python examples/ray_train_learner.py 2 out=/shared/rl policy=bagel policy.path=/models/BAGEL-7B-MoT

The first argument is the number of processes, each with a GPU where the cluster has any. Rollouts in the same cluster:
rollout.kind=ray. After a fault Ray Train starts all processes again, and they go on from the last checkpoint in
`out`, a folder that all nodes see.
"""

import sys
from pathlib import Path
from typing import Any

import ray
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from strokes.agents.command import nested
from strokes.agents.pool import start_ray
from strokes.rl.settings import Settings
from strokes.rl.train import train


def learn(values: dict[str, Any]) -> None:
    """One process; torch.distributed is set up, and the trainer finds it."""
    settings = nested(Settings, values, "rl")
    train(settings, Path(settings.out))


def main(num_workers: int, overrides: list[str]) -> None:
    """Compose the settings once and learn with them everywhere."""
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("rl", overrides)
    out = Path(config.out).absolute()
    config.out = str(out)
    start_ray(config.rollout.address)
    TorchTrainer(
        learn,
        train_loop_config=OmegaConf.to_container(config, resolve=True),
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu="GPU" in ray.cluster_resources()),
        run_config=RunConfig(name="ray", storage_path=str(out), failure_config=FailureConfig(max_failures=3)),
    ).fit()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
