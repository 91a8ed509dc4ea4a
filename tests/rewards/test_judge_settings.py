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
        {"model": 3},
        {"base_url": 5},
        {"base_url": "http://"},
        {"base_url": "http://x:99999/v1"},
        {"api_key_env": None},
        {"concurrency": 5},
        {"concurrency": {"min": "a"}},
        {"extra_body": [1]},
        {"extra_body": {1: 1}},
        {"extra_body": {"messages": []}},
        {"extra_body": {"model": "x"}},
        {"extra_body": {"top_k": {1}}},
        {"timeout_s": 0},
        {"deadline_s": 0.0},
        {"second_look": "no"},
        {"cache": 3},
        {"cache": "/"},
        {"record": ""},
        {"replay": "."},
        {"prices": 3},
        {"prices": {"truth": 3}},
        {"prices": {"truth": {"input": "1", "output": 1.0}}},
    ],
)
def test_settings_that_make_no_sense(change):
    (name,) = list(change)[:1]
    with pytest.raises(
        ValueError, match="Expected.*(keys among|price|a record)" if name == "key" else f"Expected.*{name[:5]}"
    ):
        JudgeSettings.read({"model": "truth", **change})


@pytest.mark.parametrize("key", ["sk-\u0430", "sk-\x00a", "sk-a\nb"])
def test_a_key_that_is_none(monkeypatch, key):
    monkeypatch.setattr("os.environ", {"JUDGE_KEY": key})
    with pytest.raises(ValueError, match="JUDGE_KEY") as caught:
        JudgeClient(JudgeSettings(model="gpt", api_key_env="JUDGE_KEY"))
    assert "sk-" not in str(caught.value)


def test_a_key_is_taken_without_the_end_of_its_line(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", " sk-a\n")
    assert JudgeSettings(model="gpt", api_key_env="JUDGE_KEY").key() == "sk-a"


def test_an_address_is_shown_without_name_and_password(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert JudgeSettings(model="gpt").server == "https://api.openai.com/v1"
    assert JudgeSettings(model="gpt", base_url="http://me:pass@x:8/v1/").server == "http://x:8/v1"
    with pytest.raises(ValueError, match="base_url") as caught:
        JudgeSettings(model="gpt", base_url="ftp://me:pass@x/v1")
    assert "pass" not in str(caught.value)
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL"):
        JudgeClient(JudgeSettings(model="gpt"))


def test_configurations_hold_the_defaults():
    yaml = pytest.importorskip("yaml")
    folder = Path(__file__).parents[2] / "configs" / "judge"
    values = yaml.safe_load((folder / "openai.yaml").read_text())
    assert set(values) == {item.name for item in dataclasses.fields(JudgeSettings)}
    assert JudgeSettings.read(values) == JudgeSettings(model=values["model"])
    assert values["prices"] is None is values["extra_body"]  # a command line cannot add keys to what is {}
    changes = yaml.safe_load((folder / "vllm.yaml").read_text())
    assert changes.pop("defaults") == ["openai", "_self_"]
    assert JudgeSettings.read(values | changes).url == "http://127.0.0.1:8000/v1"


def test_settings_are_read_from_a_configuration():
    values = {"model": "m", "concurrency": {"min": 1, "start": 2, "max": 3}, "prices": {"m": {"input": 1, "output": 2}}}
    settings = JudgeSettings.read(values)
    assert settings.concurrency == Concurrency(min=1, start=2, max=3)
    assert settings.prices == {"m": Price(input=1, output=2)}
