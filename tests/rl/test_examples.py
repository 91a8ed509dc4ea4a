"""The examples are short, and run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small import SMALL

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, out, *overrides):
    """A finished run's folder."""
    command = [sys.executable, str(EXAMPLES / name), *overrides, f"out={out}"]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", ["own_reward.py", "own_policy.py", "own_credit_rule.py"])
def test_an_example_has_at_most_thirty_lines(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 30


def test_a_reward_of_ones_own(tmp_path):
    out = run("own_reward.py", tmp_path / "run", *SMALL)
    steps = [line for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "reward" in line]
    assert [line["reward"] for line in steps] == pytest.approx([line["outcome/red"] for line in steps])
    assert any(line["reward"] for line in steps)
    assert (out / "adapter" / "adapter_model.safetensors").exists()


def test_a_credit_rule_of_ones_own(tmp_path):
    out = run("own_credit_rule.py", tmp_path / "run", *SMALL)
    assert json.loads((out / "run.json").read_text())["credit"]["target"] == "own_credit_rule:last_image"
    assert (out / "adapter" / "adapter_model.safetensors").exists()


def test_a_policy_of_ones_own(tmp_path):
    out = run("own_policy.py", tmp_path / "run", "limit=1")
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert {row["images"] for row in rows} == {1.0}
