"""Learning from critics: a remote judge's verdicts teach exactly what the same verdicts teach without a server."""

import json
import pickle
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from safetensors.torch import load_file

from strokes.agents.load import checkpoint_of
from strokes.rewards.parm import ExactVerifier, RemoteVerifier
from strokes.rewards.sampled import Sampled
from strokes.rl.judges import make_reward, search_judge, search_verifier
from strokes.rl.train import observers, train

sys.path.insert(0, str(Path(__file__).parents[1] / "rewards"))  # for the server that tells the truth

from truthful import MODEL, Truthful

TWENTY = ("steps=20", "prompts=4", "group=8", "micro_batch=16", "text.lr=1e-3", "flow.lr=5e-5", "save_every=20")


def learnt(small, out, *options):
    """The adapter of a run, and its log."""
    assert train(small("reward=judge", *options, out=out), out)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    adapter = load_file(out / "adapter" / "adapter_model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in adapter.items()}, log


def remote(server, *options):
    price = f"+judge.prices.{MODEL}={{input: 1, output: 4}}"
    return ("reward.critic=remote", f"judge.base_url={server.url}", f"judge.model={MODEL}", price, *options)


@pytest.mark.slow  # the run below asks one, too
def test_a_remote_judge_teaches_what_the_same_verdicts_teach(small, tmp_path):
    exact, log = learnt(small, tmp_path / "exact", "reward.critic=exact")
    with Truthful() as server:
        asked, remotely = learnt(small, tmp_path / "remote", *remote(server))
        assert server.counts["all"] == server.counts["answered"] > 20
        assert {json.dumps(body).count('\\"question\\": \\"plan\\"') for body in server.bodies} == {0, 1}
    assert asked == exact
    assert [line.get("judge/calls") for line in log[:2]] == [0, 0]
    spent = [line["judge/calls"] for line in remotely[:2]]
    assert sum(spent) == server.counts["all"] and all(line["judge/tokens"] > 0 for line in remotely[:2])
    assert {"stage/plan", "stage/sketch", "outcome/outcome", "credit/masked"} <= set(remotely[0])


def test_verdicts_that_fail_are_masked_and_counted(small, tmp_path):
    with Truthful(script=["refusal", "content-filter"] * 3) as server:
        _, log = learnt(small, tmp_path / "run", *remote(server, "judge.concurrency={min: 1, start: 1, max: 1}"))
    assert 0 < log[0]["credit/masked"] <= 0.5 and log[1]["credit/masked"] == 0


def test_a_run_goes_on_with_the_judge_at_another_address(small, tmp_path, monkeypatch):
    asked = threading.Event()
    asked.set()
    with Truthful() as server, monkeypatch.context() as patch:
        patch.setattr("strokes.rl.train.stop_requests", lambda: nullcontext(asked))  # after the first step
        assert not train(small("reward=judge", *remote(server), out=tmp_path), tmp_path)
        with pytest.raises(ValueError, match=r"judge\.temperature"):
            train(small("reward=judge", *remote(server), "judge.temperature=1", out=tmp_path), tmp_path)
    with Truthful() as server:
        assert train(small("reward=judge", *remote(server), out=tmp_path), tmp_path)
        assert server.counts["answered"] > 0


def test_a_wrong_name_of_the_model_can_be_put_right_in_the_same_folder(small, tmp_path):
    with Truthful() as server:
        with pytest.raises(OSError, match="nobody"):
            train(small("reward=judge", *remote(server), "judge.model=nobody", out=tmp_path), tmp_path)
        assert train(small("reward=judge", *remote(server), "steps=1", out=tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("options", "held_out"),
    [
        ([], "soft"),
        (["reward.outcome=soft"], "strict"),
        (["reward.target=here:judge"], "strict"),
        (["reward=judge"], "strict"),
        (["reward=judge", "reward.critic=exact"], "soft"),
    ],
)
def test_what_is_held_out_is_not_what_is_trained_for(small, tmp_path, options, held_out):
    monitor, *_ = observers(small(*options, "judge.base_url=http://127.0.0.1:9/v1", out=tmp_path), tmp_path)
    assert monitor.held_out.outcome == held_out


def test_the_own_understanding_judges_with_probabilities(small, tmp_path):
    settings = small("reward=judge", "reward.critic=policy", "steps=1", "prompts=1", out=tmp_path)
    assert train(settings, tmp_path)
    log = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert 0 < log["outcome/outcome"] < 1 and log["judge/calls"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["reward=scene", "reward.critic=remote"], "reward.critic with reward=judge alone, got 'remote'"),
        (["reward.outcome=soft"], "reward.outcome and reward.target with reward=scene alone"),
        (["reward.critic=me"], "reward.critic among remote, exact, policy, got 'me'"),
        (["reward.max_missing=2"], r"reward.max_missing to be a share in \[0, 1\], got 2"),
        (["reward.process=-1"], "reward.process to be a number of at least 0"),
        (["judge.votes=0"], "judge.votes to be an integer of at least 1, got 0"),
    ],
)
def test_bad_settings_of_judges_are_named(small, options, words):
    with pytest.raises(ValueError, match=words):
        settings = small("reward=judge", "judge.base_url=http://127.0.0.1:9/v1", *options)
        make_reward(settings.reward, settings.judge, settings.policy)


def test_a_search_may_be_judged_by_the_critic_of_outcomes(small):
    settings = small()
    judged = search_judge({**settings.policy, "judge": "exact"}, settings.judge)
    assert judged.is_outcome_only and search_judge(settings.policy, settings.judge).names[0] == "official"


def test_a_search_may_ask_whom_it_likes(small, tmp_path):
    settings = small()

    def asks(name, **options):
        verifier = {"name": name, "path": None, "adapter": None, **options}
        policy = {**settings.policy, "name": "parm", "verifier": verifier}
        judge = {**settings.judge, "base_url": "http://127.0.0.1:9/v1", "model": "m"}
        return search_verifier(policy, judge)

    assert isinstance(asks("exact"), ExactVerifier) and isinstance(asks("remote"), RemoteVerifier)
    own = asks("policy", adapter="somewhere").answerer
    assert (own.path, own.adapter) == (str(checkpoint_of(settings.policy)), "somewhere")
    assert pickle.loads(pickle.dumps(own)) == own
    assert search_verifier(settings.policy, settings.judge) is None
    sampled = asks("exact", sampled=True)
    assert isinstance(sampled, Sampled) and isinstance(sampled.verifier, ExactVerifier)
    with pytest.raises(ValueError, match="among remote, exact, policy, got 'me'"):
        asks("me")
    with pytest.raises(ValueError, match="sampled to be true or false, got 'maybe'"):
        asks("exact", sampled="maybe")


def test_parm_samples_its_answers_as_released_alone():
    def is_sampled(name):
        with initialize_config_module("strokes.configs", version_base="1.3"):
            return compose("evaluate", [f"policy={name}"]).policy.verifier.sampled

    assert [is_sampled(name) for name in ("parm", "parm-plus", "parm-pruned")] == [True, True, False]


@pytest.mark.slow
def test_twenty_steps_here_and_on_ray_end_in_equal_weights_and_faults_do_not_stop_them(small, tmp_path):
    exact, _ = learnt(small, tmp_path / "exact", *TWENTY, "reward.critic=exact")
    with Truthful() as server:
        assert learnt(small, tmp_path / "remote", *TWENTY, *remote(server))[0] == exact
        on_ray = (*TWENTY, *remote(server), "rollout.kind=ray")
        assert learnt(small, tmp_path / "ray", *on_ray)[0] == exact
    with Truthful(faults=0.2, hang=3) as server:
        waits = ("judge.timeout_s=2", "judge.deadline_s=20", "judge.backoff_s=0.05")
        _, log = learnt(small, tmp_path / "faults", *TWENTY, *remote(server, *waits))
    masked = [line["credit/masked"] for line in log if "credit/masked" in line]
    assert len(masked) == 20 and 0 < sum(masked) / 20 < 0.3
