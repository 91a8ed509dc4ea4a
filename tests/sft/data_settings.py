"""Settings of strokes-data for its tests."""

from hydra import compose, initialize_config_module

from strokes.agents.command import settings_from
from strokes.sft.build_settings import Settings

SMALL = ("subset=multi_turn", "scale=0.0012", "validation=0.1", "chunk_size=16", "audit=false")
"""38 samples in chunks of 16, 16 and 6, and 4 for validation."""
RULES = ("conflict.source=symbolic", "alignment.source=corrupted")
"""Data that no model takes part in."""


def composed(*overrides) -> Settings:
    with initialize_config_module("strokes.configs", version_base="1.3"):
        return settings_from(compose("data", ["out=x", *overrides]), Settings, "data")
