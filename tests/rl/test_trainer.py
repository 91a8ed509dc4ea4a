"""The trainer on the smallest shipped model: what it learns from, that it is exact, and that it goes on exactly."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from strokes.envs.protocols import Score
from strokes.rewards.judge import JudgeUnavailable
from strokes.rl.checkpoints import WHOLE
from strokes.rl.learning import is_gen
from strokes.rl.train import latest_checkpoint, make_trainer, train


def _trainer(small, tmp_path, *overrides):
    return make_trainer(small(*overrides, out=tmp_path), tmp_path, threading.Event())


def _history(trainer, name):
    return [line[name] for line in trainer.state.log_history if name in line]


def _learnt(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def test_texts_and_images_are_learnt_together_and_replay_is_rollout(small, tmp_path):
    trainer = _trainer(small, tmp_path)
    before = _learnt(trainer)
    trainer.train()
    changed = {name: not torch.equal(p, before[name]) for name, p in _learnt(trainer).items()}
    assert any(changed[n] for n in changed if is_gen(n)) and any(changed[n] for n in changed if not is_gen(n))
    assert max(_history(trainer, "drift/text_max")) <= 5e-5
    assert max(_history(trainer, "drift/flow_max")) <= 1e-4
    assert sum(_history(trainer, "drift/text_alarm") + _history(trainer, "drift/flow_alarm")) == 0
    assert all(norm > 0 for norm in _history(trainer, "grad_norm"))
    assert len(_history(trainer, "reward")) == 2


def test_before_the_first_update_every_ratio_is_exactly_one(small, tmp_path):
    trainer = _trainer(small, tmp_path, "updates=2", "micro_batch=1", "steps=1", "iterations=2")
    seen = []
    replayer = trainer.replayer

    def watched(model, trajectories):
        replayed = replayer(model, trajectories)
        seen.append((trainer.state.global_step, torch.is_grad_enabled(), replayed))
        return replayed

    trainer.replayer = watched
    trainer.train()
    anchors = [r for _, grad, replayed in seen if not grad for r in replayed]
    first = [r for step, grad, replayed in seen if grad and step == 0 for r in replayed]
    assert len(anchors) == 4 and len(first) == 2
    for old, new in zip(anchors[: len(first)], first, strict=True):
        assert torch.equal(old.logps, new.logps.detach()) and torch.equal(old.steps, new.steps.detach())


@pytest.mark.parametrize(
    "stop_at", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_run_goes_on_exactly_from_any_step_in_the_middle_of_a_generation_too(small, tmp_path, stop_at):
    options = ("updates=2", "iterations=2", "micro_batch=2", "steps=2", "keep=9")
    whole = _trainer(small, tmp_path / "whole", *options)
    whole.train()
    folder = tmp_path / "part" / "checkpoints" / f"checkpoint-{stop_at}"
    folder.parent.mkdir(parents=True)
    shutil.copytree(tmp_path / "whole" / "checkpoints" / f"checkpoint-{stop_at}", folder)
    part = _trainer(small, tmp_path / "part", *options)
    part.train(resume_from_checkpoint=latest_checkpoint(tmp_path / "part"))
    assert part.state.global_step == whole.state.global_step == 8
    for (name, mine), theirs in zip(_learnt(part).items(), _learnt(whole).values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_drawing_ahead_trains_and_goes_on_exactly(small, tmp_path):
    options = ("rollout.staleness=1", "steps=3", "keep=9")
    whole = _trainer(small, tmp_path / "whole", *options)
    whole.train()
    folder = tmp_path / "part" / "checkpoints" / "checkpoint-2"
    folder.parent.mkdir(parents=True)
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "checkpoint-2", folder)
    part = _trainer(small, tmp_path / "part", *options)
    part.train(resume_from_checkpoint=latest_checkpoint(tmp_path / "part"))
    for (name, mine), theirs in zip(_learnt(part).items(), _learnt(whole).values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_all_weights_can_learn_without_adapters_and_go_on(small, tmp_path):
    options = ("lora=null", "steps=2", "text.lr=1e-4", "flow.lr=1e-4", "keep=9")
    whole = _trainer(small, tmp_path / "whole", *options)
    whole.train()
    folder = tmp_path / "part" / "checkpoints" / "checkpoint-1"
    folder.parent.mkdir(parents=True)
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "checkpoint-1", folder)
    part = _trainer(small, tmp_path / "part", *options)
    part.train(resume_from_checkpoint=latest_checkpoint(tmp_path / "part"))
    for (name, mine), theirs in zip(_learnt(part).items(), _learnt(whole).values(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize(("option", "learns_gen"), [("flow.coef=0", False), ("text.coef=0", True)])
def test_texts_alone_and_images_alone(small, tmp_path, option, learns_gen):
    trainer = _trainer(small, tmp_path, option, "steps=1", "prefix=detach", "prompts=4", "micro_batch=4")
    before = _learnt(trainer)
    trainer.train()
    changed = {n for n, p in _learnt(trainer).items() if not torch.equal(p, before[n])}
    assert changed
    last = [n for n in changed if ".layers.3." in n and "down_proj" in n]
    assert any(is_gen(n) for n in last) == learns_gen
    assert any(not is_gen(n) for n in last) == (not learns_gen)


class Constant:
    """The same verdict for all."""

    value: float | None = 0.5

    def __call__(self, transcripts):
        return [Score(total=self.value) for _ in transcripts]


class Missing(Constant):
    """Never a verdict."""

    value = None


class NotANumber(Constant):
    """A judge that fails and does not say so."""

    value = float("nan")


class TooFew(Constant):
    """A judge that forgets one."""

    def __call__(self, transcripts):
        return super().__call__(transcripts)[1:]


@pytest.mark.parametrize("judge", [Constant, Missing, NotANumber])
def test_verdicts_that_are_equal_or_missing_teach_nothing_and_are_counted(small, tmp_path, monkeypatch, judge):
    monkeypatch.setattr("strokes.rl.judges.imported", lambda *_: judge)
    options = ("reward.target=here:judge", "reward.max_missing=1", "steps=1", "credit.name=outcome")
    trainer = _trainer(small, tmp_path, *options)
    before = _learnt(trainer)
    trainer.train()
    for name, parameter in _learnt(trainer).items():
        assert torch.equal(parameter, before[name]), name
    assert _history(trainer, "credit/idle_groups") == [1.0]
    assert _history(trainer, "credit/missing")[0] == (0 if judge is Constant else 4)
    assert _history(trainer, "credit/masked")[0] == (judge is not Constant)


def test_a_judge_that_says_nothing_ends_the_run_with_what_to_do(small, tmp_path, monkeypatch):
    monkeypatch.setattr("strokes.rl.judges.imported", lambda *_: Missing)
    trainer = _trainer(small, tmp_path, "reward.target=here:judge", "steps=1", "credit.name=outcome")
    with pytest.raises(JudgeUnavailable, match=r"at most 50% .* \(reward.max_missing\), got 100%; mend the judge"):
        trainer.train()


def test_a_judge_that_forgets_one_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr("strokes.rl.judges.imported", lambda *_: TooFew)
    with pytest.raises(ValueError, match=r"Expected .* score"):
        _trainer(small, tmp_path, "reward.target=here:judge", "steps=1").train()


def test_a_policy_that_never_draws_trains_on_its_words(small, tmp_path, monkeypatch):
    """Texts of one token are never legal plans: no image ever comes, the budget ends the episode."""
    trainer = _trainer(small, tmp_path, "policy.max_tokens=1", "steps=1", "credit.name=outcome")
    trainer.train()
    assert _history(trainer, "images_per_drawing") == [0.0]
    assert _history(trainer, "stopped") == [0.0]
    assert np.isfinite(_history(trainer, "loss")).all()


def test_a_replay_that_drops_guidance_trips_the_alarm_by_far(small, tmp_path, capsys):
    trainer = _trainer(small, tmp_path, "steps=1")
    unguided = small("guidance=1", out=tmp_path).sampling
    trainer.replayer = type(trainer.replayer)(trainer.model.config, trainer.tokens, unguided)
    trainer.train()
    assert min(_history(trainer, "drift/flow_max")) >= 10 * trainer.gauges.allowed["flow"]
    assert "drift alarm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("global_step", 3, "rollouts of step 2, got those of step 3"),
        ("trl", "0.9.0", r"rollouts of TRL 1\.16.*, got those of 0\.9\.0"),
    ],
)
def test_a_buffer_of_another_step_or_version_is_refused(small, tmp_path, name, value, said):
    trainer = _trainer(small, tmp_path)
    trainer.train()
    state = Path(latest_checkpoint(tmp_path)) / "rollouts-0" / "state.json"
    record = json.loads(state.read_text())
    record["position"][name] = value
    state.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=said):
        _trainer(small, tmp_path, "steps=3").train(resume_from_checkpoint=latest_checkpoint(tmp_path))


def test_the_command_ends_with_an_adapter_that_draws(small, tmp_path):
    from strokes.agents.load import load_policy

    settings = small(out=tmp_path)
    assert train(settings, tmp_path)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    load_policy({**settings.policy, "adapter": str(tmp_path / "adapter")}, steps=4, guidance=3.0)


def test_another_number_of_learners_is_refused(small, tmp_path):
    _trainer(small, tmp_path).train()
    folder = Path(latest_checkpoint(tmp_path))
    (folder / "rollouts-1").mkdir()
    with pytest.raises(ValueError, match="was written by, 2, got 1"):
        _trainer(small, tmp_path, "steps=3").train(resume_from_checkpoint=str(folder))


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(small, tmp_path):
    _trainer(small, tmp_path).train()
    (folder := Path(latest_checkpoint(tmp_path))).joinpath(WHOLE).unlink()
    assert latest_checkpoint(tmp_path) not in (None, str(folder))


def test_what_changes_numbers_may_not_change_when_a_run_goes_on(small, tmp_path):
    train(small(out=tmp_path), tmp_path)
    with pytest.raises(ValueError, match=r"rollout.chunk=2 \(there 4\)"):
        train(small("rollout.chunk=2", out=tmp_path), tmp_path)
    assert train(small("rollout.workers=3", out=tmp_path), tmp_path)


def test_an_adapter_to_begin_with_is_refused(small):
    with pytest.raises(ValueError, match=r"Expected no policy.adapter, got 'a'"):
        small("policy.adapter=a")


def test_groups_of_one_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="group to be at least 2"):
        small("group=1")
