"""The settings of judges: what is refused, and that the configuration files hold what the code says."""

import dataclasses
from pathlib import Path

import pytest

from strokes.rewards.judge import Concurrency, JudgeClient, JudgeSettings, Price


def test_a_missing_key(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="JUDGE_KEY"):
        JudgeClient(JudgeSettings(model="gpt", api_key_env="JUDGE_KEY"))
    JudgeClient(JudgeSettings(model="gpt", api_key_env="JUDGE_KEY", base_url="http://127.0.0.1:1/v1"))


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"base_url": "localhost:8000"},
        {"votes": 0},
        {"votes": 1.5},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"modality": "xml"},
        {"cache_mode": "on"},
        {"max_tokens_name": "tokens"},
        {"record": "a", "replay": "b"},
        {"max_cost": 1.0},
        {"retries": True},
        {"concurrency": {"min": 5, "start": 2, "max": 9}},
        {"concurrency": {"most": 5}},
        {"prices": {"truth": {"input": -1.0, "output": 0.0}}},
        {"prices": {"truth": {"input": 1.0}}},
        {"prices": {"truth": {"input": 1.0, "output": 1.0, "token": 1.0}}},
        {"key": "sk-…"},
    ],
)
def test_settings_that_make_no_sense(change):
    with pytest.raises(ValueError, match="Expected"):
        JudgeSettings.read({"model": "truth", **change})


def test_configurations_hold_the_defaults():
    yaml = pytest.importorskip("yaml")
    folder = Path(__file__).parents[2] / "configs" / "judge"
    values = yaml.safe_load((folder / "openai.yaml").read_text())
    assert set(values) == {item.name for item in dataclasses.fields(JudgeSettings)}
    assert JudgeSettings.read(values) == JudgeSettings(model=values["model"])
    changes = yaml.safe_load((folder / "vllm.yaml").read_text())
    assert changes.pop("defaults") == ["openai", "_self_"]
    assert JudgeSettings.read(values | changes).url == "http://127.0.0.1:8000/v1"


def test_settings_are_read_from_a_configuration():
    values = {"model": "m", "concurrency": {"min": 1, "start": 2, "max": 3}, "prices": {"m": {"input": 1, "output": 2}}}
    settings = JudgeSettings.read(values)
    assert settings.concurrency == Concurrency(min=1, start=2, max=3)
    assert settings.prices == {"m": Price(input=1, output=2)}
