"""The formulas of PARM's DPO against its own numbers (tests/golden/parm/README.md)."""

import json
import os
from pathlib import Path

import pytest
import torch

from strokes.rl.preference import Evidence, guided, logistic, margins

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[1] / "golden") / "parm"
CASES = json.loads((GOLDEN / "parm_cases.json").read_text())["dpo"]
IGNORED = -100
PARTS = [f"{model}_{drawing}" for model in ("policy", "reference") for drawing in ("chosen", "rejected")]


def summed(case, logits, labels):
    """Log-probs of the image tokens that are predicted, summed; the text comes first and is cut off."""
    first = case["max_seq_length"] + 1
    logps = torch.tensor(logits)[:, first:].log_softmax(-1)
    labels = torch.tensor(labels)[:, first:]
    found = logps.gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return found.masked_fill(labels == IGNORED, 0).sum(1)


@pytest.mark.parametrize("case", CASES, ids=[str(k) for k in range(len(CASES))])
def test_losses_are_those_of_the_released_code(case):
    expected = {name: torch.tensor(values) for name, values in case["expected"].items()}
    logps = {}
    for part in PARTS:
        model, drawing = part.split("_")
        given = case[f"{model.replace('reference', 'ref')}_{drawing}_logits"]
        logps[part] = summed(case, given, case[f"{drawing}_labels"])
        assert torch.allclose(logps[part], expected[f"{part}_logps"], rtol=1e-5, atol=1e-5)

    def evidence(model):
        both = torch.stack([logps[f"{model}_chosen"], logps[f"{model}_rejected"]], 1)
        return Evidence(both, torch.zeros_like(both))

    margin = margins(evidence("policy"), evidence("reference"), beta_text=case["beta"], beta_flow=1000.0)
    preference = logistic(margin)
    assert torch.allclose(preference, expected["dpo_losses"], rtol=1e-5, atol=1e-5)
    guidance = guided(torch.tensor(case["selected_yes_prob"]).log())
    assert torch.allclose(guidance, expected["reward_loss"], rtol=1e-5, atol=1e-5)
    total = preference.mean() + case["reward_coef"] * guidance.mean()
    assert torch.allclose(total, expected["loss"], rtol=1e-5, atol=1e-5)
