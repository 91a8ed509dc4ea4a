"""PARM as a process reward of joint GRPO: a small run, and what its settings refuse."""

import threading
from collections import Counter, defaultdict

import numpy as np
import pytest

from strokes.envs.protocols import Opinion
from strokes.rl.train import make_trainer


class Bright:
    """A verifier that sees the more potential the brighter a picture is, and knows of no outcome."""

    @staticmethod
    def chance(image):
        return float(np.mean(image)) / 255

    def ask(self, question, looks):
        p_yes = [{"clarity": 1.0, "outcome": 0.5}.get(question, self.chance(look.image)) for look in looks]
        return [Opinion(said=p >= 0.5, p_yes=p, p_no=1 - p) for p in p_yes]


class Spy:
    """Keeps what observers are told."""

    def on_rollouts(self, step, trajectories, credits):
        self.drawn, self.credits = trajectories, credits
        return {}


def test_images_are_paid_what_they_did_for_the_potential_and_credited_by_their_group(small, tmp_path, monkeypatch):
    spy = Spy()
    monkeypatch.setattr("strokes.rl.train.observers", lambda *_: [spy])
    monkeypatch.setattr("strokes.rl.judges.make_verifier", lambda *_: Bright())
    trainer = make_trainer(small("reward=parm", "steps=1", out=tmp_path), tmp_path, threading.Event())
    trainer.train()
    values = defaultdict(dict)
    for i, trajectory in enumerate(spy.drawn):
        assert trajectory.score.total == (0.5 if trajectory.transcript.canvas is not None else 0)
        pay, last, seen = trajectory.score.pay, 0.5, Counter()
        for k, entry, _ in trajectory.own():
            is_paid = entry.stage.is_image and not entry.error
            chance = Bright.chance(entry.content) if is_paid else last
            assert pay[k] == pytest.approx(chance - last)
            last = chance
            values[i // 2, entry.stage, seen[entry.stage]][i, k] = trajectory.score.total + sum(pay[k:])
            seen[entry.stage] += 1
    told = 0
    for found in values.values():
        drawings = list(found.values())
        apart = len(drawings) > 1 and np.std(drawings, ddof=1) > 1e-8
        for (i, k), value in found.items():
            wanted = (value - np.mean(drawings)) / (np.std(drawings, ddof=1) + 1e-4) if apart else 0
            assert spy.credits[i][k] == pytest.approx(wanted, abs=1e-4)
            told += apart and spy.drawn[i].transcript.emissions[k].stage.is_image
    assert told >= 2  # images were compared
    (line,) = (line for line in trainer.state.log_history if "stage/potential" in line)
    assert line["outcome/outcome"] == line["reward"] and line["grad_norm"] > 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("reward=parm", "reward.critic=nobody"), "reward.critic among"),
        (("reward=parm", "reward.outcome=soft"), "reward=scene alone"),
        (("reward=parm", "reward.adapter=a"), r"reward\.adapter with reward=parm reward\.critic=policy"),
        (("reward=judge", "reward.critic=policy", "reward.adapter=a"), r"reward\.adapter with reward=parm"),
    ],
)
def test_settings_that_do_not_fit_are_named(small, overrides, said):
    with pytest.raises(ValueError, match=said):
        small(*overrides)


def test_an_adapter_that_is_not_there_is_named(small, tmp_path):
    settings = small("reward=parm", "reward.critic=policy", f"reward.adapter={tmp_path / 'none'}", "steps=1")
    with pytest.raises(ValueError, match=r"Expected .*none"):
        make_trainer(settings, tmp_path, threading.Event()).train()
