"""Runs of ``strokes-rl`` on the smallest shipped model."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from strokes.agents.bagel.checkpoint import load
from strokes.agents.load import NANO
from strokes.rl.settings import Settings
from strokes.rl.sync import Weights, collect

sys.path.insert(0, str(Path(__file__).parent))  # for `small`, which processes started by tests import too

from small import settings


@pytest.fixture
def small() -> Callable[..., Settings]:
    return settings


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
