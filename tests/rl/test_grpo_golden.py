"""Objectives and advantages against numbers of flow_grpo, verl-omni and TRL (tests/golden/grpo/README.md)."""

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trl import GRPOTrainer

from strokes.rl.advantage import Signal, advantages
from strokes.rl.loss import FlowObjective, Steps

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[1] / "golden") / "grpo"
FLOW = json.loads((GOLDEN / "grpo_flow.json").read_text())
TRL = json.loads((GOLDEN / "grpo_trl.json").read_text())
FLOAT32, FLOAT64 = 1e-5, 1e-10
"""Tolerances of the README, relative; clips of 1e-5 are close to rounding in float32, so losses are run in float64."""


def _numbered(cases: list[Any]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[str(k) for k in range(len(cases))])


def _tensor(values: Any) -> Tensor:
    """float32 inputs, computed with in float64."""
    return torch.tensor(values, dtype=torch.float32).double()


def _steps(logps: Tensor, means: Tensor, stds: Tensor) -> Steps:
    """Mean log-probs as our sums."""
    flat = means.reshape(len(means), 1, -1)
    return Steps(logps * flat.shape[-1], flat, stds, flat)


def _close(mine: Any, theirs: Any, tolerance: float = FLOAT64) -> None:
    mine, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (mine, theirs))
    assert torch.allclose(mine, theirs, rtol=tolerance, atol=tolerance), (mine, theirs)


def _flow(
    inputs: dict[str, Any], form: str, stds: Tensor, clip: float, weight: Tensor | float = 1.0
) -> tuple[Any, Any]:
    """Mean loss over the batch and its gradient by the mean log-probs."""
    logp = _tensor(inputs["log_prob"]).requires_grad_()
    objective = FlowObjective(
        form=form, clip_low=clip, clip_high=clip, advantage_clip=float(inputs.get("adv_clip_max") or math.inf)
    )
    now = _steps(logp, _tensor(inputs["prev_sample_mean"]), stds)
    old = _steps(_tensor(inputs["old_log_prob"]), _tensor(inputs["old_prev_sample_mean"]), stds)
    loss = (objective(now, old, _tensor(inputs["advantages"])).per_step * weight).mean()
    loss.backward()
    return loss.detach(), logp.grad


def _scales(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The references' std_dev_t and sqrt(dt), (B,)."""
    return _tensor(inputs["std_dev_t"]).reshape(-1), _tensor(inputs["sqrt_dt"]).reshape(-1)


@_numbered(FLOW["flow_grpo_policy_loss"])
def test_the_mean_form_is_flow_grpos(case):
    inputs, name = case["inputs"], "train_sd3(2025-07)_float64"
    std, _ = _scales(inputs)
    loss, grad = _flow(inputs, "mean", std, inputs["clip_range"])
    _close(loss, case[name]["policy_loss"])
    _close(grad, case[name]["grad_log_prob"])


@_numbered([case for case in FLOW["flow_grpo_policy_loss"] if case["inputs"]["beta"] > 0])
def test_the_kl_is_flow_grpos_at_its_own_scale(case):
    """They divide by the noise level squared, we by the variance of the step, which is that times its length."""
    inputs = case["inputs"]
    std, _ = _scales(inputs)
    now = _steps(_tensor(inputs["log_prob"]), _tensor(inputs["prev_sample_mean"]), std)
    reference = _steps(now.logps, _tensor(inputs["prev_sample_mean_ref"]), std)
    kl = FlowObjective(regulariser="kl", beta=1.0)
    told = kl(now, None, torch.zeros(len(std)), reference).per_step - kl(now, None, torch.zeros(len(std)), now).per_step
    _close(told.mean(), case["train_sd3(2025-07)_float64"]["kl_loss"])


@_numbered([c for c in FLOW["flow_grpo_policy_loss"] if "train_sd3_GRPO_Guard(rationorm=True)_float64" in c])
def test_the_guard_form_is_grpo_guards_own(case):
    """Theirs takes the mean scales of the batch, and divides the loss by the squared length of the step."""
    inputs, name = case["inputs"], "train_sd3_GRPO_Guard(rationorm=True)_float64"
    std, root = _scales(inputs)
    scale = (std.mean() * root.mean()).expand(len(std))
    loss, grad = _flow(inputs, "guard", scale, inputs["clip_range"], 1 / root.mean() ** 2)
    _close(loss, case[name]["policy_loss"])
    _close(grad, case[name]["grad_log_prob"])


@_numbered(FLOW["verl_omni_losses"])
def test_mean_rationorm_and_dppo_are_verl_omnis(case):
    inputs, expected = case["inputs"], case["expected"]
    std, root = _scales(inputs)
    weights = inputs.get("rollout_is_weights")
    weight = 1.0 if weights is None else _tensor(weights)
    loss, grad = _flow(inputs, "mean", std, inputs["clip_ratio"], weight)
    _close(loss, expected["flow_grpo_float64"]["loss"])
    _close(grad, expected["flow_grpo_float64"]["grad_log_prob"])
    scale = (std.mean() * root.mean()).expand(len(std))
    loss, grad = _flow(inputs, "rationorm", scale, inputs["clip_ratio"], weight / root.mean() ** 2)
    _close(loss, expected["grpo_guard_float64"]["loss"])
    _close(grad, expected["grpo_guard_float64"]["grad_log_prob"])
    kl_scale = std * root if inputs["add_kl_coefficient"] else torch.ones_like(std)
    loss, grad = _flow(inputs, "dppo", kl_scale, inputs["kl_mask_threshold"], weight)
    _close(loss, expected["flow_dppo_float64"]["loss"])
    _close(grad, expected["flow_dppo_float64"]["grad_log_prob"])


def _ours(values: list[float | None], groups: list[Any], scale: str) -> np.ndarray:
    """Our advantages of one slot; groups must be equal in size."""
    order = sorted(range(len(values)), key=lambda i: (groups.index(groups[i]), i))
    size = len(values) // len(set(groups))
    signals = [[Signal(0, "outcome", values[i])] for i in order]
    found = advantages(signals, [1] * len(values), num_generations=size, scale=scale).values
    result = np.zeros(len(values))
    for i, value in zip(order, found, strict=True):
        result[i] = value[0]
    return result


def _is_even(groups: list[Any]) -> bool:
    counts = defaultdict(int)
    for group in groups:
        counts[group] += 1
    return len(set(counts.values())) == 1 and next(iter(counts.values())) > 1


@_numbered([c for c in FLOW["verl_omni_advantages"] if _is_even(c["index"]) and len(c["rewards"][0]) == 1])
def test_advantages_of_equal_groups_are_verl_omnis(case):
    """Groups of unequal size cannot occur here: a generation is prompts times group."""
    rewards = [row[0] for row in case["rewards"]]
    for name, scale in (("norm_by_std=True/global_std=False", "group"), ("norm_by_std=False/global_std=False", "none")):
        _close(_ours(rewards, case["index"], scale), [row[0] for row in case[name]], FLOAT32)


@_numbered([c for c in FLOW["flow_grpo_advantages"] if _is_even(c["prompts"]) and len(c["shape"]) == 1])
def test_advantages_differ_from_flow_grpos_by_the_standard_deviation_alone(case):
    """Theirs is the population's (ddof 0), ours is TRL's (ddof 1): a factor of sqrt(n / (n - 1)) but for the 1e-4."""
    rewards, groups = case["rewards"], case["prompts"]
    size = len(rewards) // len(set(groups))
    mine = _ours(rewards, groups, "group") * math.sqrt(size / (size - 1))
    _close(mine, case["grpo/global_std=False"], 5e-3)


@_numbered(TRL["advantages"])
def test_the_advantage_of_an_outcome_is_trls(case):
    size, weights = case["num_generations"], case["reward_weights"]
    rewards = np.array(case["rewards_per_func"], dtype=float)
    missing = np.isnan(rewards).all(1)
    total = np.nansum(rewards * np.array(weights), axis=1)
    values = [None if gone else float(value) for gone, value in zip(missing, total, strict=True)]
    groups = [k // size for k in range(len(values))]
    for scale in ("group", "batch", "none"):
        _close(_ours(values, groups, scale), np.array(case[f"sum_then_normalize/{scale}"], float), 2e-5)


class _Alone:
    """One process."""

    def __init__(self, num_processes: int) -> None:
        self.num_processes, self.sync_gradients = num_processes, False

    def gather(self, x: Tensor) -> Tensor:
        return x.reshape(-1)

    def reduce(self, x: Tensor, reduction: str = "sum") -> Tensor:
        return x


def _stub(inputs: dict[str, Any], logps: Tensor) -> Any:
    """As much of a trainer as TRL's loss reads."""
    names = ("loss_type", "beta", "epsilon_low", "epsilon_high", "importance_sampling_level", "entropy_coef")
    more = ("top_entropy_quantile", "off_policy_mask_threshold", "max_completion_length")
    stub: Any = SimpleNamespace(**{name: inputs[name] for name in (*names, *more)})
    args = {"delta": inputs["delta"], "use_bias_correction_kl": inputs["use_bias_correction_kl"]}
    args |= {"steps_per_generation": inputs["steps_per_generation"], "entropy_target": 0.0}
    # Defaults of TRL's configuration.
    args |= {"sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}
    args |= {"vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0}
    stub.args = SimpleNamespace(**args)
    stub.current_gradient_accumulation_steps = inputs["current_gradient_accumulation_steps"]
    stub.accelerator = _Alone(inputs["num_processes"])
    stub.model = SimpleNamespace(training=inputs["mode"] == "train")
    stub.aux_loss_enabled = stub.use_vllm = stub.use_adaptive_entropy = False
    stub.vllm_importance_sampling_correction = False
    stub._entropy_bonus_enabled = inputs["entropy_coef"] != 0
    stub._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    entropies = _tensor(inputs["entropies"])
    stub._get_per_token_logps_and_entropies = lambda *_, **__: (logps, entropies, None)
    for name in ("get_high_entropy_mask", "get_off_policy_mask", "get_gamma_weights"):
        method = getattr(GRPOTrainer, name)
        is_static = isinstance(vars(GRPOTrainer)[name], staticmethod)
        setattr(stub, name, method if is_static else method.__get__(stub))
    stub.accelerator.pad_across_processes = lambda x, **_: x
    stub.accelerator.device = "cpu"
    return stub


@_numbered(TRL["cases"])
def test_the_loss_on_texts_is_the_one_that_trl_had(case):
    """Run through the installed TRL, whose loss the trainer calls: an upgrade that changes it fails here."""
    inputs = case["inputs"]
    logps = _tensor(inputs["per_token_logps"]).requires_grad_()
    mask = torch.tensor(inputs["completion_mask"])
    batch = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": _tensor(inputs["advantages"]),
        "num_items_in_batch": torch.tensor(inputs["num_items_in_batch"]),
    }
    for name, key in (("old_per_token_logps", "old_per_token_logps"), ("ref_per_token_logps", "ref_per_token_logps")):
        if inputs[name] is not None:
            batch[key] = _tensor(inputs[name])
    if inputs["tool_mask"] is not None:
        batch["tool_mask"] = torch.tensor(inputs["tool_mask"])
    loss = GRPOTrainer._compute_loss(_stub(inputs, logps), None, batch)
    loss.backward()
    _close(loss.detach(), case["expected_float64"]["loss"])
    _close(logps.grad, case["expected_float64"]["grad_per_token_logps"])
