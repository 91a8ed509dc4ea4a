"""Stochastic flow steps against numbers of the reference implementations (tests/golden/sde/README.md).

Their log-probs are means over dimensions; some drop the constants, ``cps`` drops 1 / (2 sigma^2) as well. Ours are sums
of the whole Gaussian, from which each of theirs follows: that is what is compared.
"""

import json
import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from strokes.agents.bagel import flow
from strokes.agents.bagel.noise import Window
from strokes.rl.loss import FlowObjective, Steps

GOLDEN = Path(os.environ.get("STROKES_GOLDEN") or Path(__file__).parents[1] / "golden") / "sde"
INDEX = json.loads((GOLDEN / "sde_index.json").read_text())
LOOPS = json.loads((GOLDEN / "sde_traj_index.json").read_text())
TENSORS = load_file(GOLDEN / "sde.safetensors")
LOOP_TENSORS = load_file(GOLDEN / "sde_traj.safetensors")
KERNELS = {"sde": "sde", "cps": "cps", "dance_sde": "dance"}
TOLERANCE = 6e-5
"""Of float32 outputs: theirs are within 3e-5 of float64 formulas (README), and ours are float32 too."""


def _of(tensors: dict[str, Tensor], id: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{id}."): x for name, x in tensors.items() if name.startswith(f"{id}.")}


def _close(mine: Any, theirs: Any) -> None:
    mine, theirs = torch.as_tensor(mine).double(), torch.as_tensor(theirs).double()
    assert mine.shape == theirs.shape
    assert torch.allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE), (mine - theirs).abs().max()


def _their_log_prob(x_next: Tensor, at: flow.Moments, kernel: str, has_constants: bool) -> Tensor:
    """A reference's mean log-prob out of our sum; ``cps``: without its factor, and 0 where nothing is random."""
    dims = x_next.numel()
    if kernel == "cps" and at.std == 0:
        return -(x_next.float() - at.mean).square().mean()
    flat = flow.Moments(at.mean.reshape(1, -1), at.std)
    mean = flow.log_prob(x_next.reshape(1, -1), flat) / dims
    constants = math.log(at.std) + 0.5 * math.log(2 * math.pi)
    if kernel == "cps":
        return (mean + constants) * 2 * at.std**2
    return mean if has_constants else mean + constants


def _has_constants(case: dict[str, Any]) -> bool:
    if case["source"].startswith("verl_omni"):
        return bool(case["include_logprob_normalizer"])
    return "bagel" not in case["source"].lower()


SINGLE = [case for case in INDEX["cases"] if case["mode"] in ("variance_noise", "prev_sample")]


def _levels(case: dict[str, Any], tensors: dict[str, Tensor]) -> list[float]:
    rows = len(case["steps"])
    if isinstance(case["noise_level"], str):
        return tensors["noise_level_tensor"].reshape(-1).tolist()
    return [float(case["noise_level"])] * rows


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case["id"])
def test_a_step_is_that_of_the_reference(case):
    tensors, kernel = _of(TENSORS, case["id"]), KERNELS[case["sde_type"]]
    sigmas = TENSORS[f"sched.{case['schedule']}.sigmas"].tolist()
    has_batch = tensors["log_prob"].ndim > 0
    for row, (i, eta) in enumerate(zip(case["steps"], _levels(case, tensors), strict=True)):
        pick = (lambda x, row=row: x[row]) if has_batch else (lambda x: x)
        x, v = pick(tensors["sample"]), pick(tensors["model_output"])
        # Where t = 1 the schedule's second entry stands in; it is always the time that follows.
        if eta == 0:  # plain Euler steps here; the reference's log-prob is 0/0
            with pytest.raises(ValueError, match="eta above 0"):
                flow.moments(x, v, sigmas[i], sigmas[i + 1], eta, kernel)
            _close(flow.step(x.float(), v.float(), sigmas[i], sigmas[i + 1]), pick(tensors["prev_sample_mean"]))
            continue
        at = flow.moments(x, v, sigmas[i], sigmas[i + 1], eta, kernel)
        _close(at.mean, pick(tensors["prev_sample_mean"]))
        std = pick(tensors["std_dev_t"]).reshape(()).item()
        _close(at.std, std * math.sqrt(sigmas[i] - sigmas[i + 1]) if kernel == "sde" else std)
        if case["mode"] == "variance_noise":
            x_next = at.mean + at.std * pick(tensors["variance_noise"]).float()
            _close(x_next, pick(tensors["prev_sample"]))
            x_next = pick(tensors["prev_sample"])
        else:
            x_next = pick(tensors["prev_sample_in"])
        theirs = pick(tensors["log_prob"]).reshape(())
        _close(_their_log_prob(x_next, at, kernel, _has_constants(case)), theirs)


def test_every_case_of_the_set_is_one_of_those_tested():
    others = [case for case in INDEX["cases"] if case not in SINGLE]
    assert {case["mode"] for case in others} <= {"seeded generator"}


@pytest.mark.parametrize(
    "case", [c for c in INDEX["cases"] if c["mode"] == "seeded generator"], ids=lambda case: case["id"]
)
def test_a_chain_of_steps_is_that_of_the_reference(case):
    tensors, kernel = _of(TENSORS, case["id"]), KERNELS[case["sde_type"]]
    sigmas = TENSORS[f"sched.{case['schedule']}.sigmas"].tolist()
    for k, i in enumerate(case["steps"]):
        x, x_next = tensors["latents"][k], tensors["latents"][k + 1]
        at = flow.moments(x, tensors["model_output"][k], sigmas[i], sigmas[i + 1], case["noise_level"], kernel)
        _close(at.mean, tensors["prev_sample_mean"][k])
        _close(at.mean + at.std * tensors["variance_noise"][k], x_next)


@pytest.mark.parametrize("case", INDEX["bagel_sigmas"], ids=lambda c: f"{c['num_steps']}-{c['shift']}")
def test_the_schedule_is_bagels(case):
    if case["num_steps"] == 1:
        with pytest.raises(ValueError, match="at least 2"):  # one point is no step
            flow.schedule(1, case["shift"])
        return
    _close(flow.schedule(case["num_steps"], case["shift"]), torch.tensor(case["scheduler_sigmas"]))


GUIDED = [case for case in LOOPS if "cfg_renorm_type" in case]


@pytest.mark.parametrize("case", GUIDED, ids=lambda case: case["id"])
def test_guidance_is_that_of_the_reference(case):
    tensors = _of(LOOP_TENSORS, case["id"])
    mine = flow.guide(
        tensors["v"],
        tensors["cfg_text_v"],
        tensors["cfg_img_v"],
        text_scale=case["cfg_text_scale"],
        img_scale=case["cfg_img_scale"],
        renorm=case["cfg_renorm_type"],
        renorm_min=case["cfg_renorm_min"],
    )
    _close(mine, tensors["out"])


WHOLE = [case for case in LOOPS if "init" in case["tensors"]]


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case["id"])
def test_a_whole_loop_is_that_of_the_reference(case):
    """Fed with the recorded velocities and noise, every state and every log-prob of the loop is met."""
    tensors, kernel = _of(LOOP_TENSORS, case["id"]), KERNELS[case["sde_type"]]
    times = next(tensors[n] for n in ("sigmas", "full_schedule", "scheduler_sigmas") if n in tensors).tolist()
    states, num = tensors["per_step_latent"], len(tensors["velocity"])
    windows = _windows(case, num)
    rows = len(windows)  # samples of a batch whose windows differ
    x = tensors["init"].reshape(rows, -1)
    for i in range(num):
        t, t_next = times[i], times[i + 1] if i + 1 < len(times) else 0.0
        v, after = tensors["velocity"][i].reshape(x.shape), states[i + 1].reshape(x.shape)
        for row in range(rows):
            if (level := windows[row][i]) == 0:
                mine = flow.step(x[row].float(), v[row].float(), t, t_next)
            else:
                at = flow.moments(x[row], v[row], t, t_next, level, kernel)
                mine = at.mean + at.std * tensors["noise"][i].reshape(x.shape)[row].float()
                if "per_step_log_prob" in tensors:
                    theirs = tensors["per_step_log_prob"][i].reshape(-1)[row]
                    _close(_their_log_prob(after[row], at, kernel, _has_constants(case)).float(), theirs.float())
            _close(mine, after[row])
        x = after


def _windows(case: dict[str, Any], num: int) -> list[list[float]]:
    """Noise level of every step, for each sample."""
    tensors = _of(LOOP_TENSORS, case["id"])
    count = tensors["per_step_log_prob"].reshape(num, -1).shape[1] if "per_step_log_prob" in tensors else 1
    if "per_step_noise_level" in tensors:
        return [tensors["per_step_noise_level"].reshape(num, -1)[:, 0].tolist()] * count
    window = case.get("window") or case.get("windows") or [0, num]
    each = window if isinstance(window[0], list) else [window] * count
    return [[case["noise_level"] if low <= i < high else 0.0 for i in range(num)] for low, high in each]


LEARNT = [case for case in LOOPS if "theta" in case]


@pytest.mark.parametrize("case", LEARNT, ids=lambda case: case["id"])
def test_the_reference_form_of_the_loss_learns_as_the_reference_does(case):
    """Mean-form ratio, clip and gradient with respect to a factor on the velocity, over the window's steps."""
    tensors, first = _of(LOOP_TENSORS, case["id"]), _of(LOOP_TENSORS, case["trajectory_id"])
    loop = next(each for each in LOOPS if each["id"] == case["trajectory_id"])
    times = first["full_schedule"].tolist()
    theta = torch.tensor(case["theta"], dtype=torch.float64, requires_grad=True)
    objective = FlowObjective(form="mean", clip_low=case["clip_range_lt"], clip_high=case["clip_range_gt"])
    size = loop["sde_window_size"]
    steps = range(loop["window_begin"], loop["window_begin"] + size)
    losses = []
    for k, i in enumerate(steps):
        x, x_next = first["per_step_latent"][i], first["per_step_latent"][i + 1]
        v = theta * first["velocity"][i]
        at = flow.moments(x, v, times[i], times[i + 1], case["noise_level"])
        logp = flow.log_prob(x_next.reshape(1, -1), flow.Moments(at.mean.reshape(1, -1), at.std))
        old = flow.moments(x, first["velocity"][i], times[i], times[i + 1], case["noise_level"])
        logp_old = flow.log_prob(x_next.reshape(1, -1), flow.Moments(old.mean.reshape(1, -1), old.std))
        now = Steps(logp.reshape(1), at.mean.reshape(1, 1, -1), torch.tensor([at.std]), v.reshape(1, 1, -1))
        was = Steps(logp_old.reshape(1), old.mean.reshape(1, 1, -1), torch.tensor([old.std]), now.velocities)
        told = objective(now, was, torch.tensor([case["advantage"]]))
        losses.append(told.per_step.sum())
        _close(_their_log_prob(x_next, at, "sde", False).detach(), tensors["new_log_probs"].reshape(-1)[k])
    policy = torch.stack(losses).mean()
    assert policy.item() == pytest.approx(case["results"]["policy_loss"], rel=1e-5, abs=1e-6)
    if case["beta"] == 0:
        torch.stack(losses).sum().backward()
        assert theta.grad.item() == pytest.approx(case["theta_grad_accumulated"], rel=2e-3, abs=1e-6)


def test_windows_cover_the_ranges_of_the_references():
    """Theirs are seeded by rank or by sample, ours by (seed, step, prompt); the set of windows is the same."""
    for case in INDEX["verl_bagel_pick_sde_window"]:
        if not case["size"] or not case["range"] or case["range"][1] - case["range"][0] < case["size"]:
            continue
        window = Window(size=case["size"], low=case["range"][0], high=case["range"][1])
        mine = {window.steps(49, (0, step, 0)) for step in range(300)}
        theirs = {tuple(range(*each)) for each in case["windows_by_seed"]}
        assert theirs <= mine
        assert all(low in range(*case["range"]) for steps in mine for low in steps)


def test_consecutive_times_are_those_of_the_schedule():
    assert all(t > t_next for t, t_next in pairwise(flow.schedule(15, 3.0).tolist()))
