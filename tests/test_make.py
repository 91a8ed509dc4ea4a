"""A prompt survives make, whatever it is made of."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMPTS = [
    "a red circle, and a blue square",
    'it\'s a "star"',
    "(two) circles = {one: pair} [x]",
    "$x $$ ${HOME} $(shell touch trap) $(",
    "`touch trap`; touch trap && $(touch trap) | \\",
    "une étoile → 星 🎨",
    "one\ntwo",
    "null",
    "# no comment, %s ~ * ? !",
]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def checkout(tmp_path):
    """A folder where `.venv` is ready and `strokes-draw` writes down the prompt it was given."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    stub = tmp_path / ".venv" / "bin" / "strokes-draw"
    stub.parent.mkdir(parents=True)
    stub.write_text('#!/bin/sh\nprintf %s "$STROKES_PROMPT" > prompt\nprintf %s "$PROMPT" > leak\n')
    stub.chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def run_make(checkout: Path, *args: str, **variables: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    subprocess.run(["make", *args], cwd=checkout, env={**environment, **variables}, check=True, capture_output=True)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_on_the_command_line_arrives_as_it_is(checkout, prompt):
    run_make(checkout, "draw", f"PROMPT={prompt}")
    assert (checkout / "prompt").read_text() == prompt
    assert not (checkout / "trap").exists()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_in_the_environment_arrives_as_it_is(checkout, prompt):
    run_make(checkout, "draw", PROMPT=prompt)
    assert (checkout / "prompt").read_text() == prompt
    assert not (checkout / "trap").exists()
