"""The examples in the docstrings run, and importing the environment stays light."""

import doctest
import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["agents.human", "agents.ledger", "envs.testing", "envs.transcript", "rewards.score"])
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"strokes.{name}"))
    assert result.attempted and not result.failed


def test_importing_the_environment_loads_no_training_stack():
    code = "import sys, strokes.envs; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {
        "torch",
        "transformers",
        "datasets",
        "trl",
        "peft",
        "ray",
        "hydra",
        "diffusers",
        "rich",
        "openai",
    }
