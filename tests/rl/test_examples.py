"""The examples are short, and run."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from small import SMALL

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs an example as ``python examples/…`` does, but for the imports, which take longer than all it does."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)

    def run(name, *overrides):
        out = tmp_path / "run"
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *overrides, f"out={out}"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert not ended.value.code
        return out

    return run


@pytest.mark.parametrize("name", ["own_reward.py", "own_policy.py", "own_credit_rule.py"])
def test_an_example_has_at_most_thirty_lines(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 30


def test_a_reward_of_ones_own(run):
    out = run("own_reward.py", *SMALL)
    steps = [line for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "reward" in line]
    assert [line["reward"] for line in steps] == pytest.approx([line["outcome/red"] for line in steps])
    assert any(line["reward"] for line in steps)
    assert (out / "adapter" / "adapter_model.safetensors").exists()


def test_a_credit_rule_of_ones_own(run):
    out = run("own_credit_rule.py", *SMALL)
    assert json.loads((out / "run.json").read_text())["credit"]["target"] == "own_credit_rule:last_image"
    assert (out / "adapter" / "adapter_model.safetensors").exists()


def test_a_policy_of_ones_own(run):
    out = run("own_policy.py", "limit=1")
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert {row["images"] for row in rows} == {1.0}
