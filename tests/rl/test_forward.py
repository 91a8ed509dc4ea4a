"""DiffusionNFT: its loss on paper, its average, and joint runs on the smallest shipped model."""

import shutil
import threading

import numpy as np
import pytest
import torch
from small import settings

from strokes.agents.bagel.sample import Sampling
from strokes.agents.forward_states import ForwardState
from strokes.agents.trajectory import Trajectory
from strokes.envs.protocols import Score
from strokes.envs.transcript import Transcript
from strokes.rl.average import DECAYS, Average, decay
from strokes.rl.forward import ForwardObjective
from strokes.rl.learning import is_gen
from strokes.rl.loss import Steps
from strokes.rl.train import latest_checkpoint, make_trainer

NFT = ("flow={form: nft, regulariser: velocity, beta: 1e-4, nft: {mix: 1.0, states: 2, schedule: 1}}", "keep=9")
UPDATED = ("updates=2", "steps=2", "micro_batch=1")


class OnPaper(ForwardObjective):
    """The objective on one state, given by hand."""

    __slots__ = ()
    given: ForwardState

    def states(self, trajectory):
        return [OnPaper.given]


def loss(v, old, advantage, *, clean, noise, time, reference=None, mix=1.0, penalty=0.0):
    """Of one state; velocities, image and noise as lists of numbers."""

    def steps(values):
        tensor = torch.as_tensor(values).reshape(1, 1, -1)
        return Steps(torch.zeros(0), torch.zeros(0, 0, 1), torch.zeros(0), tensor)

    OnPaper.given = ForwardState(0, time, torch.tensor([clean]), torch.tensor([noise]))
    objective = OnPaper(sampling=Sampling(), mix=mix, penalty=penalty)
    trajectory = Trajectory(transcript=Transcript(prompt="p", size=16))
    told = objective.loss(
        [trajectory], steps(v), steps(old), torch.tensor([advantage]), None if reference is None else steps(reference)
    )
    return told.per_step.sum()


@pytest.mark.parametrize("mix", [1.0, 0.1])
@pytest.mark.parametrize(("advantage", "sign"), [(5.0, -1), (9.0, -1), (-5.0, 1), (-7.0, 1)])
def test_from_the_old_weights_a_good_image_is_approached_and_a_bad_one_left(advantage, sign, mix):
    old = [0.3, -0.2, 1.0]
    v = torch.tensor(old, requires_grad=True)
    loss(v, old, advantage, clean=[0.0, 1.0, 2.0], noise=[1.0, -1.0, 0.5], time=0.6, mix=mix).backward()
    towards = torch.tensor([1.0, -2.0, -1.5]) - v.detach()
    assert torch.equal(torch.sign(v.grad), sign * torch.sign(towards))
    cosine = torch.nn.functional.cosine_similarity(v.grad, sign * towards, dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-6)


def test_an_average_image_teaches_nothing_at_the_old_weights():
    v = torch.tensor([0.3, -0.2], requires_grad=True)
    loss(v, [0.3, -0.2], 0.0, clean=[0.0, 1.0], noise=[1.0, -1.0], time=0.6).backward()
    assert v.grad.abs().max() == pytest.approx(0, abs=1e-6)


def test_in_one_dimension_it_is_the_formula():
    """x0 = 2, e = -1: the velocity wanted is -3. t = 1/2, b = 1/2, A = 2.5: r = 3/4; v = 1, old = 0, reference = 3.

    v+ = 1/2 and x0+ - 2 = (-3 - 1/2) / 2 = -7/4: (7/4)^2 / (7/4) = 7/4. v- = -1/2: (5/4)^2 / (5/4) = 5/4.
    5 (3/4 7/4 + 1/4 5/4) / (1/2) = 16.25; and 0.1 (1 - 3)^2 = 0.4.
    """
    told = loss([1.0], [0.0], 2.5, clean=[2.0], noise=[-1.0], time=0.5, reference=[3.0], mix=0.5, penalty=0.1)
    assert told.item() == pytest.approx(16.65, rel=1e-6)


def test_the_weights_of_both_terms_pass_no_gradient_and_are_never_zero():
    """d/dv of 5 r (t (v - w))^2 / |t (v - w)|, its denominator a constant: 5 r 2 t sign(v - w)."""
    v = torch.tensor([1.0], requires_grad=True)
    loss(v, [1.0], 5.0, clean=[2.0], noise=[-1.0], time=0.5).backward()
    assert v.grad.item() == pytest.approx(5 * 2 * 0.5)
    exact = torch.tensor([-3.0], requires_grad=True)
    loss(exact, [-3.0], 5.0, clean=[2.0], noise=[-1.0], time=0.5).backward()
    assert exact.grad.item() == 0


def test_the_penalty_alone_leads_to_the_reference():
    v = torch.tensor([1.0, -1.0], requires_grad=True)
    loss(
        v, [1.0, -1.0], 0.0, clean=[0.0, 0.0], noise=[1.0, 1.0], time=0.5, reference=[0.0, 0.0], penalty=1.0
    ).backward()
    assert v.grad.tolist() == pytest.approx([1.0, -1.0], abs=1e-5)


def test_schedules_are_those_of_the_paper():
    assert [decay(1, n) for n in (0, 1, 100, 500, 9999)] == pytest.approx([0, 0.001, 0.1, 0.5, 0.5])
    assert [decay(2, n) for n in (0, 75, 76, 100, 208, 209)] == pytest.approx([0, 0, 0.0075, 0.1875, 0.9975, 0.999])
    assert [decay(0, n) for n in (0, 1, 999)] == [0, 0, 0]


def test_the_average_is_of_the_gen_expert_alone_and_is_taken_once_a_generation(weights, monkeypatch):
    monkeypatch.setitem(DECAYS, 1, (0, 0.25, 0.5))
    first, second = weights
    average = Average(1, steps=1)
    assert average(first) is first
    drew = average(second)
    assert drew.version == second.version and average(second) is drew
    assert drew.checksum not in (first.checksum, second.checksum)
    for name, tensor in drew.tensors.items():
        wanted = 0.25 * first.tensors[name] + 0.75 * second.tensors[name] if is_gen(name) else second.tensors[name]
        assert torch.allclose(tensor, wanted), name


def test_the_average_counts_the_steps_of_the_optimizer(weights, monkeypatch):
    monkeypatch.setitem(DECAYS, 1, (0, 0.25, 1.0))
    twice, thrice = Average(1, steps=2), Average(1, steps=3)
    first, second = weights
    shares = []
    for average in (twice, thrice):
        average(first)
        drew = average(second)
        name = next(n for n in drew.tensors if is_gen(n) and not torch.equal(first.tensors[n], second.tensors[n]))
        moved, whole = drew.tensors[name] - second.tensors[name], first.tensors[name] - second.tensors[name]
        shares.append(float(moved.norm() / whole.norm()))
    assert shares == pytest.approx([0.5, 0.75], abs=1e-4)


def test_an_image_without_a_verdict_is_no_image_of_average_worth():
    given = {"clean": [0.0, 1.0], "noise": [1.0, -1.0], "time": 0.6, "reference": [0.0, 0.0], "penalty": 1.0}
    v = torch.tensor([0.9, -0.2], requires_grad=True)
    told = loss(v, [0.3, -0.2], float("nan"), **given)
    told.backward()
    assert told == 0 and v.grad.abs().max() == 0
    assert loss(v, [0.3, -0.2], 0.0, **given) > 0


# Runs -----------------------------------------------------------------------------------------------


def _trainer(small, folder, *overrides):
    return make_trainer(small(*NFT, *overrides, out=folder), folder, threading.Event())


def _history(trainer, name):
    return [line[name] for line in trainer.state.log_history if name in line]


def _learnt(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two generations with two updates each, what it learnt by version, and what drew."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DECAYS, 1, (0, 0.5, 0.5))
        trainer = _trainer(settings, folder, *UPDATED)
        drew, learnt = [], {}
        rollouts, collect = trainer.generations.rollouts, trainer.generations.collect
        submit = rollouts.submit

        def watched(chunks, weights, **options):
            drew.append(weights)
            return submit(chunks, weights, **options)

        def collected(version):
            learnt[version] = collect(version)
            return learnt[version]

        rollouts.submit, trainer.generations.collect = watched, collected
        trainer.train()
    return folder, trainer, learnt, drew


def test_words_and_images_are_learnt_and_the_average_is_what_draws(whole):
    _, trainer, learnt, drew = whole
    changed = {name: not torch.equal(p, learnt[0].tensors[name]) for name, p in learnt[1].tensors.items()}
    assert any(changed[n] for n in changed if is_gen(n)) and any(changed[n] for n in changed if not is_gen(n))
    assert [weights.version for weights in drew] == [0, 1]
    assert drew[0] is learnt[0]
    for name, tensor in drew[1].tensors.items():
        share = 0.5 if is_gen(name) else 0.0
        mixed = share * learnt[0].tensors[name] + (1 - share) * learnt[1].tensors[name]
        assert torch.allclose(tensor, mixed, atol=1e-7), name
    # Words are replayed at exactly what drew, so no drift is more than float noise.
    assert max(_history(trainer, "drift/text_max")) <= 5e-5
    assert sum(_history(trainer, "drift/text_alarm")) == 0
    moved = _history(trainer, "flow/moved")
    assert moved[0] == 0 and moved[2] > 0  # the second generation begins away from what drew it
    assert all(norm > 0 for norm in _history(trainer, "grad_norm"))


def test_a_run_goes_on_exactly_average_and_all(small, tmp_path, whole, monkeypatch):
    """From the middle of the first generation: its v_old, and what the next average is made of, are kept."""
    monkeypatch.setitem(DECAYS, 1, (0, 0.5, 0.5))
    theirs, uninterrupted, *_ = whole
    shutil.copytree(theirs / "checkpoints" / "checkpoint-1", tmp_path / "checkpoints" / "checkpoint-1")
    part = _trainer(small, tmp_path, *UPDATED)
    part.train(resume_from_checkpoint=latest_checkpoint(tmp_path))
    assert part.state.global_step == uninterrupted.state.global_step == 4
    for (name, mine), other in zip(_learnt(part).items(), _learnt(uninterrupted).values(), strict=True):
        assert torch.equal(mine, other), name
    assert part.average.weights.checksum == uninterrupted.average.weights.checksum


class Dark:
    """Likes dark pictures: a reward that images alone can raise."""

    def __call__(self, transcripts):
        return [Score(total=None if t.canvas is None else 1 - float(np.mean(t.canvas)) / 255) for t in transcripts]


def test_a_rigged_reward_rises(small, tmp_path, monkeypatch):
    monkeypatch.setattr("strokes.rl.judges.imported", lambda *_: Dark)
    trainer = _trainer(
        small,
        tmp_path,
        *("steps=6", "prompts=2", "group=6", "micro_batch=12", "rollout.chunk=12", "save_every=10"),
        *("reward.target=here:judge", "credit.name=outcome", "text.coef=0", "flow.lr=3e-3", "lr_schedule=constant"),
    )
    trainer.train()
    rewards = _history(trainer, "reward")
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 0.02


class Absent:
    """Has no verdict on every third drawing."""

    def __call__(self, transcripts):
        return [Score(total=None if k % 3 == 0 else float(k % 2)) for k, _ in enumerate(transcripts)]


def test_what_the_loss_is_divided_by_are_images_with_a_verdict(small, tmp_path, monkeypatch):
    monkeypatch.setattr("strokes.rl.judges.imported", lambda *_: Absent)
    judge = ("reward.outcome=null", "reward.target=here:judge", "reward.max_missing=1", "credit.name=outcome")
    trainer = _trainer(small, tmp_path, "steps=1", "group=4", "micro_batch=8", "rollout.chunk=8", *judge)
    (seen, flow) = ([], trainer._flow_loss)
    trainer._flow_loss = lambda inputs, replayed: seen.append(inputs) or flow(inputs, replayed)
    trainer.train()
    (inputs,) = seen
    images = [(t.score.total, sum(e.stage.is_image for _, e, _ in t.own())) for t in inputs["trajectories"]]
    assert sum(n for total, n in images if total is None) > 0
    assert inputs["num_flow_steps"] == 2 * sum(n for total, n in images if total is not None)
    for (total, _), credit in zip(images, inputs["credits"], strict=True):
        assert np.isnan(credit).all() == (total is None)
    assert all(np.isfinite(_history(trainer, "grad_norm"))) and all(np.isfinite(_history(trainer, "flow/weight")))


def test_drawings_without_any_image_are_no_error_where_images_alone_learn(small, tmp_path):
    trainer = _trainer(small, tmp_path, "policy.max_tokens=1", "lora.experts=gen", "steps=1")
    trainer.train()
    assert _history(trainer, "images_per_drawing") == [0] and _history(trainer, "grad_norm") == [0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("flow.form=nft", "flow.nft, a block with mix, states, schedule, exactly with flow.form=nft"),
        (
            "flow={form: nft, nft: {mix: 1, states: 5, schedule: 1}}",
            r"nft\.states of at most num_steps, 4, got 5",
        ),
        ("flow={form: nft, nft: {mix: 0, states: 2, schedule: 1}}", "flow.nft.mix above 0"),
        ("flow={form: nft, nft: {mix: 1, states: 2, schedule: 3}}", "flow.nft.schedule among 0, 1, 2"),
        ("flow={form: nft, clip: 0.1, nft: {mix: 1, states: 2, schedule: 1}}", "which has no densities"),
    ],
)
def test_settings_that_do_not_fit_are_named(small, override, said):
    with pytest.raises(ValueError, match=said):
        small(override)


def test_rollouts_have_no_stochastic_steps(small):
    sampling = small(*NFT).sampling
    assert sampling.noise is None and sampling.cfg_text_scale > 1


@pytest.mark.parametrize("experiment", ["nft", "dpo", "dpo-iterative", "dpo-guided", "parm-potential"])
def test_experiments_are_settings(experiment):
    adapter = ["preference.guidance.adapter=a"] * (experiment == "dpo-guided")  # which has none of its own
    made = settings(f"+experiment={experiment}", *adapter)
    assert (made.preference is not None) == experiment.startswith("dpo")
    assert (made.sampling.noise is None) == (experiment != "parm-potential")
