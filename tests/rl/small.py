"""Small runs of ``strokes-rl`` on the smallest shipped model; imported by path, also in other processes."""

from pathlib import Path

from hydra import compose, initialize_config_module

from strokes.agents.command import settings_from
from strokes.rl.settings import Settings

NANO = Path(__file__).parents[2] / "agents" / "bagel" / "weights" / "nano-v2"

SMALL = [
    f"policy.path={NANO}",
    *("steps=2", "prompts=2", "group=2", "micro_batch=2", "num_steps=4", "rollout.chunk=4", "heldout.every=0"),
    *("text.lr=1e-3", "flow.lr=1e-3", "lora.rank=4", "save_every=1", "tasks={two_object: 1, composition: 1}"),
]
"""Two generations of two prompts with two drawings each, in a second."""


def settings(*overrides: str, out: str | Path = "unused") -> Settings:
    """The settings of a small run."""
    with initialize_config_module("strokes.configs", version_base="1.3"):
        config = compose("rl", [*SMALL, *overrides, f"out={out}"])
    return settings_from(config, Settings, "rl")
