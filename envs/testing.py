"""Conformance tests for environments, policies and rewards: subclass, say how to make yours, run pytest.

Example:
    >>> from strokes.agents.scripted import ScriptedPainter
    >>> from strokes.envs.testing import PolicyConformance
    >>> class TestScriptedPainter(PolicyConformance):
    ...     def make_policy(self):
    ...         return ScriptedPainter()

Only plain ``assert`` is used, so that any test runner will do.
"""

import copy
import math
import pickle
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from .archive import append_transcript, load_transcripts
from .canvas import CanvasEnv
from .markup import Inspection, Plan
from .protocols import Policy, Reply, Reward, Score
from .stages import Emission, Stage
from .transcript import Transcript
from .wrappers import canvas_env


def play(policy: Policy, env: gym.Env[Any, Any], seed: Sequence[int] = (0,), **options: Any) -> Transcript:
    """One episode of a policy; returns the transcript, asserting that every reply obeys the mask.

    Args:
        policy: Gets one session.
        env: A ``CanvasEnv``, wrapped or not.
        seed: For the session.
        options: Of ``env.reset``: prompt, meta, canvas or transcript.
    """
    _, info = env.reset(seed=0, options=options)
    inner = canvas_env(env)
    session = policy.start(inner.transcript, inner.size, seed)
    terminated = truncated = False
    while not (terminated or truncated):
        (reply,) = policy.act([session], [info["action_mask"]])
        assert info["action_mask"][reply.emission.stage], f"Expected a legal stage, got {reply.emission.stage!r}."
        *_, terminated, truncated, info = env.step(reply.emission)
        inner.transcript.emissions[-1].source = reply.source
    policy.close([session])
    return inner.transcript


def sample_transcripts(size: int = 48, seed: int = 0) -> list[Transcript]:
    """Transcripts of every kind: empty, in progress, with illegal emissions and outside words, stopped."""
    rng = np.random.default_rng(seed)
    script = [
        Emission(Stage.PLAN, str(Plan("Draw a red circle.", "A red circle."))),
        Emission(Stage.SKETCH, rng.integers(0, 256, (size, size, 3)).astype(np.uint8)),
        Emission(Stage.INSPECT, str(Inspection("It is noise.", "Draw a red circle."))),
        Emission(Stage.REFINE, np.full((size, size, 3), 255, np.uint8)),
        Emission(Stage.STOP, ""),
    ]
    transcripts = []
    for length in range(len(script) + 1):
        transcript = Transcript(prompt="a red circle", size=size)
        for k, emission in enumerate(script[:length]):
            if k == 2:
                transcript.record(Emission(Stage.PLAN, "no tags and not its turn"))
                transcript.interject("Look again.")
            transcript.record(emission)
        transcripts.append(transcript)
    return transcripts


class EnvConformance:
    """What every environment of this package does, wrapped or not."""

    def make_env(self) -> gym.Env[Any, Any]:
        """A fresh environment, the same every time."""
        raise NotImplementedError("Define make_env in the subclass.")

    def test_check_env_passes_without_a_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".*different from the unwrapped version")  # it may be wrapped
            check_env(self.make_env(), skip_render_check=True)

    def test_random_legal_emissions_are_never_illegal_and_come_to_an_end(self) -> None:
        env = self.make_env()
        for seed in range(3):
            transcript, infos = _random_episode(env, seed)
            assert not any(info["error"] for info in infos), "Expected no error on legal emissions."
            assert transcript.ended is not None and transcript.spent <= canvas_env(env).budget

    def test_info_has_the_same_keys_and_kinds_at_every_step(self) -> None:
        _, infos = _random_episode(self.make_env(), 0)
        first = infos[0]
        assert {"action_mask", "error", "reward_terms"} <= set(first)
        for info in infos:
            assert set(info["reward_terms"]) == set(first["reward_terms"]), "Expected constant reward terms."
            assert all(isinstance(value, float) for value in info["reward_terms"].values())
            assert info["action_mask"].shape == (5,) and info["action_mask"].dtype == np.int8

    def test_an_illegal_emission_costs_budget_says_why_and_changes_nothing_else(self) -> None:
        env = self.make_env()
        before, info = env.reset(seed=0)
        after, _, _, truncated, later = env.step(Emission(Stage.STOP, ""))
        assert later["error"] and not truncated and after["left"] == before["left"] - 1
        assert (later["action_mask"] == info["action_mask"]).all()
        assert np.array_equal(after["canvas"], before["canvas"]) and after["stage"] == before["stage"]

    def test_the_same_seed_gives_the_same_episode(self) -> None:
        (one, _), (two, _) = _random_episode(self.make_env(), 5), _random_episode(self.make_env(), 5)
        assert one.prompt == two.prompt and one.emissions == two.emissions, "Expected equal episodes after equal seeds."

    def test_the_transcript_survives_a_file_and_is_continued_from_any_stage(self) -> None:
        env = self.make_env()
        transcript, _ = _random_episode(env, 1)
        with tempfile.TemporaryDirectory() as folder:
            append_transcript(transcript, Path(folder) / "t.jsonl")
            (loaded,) = load_transcripts(Path(folder) / "t.jsonl")
        assert loaded == transcript
        for k in range(len(loaded.emissions)):
            observation, _ = env.reset(options={"transcript": loaded.cut(k)})
            assert observation in env.observation_space
            assert canvas_env(env).transcript.emissions == loaded.emissions[:k]


class PolicyConformance:
    """What every policy does."""

    prompt = "a red circle"
    size = 48
    budget = 32

    def make_policy(self) -> Policy:
        """A fresh policy, the same every time."""
        raise NotImplementedError("Define make_policy in the subclass.")

    def make_env(self) -> CanvasEnv:
        """Where it is tried."""
        return CanvasEnv([self.prompt], size=self.size, budget=self.budget)

    def test_it_draws_legally_to_the_end(self) -> None:
        transcript = play(self.make_policy(), self.make_env())
        assert transcript.ended is not None and transcript.images, "Expected a drawing that ends, with an image."

    def test_the_same_seed_gives_the_same_drawing(self) -> None:
        state = repr(np.random.get_state())
        one, two = (play(self.make_policy(), self.make_env(), (3, 1)) for _ in range(2))
        assert one == two, "Expected equal transcripts after equal seeds."
        assert state == repr(np.random.get_state()), "Expected no use of NumPy's global generator."

    def test_replies_come_in_the_order_of_ragged_sessions_and_write_nothing(self) -> None:
        policy = self.make_policy()
        done = play(policy, self.make_env())
        cuts = [done.cut(k) for k in range(min(4, len(done.emissions)))][::-1]
        sessions = [policy.start(cut, self.size, (k,)) for k, cut in enumerate(cuts)]
        replies = policy.act(sessions, [cut.mask() for cut in cuts])
        assert len(replies) == len(cuts)
        for k, (cut, reply) in enumerate(zip(cuts, replies, strict=True)):
            assert len(cut.emissions) == len(cuts) - 1 - k, "Expected the driver alone to write transcripts."
            assert cut.mask()[reply.emission.stage], f"Expected a legal stage, got {reply.emission.stage!r}."
            self.check_reply(reply)
        policy.close(sessions)

    def test_it_takes_up_a_drawing_at_any_stage(self) -> None:
        policy, env = self.make_policy(), self.make_env()
        done = play(policy, env)
        for k in range(len(done.emissions)):
            continued = play(policy, env, transcript=done.cut(k))
            assert continued.emissions[:k] == done.emissions[:k] and continued.ended is not None

    def test_closing_one_session_leaves_the_others(self) -> None:
        policy = self.make_policy()
        empty = [Transcript(prompt=self.prompt, size=self.size) for _ in range(2)]
        first, second = (policy.start(transcript, self.size, (0,)) for transcript in empty)
        policy.close([first])
        assert len(policy.act([second], [empty[1].mask()])) == 1
        policy.close([second])

    def check_reply(self, reply: Reply) -> None:
        """The parts of a reply fit together."""
        stage, content = reply.emission
        assert isinstance(content, np.ndarray if stage.is_image else str)
        if stage.is_image:
            assert isinstance(content, np.ndarray)
            assert content.shape == (self.size, self.size, 3) and content.dtype == np.uint8
        assert len(reply.logps) in (0, len(reply.tokens)) and len(reply.allowed) in (0, len(reply.tokens))
        assert all(logp <= 0 for logp in reply.logps), "Expected log-probabilities."
        for token, allowed in zip(reply.tokens, reply.allowed, strict=False):
            assert allowed is None or token in allowed, "Expected sampled tokens among the allowed ones."


class RewardConformance:
    """What every reward does."""

    def make_reward(self) -> Reward:
        """A fresh reward, the same every time."""
        raise NotImplementedError("Define make_reward in the subclass.")

    def make_transcripts(self) -> list[Transcript]:
        """What it is tried on; add your own to those of every kind."""
        return sample_transcripts()

    def test_there_is_one_well_formed_score_per_transcript(self) -> None:
        reward, transcripts = self.make_reward(), self.make_transcripts()
        scores = reward(transcripts)
        assert len(scores) == len(transcripts) and list(reward([])) == []
        for transcript, score in zip(transcripts, scores, strict=True):
            assert isinstance(score, Score) and len(score.steps) == len(transcript.emissions)
            assert len(score.pay) in (0, len(score.steps)) and all(
                pay is None or math.isfinite(pay) for pay in score.pay
            )
            for terms in ({"total": score.total}, score.terms, *score.steps):
                self.check_terms(terms)

    def test_a_batch_is_judged_like_its_members(self) -> None:
        reward, transcripts = self.make_reward(), self.make_transcripts()
        together = reward(transcripts)
        assert together == [reward([transcript])[0] for transcript in transcripts]
        assert together[::-1] == reward(transcripts[::-1]), "Expected scores in the order of the transcripts."

    def test_declared_names_cover_all_terms(self) -> None:
        reward = self.make_reward()
        names = tuple(getattr(reward, "names", ()))
        for score in reward(self.make_transcripts()) if names else ():
            given = set(score.terms).union(*score.steps)
            assert given <= {*names}, f"Expected terms among {names}, got {given - {*names}}."

    def test_transcripts_are_read_only(self) -> None:
        transcripts = self.make_transcripts()
        before = copy.deepcopy(transcripts)
        self.make_reward()(transcripts)
        assert transcripts == before, "Expected the reward to leave transcripts as they are."

    def test_it_survives_copies_and_pickles(self) -> None:
        reward, transcripts = self.make_reward(), self.make_transcripts()
        for twin in (copy.deepcopy(reward), pickle.loads(pickle.dumps(reward))):
            assert twin(transcripts) == reward(transcripts)

    def check_terms(self, terms: Mapping[str, float | None]) -> None:
        """Names are strings, verdicts are finite numbers or ``None``."""
        for name, value in terms.items():
            assert isinstance(name, str)
            assert value is None or math.isfinite(value), f"Expected a finite {name!r} or None, got {value!r}."


def _random_episode(env: gym.Env[Any, Any], seed: int) -> tuple[Transcript, list[dict[str, Any]]]:
    """An episode of random legal emissions; the transcript and the infos, that of the reset first."""
    env.action_space.seed(seed)
    _, info = env.reset(seed=seed)
    infos, over = [info], False
    while not over:
        _, _, terminated, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
        infos.append(info)
        over = terminated or truncated
    return canvas_env(env).transcript, infos
