"""FLUX pipelines are evaluated like any policy: at once, and with a remote model that plans."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch

from strokes.rl import evaluate

sys.path.insert(0, str(Path(__file__).parents[1] / "rewards"))  # the truthful server
sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))  # the tiny pipelines

from tiny_flux import save_tiny_flux
from truthful import MODEL, Truthful

NO_WEIGHTS = hashlib.sha256().hexdigest()
"""What a folder without weights would be named by."""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on a tiny pipeline; gives its settings and its drawings."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def call(policy, kind, *more):
        tiny = ("policy.device=cpu", "policy.dtype=float32", "steps=1", "size=32", "limit=1", "out=run")
        path = save_tiny_flux(tmp_path / kind, kind)
        monkeypatch.setattr(
            sys, "argv", ["strokes-evaluate", f"policy={policy}", f"policy.path={path}", *tiny, "threads=1", *more]
        )
        assert evaluate.main() == 0
        lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
        return json.loads((tmp_path / "run" / "settings.json").read_text()), [json.loads(line) for line in lines]

    return call


def test_flux_draws_at_once(run):
    settings, drawings = run("flux", "FluxPipeline")
    assert len(drawings) >= 7  # one of each task
    assert all((each["images"], each["steps"], each["nfe"], each["plans"]) == (1, 1, 1, []) for each in drawings)
    assert len(settings["checkpoint"]) == 64 and settings["checkpoint"] != NO_WEIGHTS


@pytest.mark.slow  # the same way as the one above; the policy has its own tests
def test_kontext_draws_what_a_remote_model_plans(run):
    with Truthful() as server:
        judge = (
            f"judge.base_url={server.url}",
            f"judge.model={MODEL}",
            f"judge.prices={{{MODEL}: {{input: 1, output: 1}}}}",
        )
        _, drawings = run("flux-kontext", "FluxKontextPipeline", *judge)
    assert {each["images"] for each in drawings} > {1} and all(each["calls"] == 1 for each in drawings)
    assert all(each["steps"] == each["images"] == len(each["plans"]) for each in drawings)
