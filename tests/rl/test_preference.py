"""DPO of words and images together: pairs, the one logistic, and runs on the smallest shipped model."""

import json
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import settings

from strokes.agents.bagel.sample import Sampling
from strokes.agents.forward_states import ForwardState
from strokes.agents.trajectory import Trajectory
from strokes.envs.protocols import Score
from strokes.envs.transcript import Transcript
from strokes.rewards.judge import JudgeUnavailable
from strokes.rl.learning import is_gen
from strokes.rl.preference import Pair, PreferenceObjective, pairs_of
from strokes.rl.rounds import Rounds
from strokes.rl.train import latest_checkpoint, make_preference_trainer, train

DPO = "preference={{rounds: {}, epochs: {}, beta_text: 0.1, beta_flow: 1000.0, states: 2, guidance: {}}}"
GRADED = ("reward.outcome=soft", "credit.name=outcome", "group=4", "keep=9")


def judged(*totals):
    """A group with these verdicts."""
    return [
        Trajectory(transcript=Transcript(prompt="p", size=16), score=None if v is None else Score(total=v))
        for v in totals
    ]


def verdict(trajectory):
    return trajectory.score and trajectory.score.total


def test_a_pair_is_the_best_and_the_worst_and_the_first_of_equals():
    group = judged(0.5, 1.0, None, 0.0, 1.0, 0.0)
    (pair,), *counts = pairs_of([group], verdict)
    assert pair == Pair(group[1], group[3])
    assert counts[:2] == [0, 0] and counts[2] == pytest.approx(0.5)


def test_equal_scores_and_missing_verdicts_make_no_pair_and_are_counted():
    groups = [judged(0.5, 0.5), judged(None, 1.0), judged(None, None), judged(1.0, 0.0)]
    paired = pairs_of(groups, verdict)
    assert len(paired.pairs) == 1 and (paired.num_equal, paired.num_missing) == (1, 2)
    assert np.isnan(pairs_of([judged(None, None)], verdict).reward)


class Drawings:
    """Generations of two groups of two, with verdicts given by hand."""

    num, group, seed = 4, 2, 0

    def __init__(self, *totals):
        self.totals, self.next, self.asked = totals, 0, []

    def draw_next(self):
        self.asked.append(self.next)
        return judged(*self.totals)


def rounds(folder, drawings, **options):
    return Rounds(folder, drawings, verdict, num_rounds=2, epochs=2, **options)


def test_rounds_are_drawn_when_they_begin_and_every_pass_takes_all_their_pairs(tmp_path):
    drawings = Drawings(1.0, 0.0, 0.0, 1.0)
    made = rounds(tmp_path, drawings)
    assert made.num_steps == 8 and [made.begins(step) for step in range(8)] == [True, False, False, False] * 2
    passes = []
    for step in range(8):
        pairs, epoch = made.batch(step)
        assert epoch == step % 4 // 2
        assert drawings.asked == ([0, 1] if step < 4 else [0, 1, 2, 3])
        passes.append([id(pair.chosen) for pair in pairs])
    for first in (0, 2, 4, 6):
        assert len({*passes[first], *passes[first + 1]}) == len(passes[first] + passes[first + 1]) == 4
    again = Drawings()
    assert len(rounds(tmp_path, again).round(1).pairs) == 4 and again.asked == []  # all are kept


def test_with_fewer_pairs_than_steps_every_step_has_one(tmp_path):
    drawings = Drawings(1.0, 0.0)
    drawings.num = 6
    made = rounds(tmp_path, drawings)
    kept = iter([judged(1.0, 0.0), judged(1.0, 1.0), judged(0.0, 0.0)])
    drawings.draw_next = lambda: next(kept)
    assert [len(made.batch(step)[0]) for step in range(6)] == [1] * 6


def test_no_pair_at_all_and_too_few_verdicts_end_the_run_with_what_to_do(tmp_path):
    said = "got 2 prompts whose drawings are all judged alike and 2 with too few verdicts, .* set a larger group"
    with pytest.raises(ValueError, match=said):
        rounds(tmp_path / "a", Drawings(0.5, 0.5, None, 1.0)).batch(0)
    half = rounds(tmp_path / "b", Drawings(1.0, 0.0, None, None), max_missing=0.4)
    with pytest.raises(JudgeUnavailable, match=r"at most 40% .* \(reward.max_missing\), got 50%; mend the judge"):
        half.batch(0)
    assert not (tmp_path / "b").exists()  # the same command draws it again


def replayed(logps, velocities):
    return SimpleNamespace(logps=torch.tensor(logps), velocities=torch.as_tensor(velocities).reshape(-1, 1, 2))


def states(num):
    """Their velocity is (1, 0)."""
    return [ForwardState(0, 0.5, torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])) for _ in range(num)]


def test_words_and_images_are_in_one_logistic():
    """T = (-1 - 1) - (-4 + 5) ... by hand: words 0.5 · (2 - (-1)) = 1.5; errors 1/2 and 0 against 1/2 and 2.

    Chosen: v = (0, 0) errs by 1/2, its reference (0, 1) by 1. Rejected, two states: (1, 0) and (3, 0) err by 0 and 2, 1
    on average; the reference (1, 0) by 0. F = -1/2 - 1, and 2 · 1.5 = 3: the margin is 4.5.
    """
    objective = PreferenceObjective(sampling=Sampling(), beta_text=0.5, beta_flow=2.0)
    now = [replayed([-1.0, -1.0], [0.0, 0.0]), replayed([-5.0], [1.0, 0.0, 3.0, 0.0])]
    reference = [replayed([-2.0, -2.0], [0.0, 1.0]), replayed([-4.0], [1.0, 0.0, 1.0, 0.0])]
    told = objective(now, reference, [states(1), states(2)])
    assert told.metrics["margin_text"] == pytest.approx(1.5)
    assert told.metrics["margin_flow"] == pytest.approx(3.0)
    assert told.per_pair.tolist() == pytest.approx([np.log1p(np.exp(-4.5))])


def test_images_add_up_and_the_states_of_one_are_averaged():
    """One image that errs by 2 and 0 in its states, against two that err by 1/2 each: 1 and 1, as it is by hand."""
    objective = PreferenceObjective(sampling=Sampling(), beta_flow=1.0)
    exact = [1.0, 0.0]  # errs by 0
    now = [replayed([], [3.0, 0.0, *exact]), replayed([], [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0, 1.0])]
    reference = [replayed([], exact * 2), replayed([], exact * 4)]
    given = [states(2), [*states(2), *(each._replace(emission=3) for each in states(2))]]
    assert objective(now, reference, given).metrics["margin_flow"] == pytest.approx(-(1.0 - (0.5 + 0.5)))
    given[1] = states(4)  # of one image: 1/2
    assert objective(now, reference, given).metrics["margin_flow"] == pytest.approx(-(1.0 - 0.5))


def test_a_drawing_without_images_has_words_alone():
    objective = PreferenceObjective(sampling=Sampling())
    now = [replayed([-1.0], []), replayed([-1.0], [0.0, 0.0])]
    told = objective(now, now, [[], states(1)])
    assert told.per_pair.tolist() == pytest.approx([np.log(2)])


# Runs -----------------------------------------------------------------------------------------------


def _trainer(make, folder, *overrides):
    return make_preference_trainer(make(*GRADED, *overrides, out=folder), folder, threading.Event())


def _history(trainer, name):
    return [line[name] for line in trainer.state.log_history if name in line]


def _learnt(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


ROUNDS = DPO.format(2, 2, "{coef: 0.1, below: 0.6, adapter: start}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two rounds with two passes each, guided."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = _trainer(settings, folder, ROUNDS)
    before, drew = _learnt(trainer), []
    rollouts = trainer.generations.rollouts
    submit = rollouts.submit

    def watched(chunks, weights, **options):
        drew.append((trainer.state.global_step, weights))
        return submit(chunks, weights, **options)

    rollouts.submit = watched
    trainer.train()
    return folder, trainer, before, drew


def test_words_and_images_learn_from_pairs_that_each_round_draws_with_what_it_has_learnt(whole):
    folder, trainer, before, drew = whole
    changed = {name for name, p in _learnt(trainer).items() if not torch.equal(p, before[name])}
    assert any(map(is_gen, changed)) and not all(map(is_gen, changed))
    assert trainer.state.global_step == 4
    assert [step for step, _ in drew] == [0, 2]  # once a round, with what there was
    assert drew[0][1].checksum != drew[1][1].checksum
    assert _history(trainer, "preference/margin")[0] == 0  # the start is the reference
    assert _history(trainer, "preference/preference")[0] == pytest.approx(np.log(2))
    assert _history(trainer, "preference/margin")[1] > 0
    assert len(_history(trainer, "pairs/made")) == 2
    assert _history(trainer, "preference/guidance")[0] > 0
    assert trainer.generations.collect(-3).version == -5  # looks of one round are told apart
    kept = json.loads((folder / "pairs" / "0" / "state.json").read_text())
    assert len(kept["batches"][0]["trajectories"]) == 2 * _history(trainer, "pairs/made")[0]


def test_a_run_goes_on_exactly_and_draws_nothing_twice(tmp_path, whole):
    """From the middle of the first round."""
    theirs, uninterrupted, _, _ = whole
    shutil.copytree(theirs / "pairs" / "0", tmp_path / "pairs" / "0")
    shutil.copytree(theirs / "checkpoints" / "checkpoint-1", tmp_path / "checkpoints" / "checkpoint-1")
    part = _trainer(settings, tmp_path, ROUNDS)
    submit, numbers = part.generations.rollouts.submit, []
    part.generations.rollouts.submit = lambda chunks, *rest, **more: numbers.append(1) or submit(chunks, *rest, **more)
    part.train(resume_from_checkpoint=latest_checkpoint(tmp_path))
    assert numbers == [1]  # the second round
    for (name, mine), other in zip(_learnt(part).items(), _learnt(uninterrupted).values(), strict=True):
        assert torch.equal(mine, other), name


def test_guidance_changes_what_is_learnt_the_same_by_any_micro_batch_and_leaves_the_verifier(
    unsure, tmp_path, monkeypatch
):
    before = {name: p.clone() for name, p in unsure.model.named_parameters()}
    monkeypatch.setattr("strokes.rl.preference_run.Understanding", SimpleNamespace(load=lambda *_, **__: unsure))
    guided_by = "{coef: 1.0, below: 0.99, adapter: start}"
    plain, *micro = (
        _trainer(settings, tmp_path / str(k), DPO.format(1, 1, guidance), "steps=1", f"micro_batch={size}")
        for k, (guidance, size) in enumerate([("null", 4), (guided_by, 4), (guided_by, 2)])
    )
    for trainer in (plain, *micro):
        trainer.train()
    assert _history(plain, "pairs/made")[0] > 1
    (loss,), (together,), (apart,) = (_history(trainer, "loss") for trainer in (plain, *micro))
    assert together > loss + 0.01 and together == pytest.approx(apart, rel=1e-3)
    norms = [_history(trainer, "grad_norm")[0] for trainer in micro]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    changed = {n for n, p in _learnt(micro[0]).items() if not torch.equal(p, _learnt(plain)[n])}
    assert any(map(is_gen, changed))
    assert all(torch.equal(p, before[name]) for name, p in unsure.model.named_parameters())


class Alternating:
    """Prefers every second drawing, whatever is on it."""

    def __call__(self, transcripts):
        return [Score(total=float(k % 2)) for k, _ in enumerate(transcripts)]


def test_pairs_without_any_image_are_no_error_where_images_alone_learn(tmp_path, monkeypatch):
    monkeypatch.setattr("strokes.rl.judges.imported", lambda *_: Alternating)
    said = ("policy.max_tokens=1", "lora.experts=gen", "reward.outcome=null", "reward.target=here:judge", "steps=1")
    trainer = _trainer(settings, tmp_path, DPO.format(1, 1, "null"), *said)
    trainer.train()
    assert not any(each.transcript.images for pair in trainer.rounds.round(0).pairs for each in pair)
    assert _history(trainer, "grad_norm") == [0]


def test_the_command_ends_with_an_adapter(tmp_path):
    dpo = DPO.format(1, 1, "null")
    made = settings(*GRADED, dpo, "steps=1", out=tmp_path)
    assert train(made, tmp_path)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert train(made, tmp_path)  # finished
    with pytest.raises(ValueError, match=r"preference\.beta_text=0.2"):
        train(settings(*GRADED, dpo, "preference.beta_text=0.2", "steps=1", out=tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((DPO.format(3, 1, "null"),), "steps to be a multiple of preference.rounds"),
        ((DPO.format(1, 0, "null"),), "preference.epochs"),
        ((DPO.format(1, 1, "null"), "lora=null"), "Expected lora with preference"),
        ((DPO.format(1, 1, "null"), "updates=2"), "updates=1"),
        ((DPO.format(1, 1, "null"), "micro_batch=1"), "even micro_batch"),
        ((DPO.format(1, 1, "{coef: 0.1, below: 0, adapter: start}"),), "coef and below above 0"),
        ((DPO.format(1, 1, "{coef: 0.1, below: 0.01, adapter: start}"),), r"guidance\.below of at least 0\.\d+"),
        ((DPO.format(1, 1, "{coef: 0.1, below: 0.5, adapter: null}"),), r"guidance\.adapter to be the folder"),
        (("+experiment=dpo-guided",), r"guidance\.adapter to be the folder"),
        ((DPO.format(1, 1, "null"), "preference.states=5"), r"preference\.states of at most num_steps, 4"),
        ((DPO.format(1, 1, "null"), "credit.name=stages"), r"credit\.name=outcome with preference"),
        ((DPO.format(1, 1, "null"), "text.beta=0.1"), r"text\.beta=0 with preference"),
        ((DPO.format(1, 1, "null"), "flow.regulariser=kl", "flow.beta=1"), r"flow\.regulariser=null with preference"),
        ((DPO.format(1, 1, "null"), "flow.coef=0"), r"flow\.coef=1 with preference"),
        (("preference={rounds: 1}",), "preference.epochs"),
    ],
)
def test_settings_that_do_not_fit_are_named(overrides, said):
    with pytest.raises(ValueError, match=said):
        settings(*GRADED, *overrides)
