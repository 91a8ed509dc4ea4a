"""PARM as a process reward of joint GRPO: a small run, and what its settings refuse."""

import threading

import pytest

from strokes.rl.train import make_trainer


def test_images_are_credited_with_what_they_did_for_the_outcome(small, tmp_path):
    trainer = make_trainer(small("reward=parm", "steps=1", out=tmp_path), tmp_path, threading.Event())
    trainer.train()
    (line,) = (line for line in trainer.state.log_history if "stage/potential" in line)
    assert -1 <= line["stage/potential"] <= 1
    assert line["outcome/outcome"] == line["reward"]
    assert line["grad_norm"] > 0


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
