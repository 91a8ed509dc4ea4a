"""The flow's objective: fresh weights, bounds, regularisers, and what is refused; numbers by hand."""

import math

import pytest
import torch

from strokes.rl.loss import CLIPS, FlowObjective, Steps

HELD_BY_RATIO = ("nats", "mean", "rationorm", "guard")


def steps(logps, dims=64, mean=0.0, std=1.0, velocity=0.0):
    """Steps of ``dims`` dimensions, each tensor a constant; float64."""
    logps = torch.as_tensor(logps, dtype=torch.float64)
    shape = (len(logps), dims // 4, 4)
    full = [torch.full(shape, float(value), dtype=torch.float64) for value in (mean, velocity)]
    return Steps(logps, full[0], torch.full((len(logps),), float(std), dtype=torch.float64), full[1])


def losses(objective, log_ratios, a, dims=64, **options):
    """Losses of steps with these log-ratios, and what is said of them."""
    old = steps([0.0] * len(log_ratios), dims)
    return objective(steps(log_ratios, dims, **options), old, torch.full((len(log_ratios),), float(a)))


def close(found, expected):
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_on_fresh_weights_all_forms_have_the_gradient_of_the_mean():
    torch.manual_seed(0)
    weight, noise = torch.randn(16, 4, dtype=torch.float64), torch.randn(5, 16, 4, dtype=torch.float64)
    stds = torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
    a = torch.tensor([2.0, -1.0, 0.5, -7.0, 0.0])
    grads = {}
    for form in CLIPS:
        means = weight.clone().requires_grad_()
        drawn = weight + stds[:, None, None] * noise
        spread = means.expand(5, 16, 4)
        logps = -((drawn - spread) / stds[:, None, None]).square().flatten(1).sum(1) / 2
        now = Steps(logps, spread, stds, spread)
        loss = FlowObjective(form=form, advantage_clip=math.inf)(now, None, a).per_step.sum()
        (grads[form],) = torch.autograd.grad(loss, means)
    for form in ("nats", "dppo"):
        assert (grads[form] - grads["mean"]).abs().max() <= 1e-6 * grads["mean"].abs().max()


@pytest.mark.parametrize("form", ["rationorm", "guard"])
def test_on_fresh_weights_normalised_forms_have_the_means_gradient_times_the_noise(form):
    logps = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    fresh = steps([0.0], std=0.25)._replace(logps=logps)
    (grad,) = torch.autograd.grad(FlowObjective(form=form)(fresh, None, torch.tensor([2.0])).per_step.sum(), logps)
    close(grad, [-2.0 * 0.25 / 64])


def test_the_bound_in_nats_is_that_of_the_whole_step_at_every_resolution():
    log_ratios = [-2.0, -0.7, -0.3, 0.0, 0.3, 0.7, 2.0]
    for a in (1.5, -1.5):
        small, large = (losses(FlowObjective(), log_ratios, a, dims) for dims in (64, 4096))
        assert small.metrics["clipped"] == large.metrics["clipped"] == pytest.approx(2 / 7)
        close(64 * small.per_step, (4096 * large.per_step).tolist())
    mean = FlowObjective(form="mean", clip_low=0.005, clip_high=0.005)
    assert [losses(mean, [0.7], 1.0, dims).metrics["clipped"] for dims in (64, 4096)] == [1.0, 0.0]


@pytest.mark.parametrize("form", HELD_BY_RATIO)
def test_both_bounds_hold_what_gains_and_let_pass_what_loses(form):
    low, high = 0.1, 0.3
    objective = FlowObjective(form=form, clip_low=low, clip_high=high)
    whole = form == "nats"
    ends = (math.exp(-low), math.exp(high)) if whole else (1 - low, 1 + high)
    for log_ratio, a, ratio, held in (
        (0.5, 1.0, ends[1], 1.0),
        (0.5, -1.0, math.exp(0.5), 0.0),
        (-0.5, 1.0, math.exp(-0.5), 0.0),
        (-0.5, -1.0, ends[0], 1.0),
        (0.05, 1.0, math.exp(0.05), 0.0),
        (-0.05, -1.0, math.exp(-0.05), 0.0),
    ):
        found = losses(objective, [log_ratio if whole else 64 * log_ratio], a)
        close(found.per_step, [-a * ratio / 64 if whole else -a * ratio])
        assert found.metrics["clipped"] == held


def test_what_is_held_has_no_gradient():
    for form in (*HELD_BY_RATIO, "dppo"):
        now = steps([32.0, 32.0], mean=1.0)
        logps = now.logps.requires_grad_()
        loss = FlowObjective(form=form)(now, steps([0.0, 0.0]), torch.tensor([1.0, -1.0])).per_step.sum()
        (grad,) = torch.autograd.grad(loss, logps)
        assert grad[0] == 0 and grad[1] > 0


def test_the_divergence_is_added_to_normalised_ratios():
    a, apart = torch.tensor([-1.0, -1.0]), steps([0.0, 0.0])
    now = steps([0.0, 0.0], std=0.5)
    now.means[0] += 0.1
    for form, biases in (("rationorm", [0.02, 0.0]), ("guard", [0.01, 0.01])):
        found = FlowObjective(form=form, clip_high=1.0)(now, apart, a)
        close(found.per_step, [math.exp(0.5 * bias) for bias in biases])


def test_dppo_holds_by_divergence_and_outward_moves_alone():
    objective = FlowObjective(form="dppo", clip_high=0.01)
    far, near = math.sqrt(2 * 0.011), math.sqrt(2 * 0.009)
    for mean, log_ratio, a, held in (
        (far, 6.4, 1.0, 1),
        (far, -6.4, 1.0, 0),
        (far, -6.4, -1.0, 1),
        (far, 6.4, -1.0, 0),
        (near, 6.4, 1.0, 0),
    ):
        found = losses(objective, [log_ratio], a, mean=mean)
        close(found.per_step, [0.0 if held else -a * math.exp(log_ratio / 64)])
        assert found.metrics["clipped"] == held


def test_advantages_are_clamped_at_five_but_for_dppo():
    for form in CLIPS:
        most = 9.0 if form == "dppo" else 5.0
        per_step = torch.cat([losses(FlowObjective(form=form), [0.0], a).per_step for a in (9.0, -9.0, 4.0)])
        close(per_step * (64 if form == "nats" else 1), [-most, most, -4.0])


def test_regularisers_are_distances_to_the_reference_per_dimension():
    now, reference = steps([0.0, 0.0], mean=0.5, std=0.5, velocity=1.0), steps([3.0, 0.0], mean=0.25, velocity=-2.0)
    none = torch.zeros(2)
    for regulariser, expected in (("velocity", 9.0), ("kl", 0.25**2 / (2 * 0.25))):
        objective = FlowObjective(regulariser=regulariser, beta=0.1)
        found = objective(now, None, none, reference)
        close(found.per_step, [0.1 * expected] * 2)
        assert objective.needs_reference and found.metrics["regulariser"] == pytest.approx(expected)
        with pytest.raises(ValueError, match=f"the reference's steps for regulariser {regulariser!r}"):
            objective(now, None, none)
    assert not FlowObjective().needs_reference


@pytest.mark.parametrize("form", CLIPS)
@pytest.mark.parametrize("dims", [0, 64])
def test_no_steps_are_no_loss_and_finite_figures(form, dims):
    objective = FlowObjective(form=form, regulariser="kl", beta=0.1)
    now = steps([], dims)
    now.logps.requires_grad_()
    found = objective(now, None, torch.zeros(0), now.detach())
    assert found.per_step.shape == (0,) and float(found.per_step.detach().sum()) == 0
    assert set(found.metrics.values()) == {0.0}
    found.per_step.sum().backward()
    assert found.metrics.keys() == losses(FlowObjective(form=form), [0.0], 1.0).metrics.keys()


def test_figures_are_means_over_steps():
    found = losses(FlowObjective(clip_low=0.1, clip_high=0.1), [0.3, -0.1, 0.0, 0.0], 1.0)
    metrics = {"clipped": 0.25, "log_ratio": 0.1, "kl_old": 0.0125, "regulariser": 0.0}
    policy = -(math.exp(0.1) + math.exp(-0.1) + 2) / 4 / 64
    assert found.metrics == pytest.approx({**metrics, "policy": policy})


def test_steps_are_joined_with_those_that_have_none():
    full, empty = steps([1.0, 2.0]), steps([], 0)
    assert Steps.cat([empty, full, empty, full]).logps.tolist() == [1.0, 2.0, 1.0, 2.0]
    assert Steps.cat([empty, empty]).logps.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "median"}, "flow.form among nats, mean, rationorm, guard, dppo, got 'median'"),
        ({"regulariser": "l1", "beta": 0.1}, "velocity, kl or null, got 'l1'"),
        ({"regulariser": "kl"}, "above 0 exactly with a regulariser, got 0.0 with 'kl'"),
        ({"beta": 0.1}, "got 0.1 with None"),
        ({"regulariser": "kl", "beta": -0.1}, "got -0.1 with 'kl'"),
    ],
)
def test_wrong_objectives_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FlowObjective(**options)


@pytest.mark.parametrize("a", [1.0, 0.0, -1.0])
def test_gradients_stay_finite_however_far_a_step_has_moved(a):
    now = steps([800.0])
    logps = now.logps.requires_grad_()
    found = FlowObjective()(now, steps([0.0]), torch.tensor([a]))
    (grad,) = torch.autograd.grad(found.per_step.sum(), logps)
    assert found.per_step.isfinite().all() and grad.isfinite().all()
