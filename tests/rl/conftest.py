"""Runs of ``strokes-rl`` on the smallest shipped model."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from peft import LoraConfig, get_peft_model

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.command import settings_from
from strokes.agents.load import NANO
from strokes.agents.understanding import Understanding
from strokes.rl.settings import Settings
from strokes.rl.sync import Weights, collect

sys.path.insert(0, str(Path(__file__).parent))  # for `small`, which processes started by tests import too

from small import settings


@pytest.fixture
def small() -> Callable[..., Settings]:
    return settings


@pytest.fixture
def unsure() -> Understanding:
    """Says yes and no in words that are about as likely to this model; it was taught neither."""
    return Understanding(load(NANO, dtype=torch.float32), Tokenizer.load(NANO), words=("left", "right"))


@pytest.fixture(scope="module")
def weights() -> tuple[Weights, Weights]:
    """Of two versions: small changes of bagel-nano, so that it still plans and draws."""
    target = r".*(q|v)_proj(_moe_gen)?"
    learner = get_peft_model(load(NANO), LoraConfig(r=4, lora_alpha=1, target_modules=target, init_lora_weights=False))
    first = collect(learner, 0)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.mul_(2 if parameter.requires_grad else 1)
    return first, collect(learner, 1)


@pytest.fixture(scope="module")
def composed():
    """Settings of a command, by the name of its file, the kind they are and what is said on the command line."""
    with initialize_config_module("strokes.configs", version_base="1.3"):
        yield lambda name, kind, words: settings_from(compose(name, list(words)), kind, name)
